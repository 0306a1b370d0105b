//! The file of the peers that are banned on the operator's page.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use libp2p_identity::PeerId;

/// The first lines of the file.
const HEAD: &str = "\
# Peers that are banned on the operator's page, in the format of --deny-peers.
# The server rewrites this file when it starts, and whenever the bans change. Edit it only while the server is stopped.
";

/// The path of the file itself, not of a symbolic link to it.
#[derive(Debug)]
pub struct BanFile(PathBuf);

impl BanFile {
    /// Finds the file, and follows symbolic links.
    ///
    /// # Errors
    /// If the path is a symbolic link without a target, or cannot be looked up.
    pub fn find(path: &Path) -> io::Result<Self> {
        match fs::canonicalize(path) {
            Ok(path) => Ok(Self(path)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Err(_) if fs::symlink_metadata(path).is_ok() => {
                Err(io::Error::other("it is a symbolic link without a target"))
            }
            Err(_) => Ok(Self(path.to_owned())),
        }
    }

    /// Returns whether the file exists.
    ///
    /// # Errors
    /// If the path cannot be looked up.
    pub fn exists(&self) -> io::Result<bool> {
        self.0.try_exists()
    }

    /// Replaces the file atomically: a reader, and a server that ends meanwhile, find either the old file or the new
    /// one. The permissions stay the same.
    ///
    /// # Errors
    /// If the file cannot be written; then the old file stays, and no other file is left beside it. Also if the folder
    /// cannot be synced; then the new file is already in place.
    pub fn write(&self, banned: &[PeerId]) -> io::Result<()> {
        let path = &self.0;
        let permissions = match fs::symlink_metadata(path) {
            Ok(old) if !old.is_file() => return Err(io::Error::other("it is not a file")),
            Ok(old) => Some(old.permissions()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        // The name is random, so that no one can put a file or a link there in advance.
        name.push(format!(".{:016x}.new", rand::random::<u64>()));
        let new = path.with_file_name(name);
        let lines = banned.iter().map(|peer| format!("{peer}\n"));
        let text: String = [HEAD.to_owned()].into_iter().chain(lines).collect();
        let file = create(&new, permissions.is_some())?;
        let written = fill(file, &text, permissions).and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // If this fails as well, the first error is the one that explains why.
            let _ = fs::remove_file(&new);
        }
        written?;
        sync_folder(path)
    }
}

/// Creates a file, and fails if a file or a link is already there. A private file can be read by its owner only; its
/// final permissions are set later.
fn create(path: &Path, is_private: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if is_private {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = is_private;
    options.open(path)
}

fn fill(mut file: File, text: &str, permissions: Option<Permissions>) -> io::Result<()> {
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Syncs the folder, so that the new name survives a loss of power.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let names = entries.map(|entry| entry.expect("there").file_name());
        let mut names: Vec<_> = names
            .map(|name| name.into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    fn write(path: &Path, banned: &[PeerId]) -> io::Result<()> {
        BanFile::find(path)?.write(banned)
    }

    #[test]
    fn it_is_made_replaced_and_has_one_peer_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bans");
        let file = BanFile::find(&path).expect("a place");
        assert!(!file.exists().expect("looked up"));
        file.write(&[]).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("there"), HEAD);
        let [one, other] = [PeerId::random(), PeerId::random()];
        file.write(&[one, other]).expect("written");
        let written = fs::read_to_string(&path).expect("there");
        assert_eq!(written, format!("{HEAD}{one}\n{other}\n"));
        assert_eq!(names(folder.path()), ["bans"]);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        // A folder cannot be replaced by a file.
        let path = folder.path().join("bans");
        fs::create_dir(&path).expect("made");
        let error = write(&path, &[]).expect_err("a folder").to_string();
        assert_eq!(error, "it is not a file");
        assert_eq!(names(folder.path()), ["bans"]);
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        let below = BanFile(file.join("bans"));
        below.write(&[]).expect_err("no folder");
        assert_eq!(names(folder.path()), ["bans", "file"]);
        // The path becomes a folder after the new file has been written.
        let new = folder.path().join("new");
        let made = create(&new, true).expect("made");
        let filled = fill(made, "text", None).and_then(|()| fs::rename(&new, &path));
        filled.expect_err("a folder");
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        use super::*;

        #[test]
        fn its_permissions_stay() {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("bans");
            for mode in [0o600, 0o640, 0o664] {
                fs::write(&path, "").expect("written");
                fs::set_permissions(&path, Permissions::from_mode(mode)).expect("its owner");
                write(&path, &[PeerId::random()]).expect("written");
                let after = fs::metadata(&path).expect("there").permissions();
                assert_eq!(after.mode() & 0o777, mode);
            }
        }

        #[test]
        fn a_link_to_it_stays_one() {
            let folder = tempfile::tempdir().expect("a folder");
            let (file, link) = (folder.path().join("file"), folder.path().join("link"));
            fs::write(&file, "").expect("written");
            symlink(&file, &link).expect("a link");
            let peer = PeerId::random();
            write(&link, &[peer]).expect("written");
            assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
            let written = fs::read_to_string(&file).expect("there");
            assert_eq!(written, format!("{HEAD}{peer}\n"));
        }

        #[test]
        fn a_link_that_leads_nowhere_is_refused() {
            let folder = tempfile::tempdir().expect("a folder");
            let link = folder.path().join("link");
            symlink(folder.path().join("nothing"), &link).expect("a link");
            let error = BanFile::find(&link).expect_err("nowhere").to_string();
            assert_eq!(error, "it is a symbolic link without a target");
        }

        #[test]
        fn a_link_that_somebody_puts_there_is_not_followed() {
            let folder = tempfile::tempdir().expect("a folder");
            let (victim, planted) = (folder.path().join("victim"), folder.path().join("planted"));
            fs::write(&victim, "precious").expect("written");
            symlink(&victim, &planted).expect("a link");
            create(&planted, true).expect_err("it is there already");
            symlink(folder.path().join("nothing"), folder.path().join("other")).expect("a link");
            create(&folder.path().join("other"), false).expect_err("it is there already");
            // A link at a name that could be guessed does no harm.
            symlink(&victim, folder.path().join("bans.new")).expect("a link");
            write(&folder.path().join("bans"), &[]).expect("written");
            assert_eq!(fs::read_to_string(&victim).expect("there"), "precious");
            // A path that has become a link since it was found is not followed either.
            let late = BanFile(folder.path().join("late"));
            symlink(&victim, folder.path().join("late")).expect("a link");
            let error = late.write(&[]).expect_err("a link").to_string();
            assert_eq!(error, "it is not a file");
            assert_eq!(fs::read_to_string(&victim).expect("there"), "precious");
        }
    }
}
