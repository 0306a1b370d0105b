//! Builds the configuration of a node from the command line and the environment.

use std::{fs::File, io::Read as _, path::Path};

use libp2p_identity::Keypair;
use libp2p_websocket_star::{Config, Error, StarAddr};

use crate::{arguments::NodeArguments, failure::StartError, identity};

const TOKEN: &str = "STAR_TOKEN";
/// The most bytes that are read of a file: more than tokens or root certificates need.
const MAX_FILE: u64 = 4 << 20;

impl NodeArguments {
    /// Returns the key in the identity file, or a new key if no file is given.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn key(&self) -> Result<Keypair, StartError> {
        match &self.identity {
            Some(path) => Ok(identity::load(path)?),
            None => Ok(Keypair::generate_ed25519()),
        }
    }

    /// Returns the configuration of a node at this rendezvous.
    ///
    /// # Errors
    /// If a file cannot be read, or a value in it or in the environment is not valid.
    pub fn config(&self, star: &StarAddr) -> Result<Config, StartError> {
        let mut config = Config::default()
            // The user names the rendezvous, so a local one is allowed.
            .with_allow_local_rendezvous(true)
            .with_allow_join_with_disabled_challenge(self.allow_disabled_challenge)
            .with_connect_timeout(self.timeout)
            .with_join_timeout(self.timeout)
            .with_dial_timeout(self.timeout);
        for path in &self.root_certificate {
            config = config.with_root_certificate(read(path)?)?;
        }
        if let Some(token) = self.token()? {
            config = config.with_token(star.to_multiaddr(), token)?;
        }
        Ok(self.with_proxy(config)?)
    }

    fn with_proxy(&self, config: Config) -> Result<Config, Error> {
        match &self.proxy {
            Some(url) => config.with_proxy(url),
            None if self.no_proxy => Ok(config),
            None => config.with_proxy_from_env(),
        }
    }

    fn token(&self) -> Result<Option<String>, StartError> {
        if let Some(path) = &self.token_file {
            let text = String::from_utf8_lossy(&read(path)?).into_owned();
            return Ok(Some(text.trim().to_owned()));
        }
        let token = std::env::var_os(TOKEN).filter(|token| !token.is_empty());
        let token = token.map(|token| token.into_string().map_err(|_| StartError::Token));
        token.transpose()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    let failed = |error| StartError::File {
        path: path.to_owned(),
        error,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let mut limited = file.take(MAX_FILE + 1);
    limited.read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(StartError::TooLong(path.to_owned())),
        false => Ok(bytes),
    }
}
