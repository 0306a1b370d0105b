//! The flags for the operator's page.

use std::path::PathBuf;

use libp2p_websocket_star::rendezvous::Token;

use crate::access::{AdminSettings, TokenSource};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Monitoring")]
pub(super) struct AdminArguments {
    /// Serve the operator's page at /admin to anyone with the token in this file: at least 16 characters, on one line.
    /// The page shows what the server does, and can disconnect and ban peers. Use TLS, because the token is sent over
    /// the network [env: ADMIN_TOKEN, which has the token itself]
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Keep the bans of the operator's page in this file, which the server writes; without it, bans hold until the
    /// server stops
    #[arg(long, value_name = "FILE")]
    admin_ban_file: Option<PathBuf>,
    /// The token from the environment.
    #[arg(skip)]
    pub(super) token: Option<Token>,
}

/// The error for a ban file without an operator's page, on which alone peers can be banned.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BansAlone;

impl AdminArguments {
    pub(super) fn has_file(&self) -> bool {
        self.admin_token_file.is_some()
    }

    pub(super) fn settings(&self) -> Result<Option<AdminSettings>, BansAlone> {
        let file = self.admin_token_file.clone().map(TokenSource::File);
        let token = file.or_else(|| self.token.clone().map(TokenSource::Given));
        let bans = self.admin_ban_file.clone();
        match (token, bans) {
            (Some(token), bans) => Ok(Some(AdminSettings { token, bans })),
            (None, Some(_)) => Err(BansAlone),
            (None, None) => Ok(None),
        }
    }
}
