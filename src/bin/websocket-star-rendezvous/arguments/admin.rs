//! The flags for the operator's page.

use std::path::PathBuf;

use libp2p_websocket_star::rendezvous::Token;

use crate::access::{AdminSettings, TokenSource};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Watching")]
pub(super) struct AdminArguments {
    /// Answer /admin with the operator's page, for whoever has the token in this file: at least 16 characters, on one line. It
    /// shows what the server does, and disconnects and bans peers. Use TLS: the token goes over the line [env: ADMIN_TOKEN, which
    /// has the token itself]
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Keep those who are banned there in this file, which the server writes; without it, bans hold until the server ends
    #[arg(long, value_name = "FILE")]
    admin_ban_file: Option<PathBuf>,
    /// From the environment.
    #[arg(skip)]
    pub(super) token: Option<Token>,
}

/// There is a file for bans, and nobody who could ban.
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
