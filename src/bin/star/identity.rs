//! The key of a node, in a file that nobody else can read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
};

use libp2p_identity::{DecodingError, Keypair};

/// More bytes than any key has.
const MAX: u64 = 16 * 1024;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read the identity {}: {error}", .path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("cannot make the identity {}: {error}", .path.display())]
    Make { path: PathBuf, error: io::Error },
    #[error("{} is no identity: {error}", .path.display())]
    Form { path: PathBuf, error: DecodingError },
    #[cfg(unix)]
    #[error("others can read the identity {} (mode {mode:04o}): chmod 600 it, or take a new one if they may have", .path.display())]
    Exposed { path: PathBuf, mode: u32 },
}

/// The key in the file, which is made if there is none.
///
/// # Errors
/// If it cannot be read or made, is no key, or others can read it.
pub fn load(path: &Path) -> Result<Keypair, IdentityError> {
    let failed = |error| IdentityError::Read {
        path: path.to_owned(),
        error,
    };
    match File::open(path) {
        Ok(file) => read(path, &file),
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(failed(error)),
    }
}

fn read(path: &Path, file: &File) -> Result<Keypair, IdentityError> {
    let failed = |error| IdentityError::Read {
        path: path.to_owned(),
        error,
    };
    check_mode(path, file)?;
    let mut key = Vec::new();
    file.take(MAX).read_to_end(&mut key).map_err(failed)?;
    Keypair::from_protobuf_encoding(&key).map_err(|error| IdentityError::Form {
        path: path.to_owned(),
        error,
    })
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &File) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |error| IdentityError::Read {
        path: path.to_owned(),
        error,
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(IdentityError::Exposed {
            path: path.to_owned(),
            mode,
        }),
    }
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &File) -> Result<(), IdentityError> {
    Ok(())
}

fn make(path: &Path) -> Result<Keypair, IdentityError> {
    let failed = |error| IdentityError::Make {
        path: path.to_owned(),
        error,
    };
    let key = Keypair::generate_ed25519();
    let encoded = key.to_protobuf_encoding();
    let encoded = encoded.map_err(|error| failed(io::Error::other(error)))?;
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.write(true).create_new(true).open(path);
    let mut file = made.map_err(failed)?;
    let written = file.write_all(&encoded).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key would be refused the next time.
        let _ = fs::remove_file(path);
        return Err(failed(error));
    }
    Ok(key)
}
