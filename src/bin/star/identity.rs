//! The key of a node, in a file that no one else can read.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
};

use libp2p_identity::{DecodingError, Keypair};

/// The most bytes that are read: more than any key has.
const MAX: u64 = 16 * 1024;

/// The reason why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read the identity {}: {error}", .path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("cannot create the identity {}: {error}", .path.display())]
    Make { path: PathBuf, error: io::Error },
    #[error("{} is not a valid identity: {error}", .path.display())]
    Form { path: PathBuf, error: DecodingError },
    #[cfg(unix)]
    #[error("other users can read the identity {} (mode {mode:04o}): run chmod 600 on it, or use a new one if they may have read it", .path.display())]
    Exposed { path: PathBuf, mode: u32 },
}

/// Returns the key in the file. If there is no file, creates it with a new key.
///
/// # Errors
/// If the file cannot be read or created, is not a key, or can be read by others.
pub fn load(path: &Path) -> Result<Keypair, IdentityError> {
    let failed = |error| IdentityError::Read {
        path: path.to_owned(),
        error,
    };
    match open(path) {
        Ok(file) => read(path, &file),
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(failed(error)),
    }
}

/// Opens the path, but only if it is a regular file: opening or reading something else might block for ever.
fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    File::open(path)
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

/// Creates the file with a new key, completely or not at all. If another process creates the file meanwhile, returns
/// that key.
fn make(path: &Path) -> Result<Keypair, IdentityError> {
    let failed = |error| IdentityError::Make {
        path: path.to_owned(),
        error,
    };
    let key = Keypair::generate_ed25519();
    let encoded = key.to_protobuf_encoding();
    let encoded = encoded.map_err(|error| failed(io::Error::other(error)))?;
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{:016x}", rand::random::<u64>()));
    let unfinished = path.with_file_name(name);
    let made = write(&unfinished, &encoded).and_then(|()| fs::hard_link(&unfinished, path));
    // An error is ignored, because the file may not have been created.
    let _ = fs::remove_file(&unfinished);
    match made {
        Ok(()) => Ok(key),
        // Or it is a link that leads nowhere.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match open(path) {
            Ok(file) => read(path, &file),
            Err(error) => Err(failed(error)),
        },
        Err(error) => Err(failed(error)),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
