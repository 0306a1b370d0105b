//! The operator's page: its token, and the file of those who are banned there.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use libp2p_identity::PeerId;
use libp2p_websocket_star::rendezvous::{Admin, AdminError, Token};

use super::{
    file::{Comments, FileError, read},
    lists::token,
    peers,
};

/// What the file of bans begins with.
const HEAD: &str = "\
# Peers that are banned on the operator's page, as --deny-peers has them.
# The server writes this file anew whenever that changes. Edit it only while the server is stopped.
";

/// Where the token is.
#[derive(Debug, Clone)]
pub enum TokenSource {
    File(PathBuf),
    /// From the environment.
    Given(Token),
}

/// How the page is asked for.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    pub token: TokenSource,
    pub bans: Option<PathBuf>,
}

/// Why there is no page as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AdminFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0} must have one token in it, and no more")]
    NotOne(PathBuf),
    #[error(transparent)]
    Token(#[from] AdminError),
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

impl AdminSettings {
    /// Reads the files. One of bans that is not there is made.
    ///
    /// # Errors
    /// If one of them cannot be used, or the token is too short.
    pub fn load(&self) -> Result<Admin, AdminFileError> {
        let token = match &self.token {
            TokenSource::Given(token) => token.clone(),
            TokenSource::File(path) => {
                let tokens: Vec<Token> = read(path, Comments::WholeLines, token)?;
                let [token] = <[Token; 1]>::try_from(tokens)
                    .map_err(|_| AdminFileError::NotOne(path.clone()))?;
                token
            }
        };
        let admin = Admin::new(&token)?;
        let Some(path) = &self.bans else {
            return Ok(admin);
        };
        if matches!(path.try_exists(), Ok(false)) {
            write(path, &[]).map_err(|source| AdminFileError::Write {
                path: path.clone(),
                source,
            })?;
        }
        let banned: Vec<PeerId> = read(path, Comments::Anywhere, peers::parse)?;
        let path = path.clone();
        Ok(admin.with_bans(banned, move |banned| write(&path, banned)))
    }
}

/// Replaces the file at once: whoever reads it, and a server that ends meanwhile, has the old one or the new one.
fn write(path: &Path, banned: &[PeerId]) -> io::Result<()> {
    // The file itself, and not a link to it.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let lines = banned.iter().map(|peer| format!("{peer}\n"));
    let mut file = File::create(&new)?;
    file.write_all(
        [HEAD.to_owned()]
            .into_iter()
            .chain(lines)
            .collect::<String>()
            .as_bytes(),
    )?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    // So that the new name outlasts a loss of power.
    #[cfg(unix)]
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a-token-that-nobody-guesses";

    fn settings(token: &Path, bans: Option<PathBuf>) -> AdminSettings {
        AdminSettings {
            token: TokenSource::File(token.to_owned()),
            bans,
        }
    }

    #[test]
    fn a_token_file_has_one_token_and_comments() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let load = |content: &str| {
            fs::write(&path, content).expect("written");
            let loaded = settings(&path, None).load();
            loaded
                .map(|admin| format!("{admin:?}"))
                .map_err(|error| error.to_string())
        };
        let shown = load(&format!("# mine\n\n{TOKEN}\n")).expect("one token");
        assert!(!shown.contains("nobody"), "{shown}");
        for (content, expected) in [
            ("", "must have one token in it"),
            (
                "a-token-that-nobody-guesses\nanother-token-that-is-long",
                "must have one token in it",
            ),
            ("short", "has at least 16 characters"),
            ("two words", "line 1: this is not a token"),
        ] {
            let error = load(content).expect_err(content);
            assert!(error.contains(expected), "{error}");
            assert!(
                !error.contains("short") && !error.contains("words"),
                "{error}"
            );
        }
    }

    #[test]
    fn bans_are_written_so_that_a_deny_list_can_be_made_of_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bans");
        let token = folder.path().join("token");
        fs::write(&token, TOKEN).expect("written");
        let load = || settings(&token, Some(path.clone())).load();
        load().expect("the file is made");
        assert_eq!(fs::read_to_string(&path).expect("there"), HEAD);
        let banned = [PeerId::random(), PeerId::random()];
        write(&path, &banned).expect("written");
        let read_again: Vec<PeerId> = read(&path, Comments::Anywhere, peers::parse).expect("good");
        assert_eq!(read_again, banned);
        let shown = format!("{:?}", load().expect("good"));
        assert!(shown.contains("Bans { peers: 2, is_kept: true"), "{shown}");
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 2);
        fs::write(&path, "nonsense").expect("written");
        let error = load().expect_err("nonsense").to_string();
        assert!(
            error.contains("bans, line 1: this is not a peer id"),
            "{error}"
        );
        let nowhere = settings(&token, Some("/nowhere/bans".into())).load();
        let error = nowhere.expect_err("no folder").to_string();
        assert!(error.starts_with("cannot write /nowhere/bans: "), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_file_of_bans_stays_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        let peer = PeerId::random();
        write(&link, &[peer]).expect("written");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        let written = fs::read_to_string(&file).expect("there");
        assert_eq!(written, format!("{HEAD}{peer}\n"));
    }
}
