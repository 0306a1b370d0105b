//! The access lists, as the operator's files give them.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use libp2p_websocket_star::rendezvous::{Join, Network, Token};

use super::{
    file::{Comments, FileError, read},
    networks::Networks,
    peers::{self, Peers},
    tokens::Tokens,
};

/// The paths of the list files.
#[derive(Debug, Clone, Default)]
pub struct ListFiles {
    pub allow_peers: Option<PathBuf>,
    pub deny_peers: Option<PathBuf>,
    pub allow_networks: Option<PathBuf>,
    pub deny_networks: Option<PathBuf>,
    pub tokens: Option<PathBuf>,
}

impl ListFiles {
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = [
            &self.allow_peers,
            &self.deny_peers,
            &self.allow_networks,
            &self.deny_networks,
            &self.tokens,
        ];
        files.into_iter().flatten().map(PathBuf::as_path)
    }

    /// Reads all the files.
    ///
    /// # Errors
    /// If a file cannot be read or has an invalid line.
    pub fn load(&self) -> Result<Lists, FileError> {
        let peers = |path: &Path| read(path, Comments::Anywhere, peers::parse);
        let networks = |path: &Path| read(path, Comments::Anywhere, network);
        let tokens = |path: &Path| read(path, Comments::WholeLines, token);
        Ok(Lists {
            allow_peers: self.allow_peers.as_deref().map(peers).transpose()?,
            deny_peers: self
                .deny_peers
                .as_deref()
                .map(peers)
                .transpose()?
                .unwrap_or_default(),
            allow_networks: self.allow_networks.as_deref().map(networks).transpose()?,
            deny_networks: self
                .deny_networks
                .as_deref()
                .map(networks)
                .transpose()?
                .unwrap_or_default(),
            tokens: self.tokens.as_deref().map(tokens).transpose()?,
        })
    }
}

fn network(text: &str) -> Result<Network, &'static str> {
    let not_one = "this is not an IP address or a network, such as 10.0.0.0/8 or 2001:db8::/32";
    let network: Network = text.parse().map_err(|_| not_one)?;
    let (addr, _) = text.split_once('/').unwrap_or((text, ""));
    let addr: IpAddr = addr.trim().parse().map_err(|_| not_one)?;
    match [addr, addr.to_canonical()].contains(&network.first()) {
        true => Ok(network),
        // For example 10.1.2.3/8, where 10.1.2.3/32 may be meant.
        false => Err("this address is not the first of its network: check the prefix length"),
    }
}

pub fn token(text: &str) -> Result<Token, &'static str> {
    let not_one =
        "this is not a token: a token has 1 to 512 visible ASCII characters, and no spaces";
    text.parse().map_err(|_| not_one)
}

/// A kind of list that lets peers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowList {
    Peers,
    Networks,
    Tokens,
}

/// A kind of list that keeps peers out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyList {
    Peers,
    Networks,
}

impl DenyList {
    /// Returns the reason that a peer on such a list is given.
    pub fn denies(self) -> &'static str {
        match self {
            Self::Peers => "your peer id is on the deny list",
            Self::Networks => "your network is on the deny list",
        }
    }
}

/// The result of looking up a join in the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    /// The join is on a list that lets it in.
    Yes(AllowList),
    /// The join is on a list that keeps it out.
    No(DenyList),
    /// The join is on no list; the text is the reason to give if it is refused.
    Unlisted(&'static str),
}

/// The lists of those who are let in, each `None` if it is not configured, and of those who are kept out.
#[derive(Default)]
pub struct Lists {
    allow_peers: Option<Peers>,
    deny_peers: Peers,
    allow_networks: Option<Networks>,
    deny_networks: Networks,
    tokens: Option<Tokens>,
}

impl Lists {
    pub fn opinion(&self, join: &Join) -> Opinion {
        if self.deny_networks.contain(join.client()) {
            return Opinion::No(DenyList::Networks);
        }
        if self.deny_peers.contain(join) {
            return Opinion::No(DenyList::Peers);
        }
        let is_known = |peers: &Peers| join.is_proved() && peers.contain(join);
        if self.allow_peers.as_ref().is_some_and(is_known) {
            return Opinion::Yes(AllowList::Peers);
        }
        let is_near = |networks: &Networks| networks.contain(join.client());
        if self.allow_networks.as_ref().is_some_and(is_near) {
            return Opinion::Yes(AllowList::Networks);
        }
        match (&self.tokens, join.token()) {
            (Some(tokens), Some(token)) if tokens.contain(token) => Opinion::Yes(AllowList::Tokens),
            (Some(_), Some(_)) => Opinion::Unlisted("your token is not valid"),
            (Some(_), None) => Opinion::Unlisted("you are not on an allow list, and show no token"),
            (None, _) => Opinion::Unlisted("you are not on an allow list"),
        }
    }

    /// Returns whether there is a list of tokens.
    pub fn take_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Returns whether everyone is let in who is not on a deny list.
    pub fn are_open(&self) -> bool {
        self.allow_peers.is_none() && self.allow_networks.is_none() && self.tokens.is_none()
    }
}

/// Shows only the lengths of the lists: their contents would fill pages, and tokens are secret.
impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lists")
            .field("allow_peers", &self.allow_peers.as_ref().map(Peers::len))
            .field("deny_peers", &self.deny_peers.len())
            .field(
                "allow_networks",
                &self.allow_networks.as_ref().map(Networks::len),
            )
            .field("deny_networks", &self.deny_networks.len())
            .field("tokens", &self.tokens.as_ref().map(Tokens::len))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::{Keypair, PeerId};

    use super::*;

    const YES: Opinion = Opinion::Yes(AllowList::Peers);

    fn peer() -> PeerId {
        Keypair::generate_ed25519().public().to_peer_id()
    }

    fn home() -> IpAddr {
        [192, 0, 2, 1].into()
    }

    fn join(peer: PeerId) -> Join {
        Join::new(peer, home())
    }

    fn token(text: &str) -> Token {
        text.parse().expect("a token")
    }

    fn peers(peers: &[PeerId]) -> Peers {
        peers.iter().copied().collect()
    }

    fn networks(texts: &[&str]) -> Networks {
        let networks = texts.iter().map(|text| network(text).expect("a network"));
        networks.collect()
    }

    fn is_no(opinion: Opinion) -> bool {
        matches!(opinion, Opinion::No(_))
    }

    fn is_unlisted(opinion: Opinion) -> bool {
        matches!(opinion, Opinion::Unlisted(_))
    }

    #[test]
    fn one_of_the_allow_lists_is_enough() {
        let (known, stranger) = (peer(), peer());
        let lists = Lists {
            allow_peers: Some(peers(&[known])),
            allow_networks: Some(networks(&["198.51.100.0/24"])),
            tokens: Some([token("secret")].into_iter().collect()),
            ..Lists::default()
        };
        assert!(!lists.are_open());
        assert_eq!(lists.opinion(&join(known)), YES);
        let near = Join::new(stranger, [198, 51, 100, 7].into());
        assert_eq!(lists.opinion(&near), Opinion::Yes(AllowList::Networks));
        let shown = join(stranger).with_token(token("secret"));
        assert_eq!(lists.opinion(&shown), Opinion::Yes(AllowList::Tokens));
        assert!(is_unlisted(lists.opinion(&join(stranger))));
        let wrong = join(stranger).with_token(token("secreT"));
        assert!(is_unlisted(lists.opinion(&wrong)));
        // A peer on the list needs no valid token.
        let wrong = join(known).with_token(token("secreT"));
        assert_eq!(lists.opinion(&wrong), YES);
    }

    #[test]
    fn a_deny_list_wins() {
        let (known, banned) = (peer(), peer());
        let lists = Lists {
            allow_peers: Some(peers(&[known, banned])),
            deny_peers: peers(&[banned]),
            allow_networks: Some(networks(&["0.0.0.0/0"])),
            deny_networks: networks(&["203.0.113.0/24"]),
            tokens: Some([token("secret")].into_iter().collect()),
        };
        assert!(is_no(
            lists.opinion(&join(banned).with_token(token("secret")))
        ));
        let far = Join::new(known, [203, 0, 113, 7].into()).with_token(token("secret"));
        assert!(is_no(lists.opinion(&far)));
        assert_eq!(lists.opinion(&join(known)), YES);
    }

    #[test]
    fn a_peer_cannot_get_off_a_list_by_the_other_id_of_its_key() {
        let [id, old] = join(peer()).peer_ids().collect::<Vec<_>>()[..] else {
            panic!("two ids")
        };
        for listed in [id, old] {
            let deny = Lists {
                deny_peers: peers(&[listed]),
                ..Lists::default()
            };
            // A peer that has proved its key has the newer id, whichever one it uses in its address.
            assert!(is_no(deny.opinion(&join(id))), "{listed}");
            let allow = Lists {
                allow_peers: Some(peers(&[listed])),
                ..Lists::default()
            };
            assert_eq!(allow.opinion(&join(id)), YES, "{listed}");
        }
    }

    #[test]
    fn who_proves_nothing_is_kept_out_by_its_id_but_not_let_in_by_it() {
        let id = peer();
        let claim = join(id).without_proof();
        let allow = Lists {
            allow_peers: Some(peers(&[id])),
            ..Lists::default()
        };
        assert!(is_unlisted(allow.opinion(&claim)));
        let deny = Lists {
            deny_peers: peers(&[id]),
            ..Lists::default()
        };
        assert!(is_no(deny.opinion(&claim)));
    }

    #[test]
    fn an_empty_allow_list_lets_nobody_in_and_none_lets_all_in() {
        assert!(Lists::default().are_open());
        let empty = Lists {
            allow_peers: Some(Peers::default()),
            ..Lists::default()
        };
        assert!(!empty.are_open());
        assert!(is_unlisted(empty.opinion(&join(peer()))));
    }

    #[test]
    fn a_network_that_is_larger_than_it_looks_is_an_error() {
        for good in [
            "10.0.0.0/8",
            "10.1.2.3",
            "10.1.2.3/32",
            "0.0.0.0/0",
            "2001:db8::/32",
            "::/0",
            "::ffff:10.0.0.0/104",
            "::ffff:10.1.2.3",
        ] {
            assert!(network(good).is_ok(), "{good}");
        }
        for bad in [
            "10.1.2.3/8",
            "10.1.2.3/31",
            "2001:db8::1/32",
            "::ffff:10.1.2.3/104",
            "1.1.1.1/0",
        ] {
            let problem = network(bad).expect_err(bad);
            assert!(problem.contains("not the first of its network"), "{bad}");
        }
    }

    #[test]
    fn all_files_are_read_and_the_first_bad_line_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            Some(path)
        };
        let (known, banned) = (peer(), peer());
        let mut files = ListFiles {
            allow_peers: write("allow", &format!("{known} # alice\n")),
            deny_peers: write("deny", &format!("# nobody likes\n{banned}")),
            allow_networks: write("near", "10.0.0.0/8\n::1\n"),
            deny_networks: write("far", "203.0.113.0/24"),
            tokens: write("tokens", "# for guests\nse#cret\n"),
        };
        let lists = files.load().expect("good");
        let shown = format!("{lists:?}");
        let expected = "Lists { allow_peers: Some(1), deny_peers: 1, allow_networks: Some(2), \
                        deny_networks: 1, tokens: Some(1) }";
        assert_eq!(shown, expected);
        let guest = join(peer()).with_token(token("se#cret"));
        assert_eq!(lists.opinion(&guest), Opinion::Yes(AllowList::Tokens));
        assert_eq!(lists.opinion(&join(known)), YES);
        files.tokens = write("tokens", "secret\ntwo words");
        let error = files.load().expect_err("bad").to_string();
        assert!(
            error.contains("tokens, line 2: this is not a token"),
            "{error}"
        );
        assert!(!error.contains("words"), "{error}");
        assert_eq!(files.paths().count(), 5);
        assert_eq!(ListFiles::default().paths().count(), 0);
    }
}
