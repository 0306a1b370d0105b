//! The operator's page: its token, and the file of its bans.

use std::{io, path::PathBuf};

use libp2p_identity::PeerId;
use libp2p_websocket_star::rendezvous::{Admin, AdminError, Token};

use super::{
    ban_file::BanFile,
    file::{Comments, FileError, read},
    lists::token,
    peers,
};

/// The source of the token.
#[derive(Debug, Clone)]
pub enum TokenSource {
    File(PathBuf),
    /// The token itself, from the environment.
    Given(Token),
}

/// The settings of the operator's page.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    pub token: TokenSource,
    pub bans: Option<PathBuf>,
}

/// The reason why the operator's page cannot be provided.
#[derive(Debug, thiserror::Error)]
pub enum AdminFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0} must contain exactly one token")]
    NotOne(PathBuf),
    #[error(transparent)]
    Token(#[from] AdminError),
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

impl AdminSettings {
    /// Reads the files, and rewrites the ban file, or creates it if it does not exist.
    ///
    /// # Errors
    /// If a file cannot be used, or the token is too short.
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
        let at = |source| AdminFileError::Write {
            path: path.clone(),
            source,
        };
        let file = BanFile::find(path).map_err(at)?;
        let is_there = file.exists().map_err(at)?;
        let banned: Vec<PeerId> = match is_there {
            true => read(path, Comments::Anywhere, peers::parse)?,
            false => Vec::new(),
        };
        // Fails now, at the start, instead of with the first ban.
        file.write(&banned).map_err(at)?;
        if !is_there {
            let path = path.display();
            tracing::warn!(%path, "the ban file did not exist and has been created: no peer is banned");
        }
        Ok(admin.with_bans(banned, move |banned| file.write(banned)))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

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
            ("", "must contain exactly one token"),
            (
                "a-token-that-nobody-guesses\nanother-token-that-is-long",
                "must contain exactly one token",
            ),
            ("short", "must have at least 16 characters"),
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
    fn the_file_of_bans_is_made_read_and_written_when_the_server_starts() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bans");
        let token = folder.path().join("token");
        fs::write(&token, TOKEN).expect("written");
        let load = || settings(&token, Some(path.clone())).load();
        load().expect("the file is made");
        let made = fs::read_to_string(&path).expect("there");
        assert!(made.starts_with("# Peers that are banned"), "{made}");
        let banned = [PeerId::random(), PeerId::random()];
        let lines = banned.map(|peer| format!("{peer} # why\n")).concat();
        fs::write(&path, lines).expect("written");
        let shown = format!("{:?}", load().expect("good"));
        assert!(shown.contains("Bans { peers: 2, is_kept: true"), "{shown}");
        let written = fs::read_to_string(&path).expect("there");
        let lines = banned.map(|peer| format!("{peer}\n")).concat();
        assert_eq!(written, made + &lines);
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 2);
    }

    #[test]
    fn a_file_of_bans_that_cannot_be_used_is_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bans");
        let token = folder.path().join("token");
        fs::write(&token, TOKEN).expect("written");
        fs::write(&path, "nonsense").expect("written");
        let error = settings(&token, Some(path.clone())).load();
        let error = error.expect_err("nonsense").to_string();
        assert!(
            error.contains("bans, line 1: this is not a peer id"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).expect("there"), "nonsense");
        let nowhere = settings(&token, Some("/nowhere/bans".into())).load();
        let error = nowhere.expect_err("no folder").to_string();
        assert!(error.starts_with("cannot write /nowhere/bans: "), "{error}");
    }
}
