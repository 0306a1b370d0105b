//! A server that looks up each joining peer in the lists of the program.

#![allow(
    dead_code,
    unused_imports,
    reason = "the binary uses more of its lists, and their tests are run with it"
)]

#[path = "../../src/bin/websocket-star-rendezvous/access/file.rs"]
mod file;
#[path = "../../src/bin/websocket-star-rendezvous/access/lists.rs"]
mod lists;
#[path = "../../src/bin/websocket-star-rendezvous/access/networks.rs"]
mod networks;
#[path = "../../src/bin/websocket-star-rendezvous/access/peers.rs"]
mod peers;
#[path = "../../src/bin/websocket-star-rendezvous/access/tokens.rs"]
mod tokens;

use std::io;

use libp2p_identity::PeerId;
use libp2p_websocket_star::rendezvous::{Access, Config, Join, Judgement, Verdict};

use self::lists::{ListFiles, Lists, Opinion};

/// The number of listed peer ids.
pub const LISTED: usize = 100_000;

/// Access rules with a deny list that contains none of the joining peers. The list has no hashed ids, so each join
/// takes one lookup.
#[derive(Debug)]
pub struct Listed(Lists);

impl Access for Listed {
    fn judge(&self, join: &Join) -> Judgement {
        let verdict = match self.0.opinion(join) {
            Opinion::No(list) => Verdict::refuse(list.denies()),
            Opinion::Yes(_) | Opinion::Unlisted(_) => Verdict::allow(),
        };
        verdict.into()
    }

    fn still_allows(&self, _: &Join) -> bool {
        true
    }
}

/// Makes a server look up each joining peer in a list of other peers.
pub fn listing(config: Config) -> io::Result<Config> {
    Ok(config.with_access(listed()?))
}

pub fn listed() -> io::Result<Listed> {
    let file = tempfile::NamedTempFile::new()?;
    let ids: Vec<String> = (0..LISTED).map(|_| PeerId::random().to_base58()).collect();
    std::fs::write(file.path(), ids.join("\n"))?;
    let files = ListFiles {
        deny_peers: Some(file.path().to_owned()),
        ..ListFiles::default()
    };
    files.load().map(Listed).map_err(io::Error::other)
}
