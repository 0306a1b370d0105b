//! The names of nodes, and the keys of the directory.

use std::{fmt, str::FromStr, sync::Arc};

use sha2::{Digest as _, Sha256};

/// The longest name of a node, in bytes: as long as a label of a DNS name.
const MAX_ID: usize = 63;
/// The number of bytes of a hash that stand for an address in a key.
const HASHED: usize = 16;
/// The number of bytes of a hash that stand for a node in a nonce.
pub(in crate::rendezvous) const TAG: usize = 5;
const NODES: &str = "nodes";
const PEERS: &str = "peers";

/// The name of a node within its cluster. It has 1 to 63 of the characters `a` to `z`, `0` to `9` and `-`, and the
/// hyphen is not at either end. The node's certificate has to be for this name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

/// Why a text is not the name of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a node must have 1 to 63 of the characters a-z, 0-9 and -, with no hyphen at either end"
)]
pub struct NodeIdError;

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let is_label = (1..=MAX_ID).contains(&text.len())
            && text.bytes().all(is_plain)
            && !text.starts_with('-')
            && !text.ends_with('-');
        is_label.then(|| Self(text.into())).ok_or(NodeIdError)
    }
}

impl NodeId {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the bytes that stand for the node in a nonce.
    pub(in crate::rendezvous) fn tag(&self) -> [u8; TAG] {
        let hash = Sha256::new()
            .chain_update(b"libp2p-websocket-star node\0")
            .chain_update(&*self.0)
            .finalize();
        std::array::from_fn(|n| hash.get(n).copied().unwrap_or_default())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of a node. If two runs have the same name, the one that was started later counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::rendezvous) struct Run {
    pub(in crate::rendezvous) node: NodeId,
    /// The time at which the run was started, in milliseconds since 1970.
    pub(in crate::rendezvous) epoch: u64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.node, self.epoch)
    }
}

/// The hash that stands for an address in a key of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::rendezvous) struct Slot([u8; HASHED]);

impl Slot {
    /// Returns the slot of an address in a tenant; `None` is the default tenant.
    pub(in crate::rendezvous) fn of(tenant: Option<&str>, address: &str) -> Self {
        let hash = Sha256::new()
            .chain_update(tenant.unwrap_or_default())
            .chain_update([0])
            .chain_update(address)
            .finalize();
        Self(std::array::from_fn(|n| {
            hash.get(n).copied().unwrap_or_default()
        }))
    }
}

/// A key of the directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::rendezvous) enum Key {
    /// The record of how to reach a node.
    Node(Run),
    /// The record of a peer that has joined at the node.
    Peer(Run, Slot),
}

impl Key {
    /// Returns the run of the node that the key belongs to.
    pub(in crate::rendezvous) fn run(&self) -> &Run {
        match self {
            Self::Node(run) | Self::Peer(run, _) => run,
        }
    }

    /// Parses a key; `None` if it is not a key that this version uses.
    pub(in crate::rendezvous) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (kind, node, epoch) = (parts.next()?, parts.next()?, parts.next()?);
        let run = Run {
            node: node.parse().ok()?,
            epoch: u64::from_str_radix(epoch, 16).ok()?,
        };
        let key = match kind {
            NODES => Self::Node(run),
            PEERS => {
                let mut slot = [0; HASHED];
                hex::decode_to_slice(parts.next()?, &mut slot).ok()?;
                Self::Peer(run, Slot(slot))
            }
            _ => return None,
        };
        // Each key has only one spelling.
        (parts.next().is_none() && key.to_string() == text).then_some(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(run) => write!(f, "{NODES}.{run}"),
            Self::Peer(run, Slot(slot)) => write!(f, "{PEERS}.{run}.{}", hex::encode(slot)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_nodes_are_labels_of_dns_names() {
        for good in ["a", "node-1", "0", &"x".repeat(63)] {
            assert_eq!(
                good.parse::<NodeId>().map(|id| id.to_string()),
                Ok(good.into())
            );
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a_b",
            "é",
            " a",
            "*",
            ">",
            &"x".repeat(64),
        ] {
            assert_eq!(bad.parse::<NodeId>(), Err(NodeIdError), "{bad}");
        }
    }

    #[test]
    fn keys_are_what_other_versions_write() {
        let run = Run {
            node: "eu-1".parse().expect("a name"),
            epoch: 0x0193_7bd0_0000,
        };
        let node = Key::Node(run.clone());
        assert_eq!(node.to_string(), "nodes.eu-1.1937bd00000");
        let peer = Key::Peer(run, Slot::of(Some("blue"), "/a"));
        let text = peer.to_string();
        // Computed with another implementation.
        assert_eq!(
            text,
            "peers.eu-1.1937bd00000.86e5ce07756d3ed9e29ff621dace988b"
        );
        assert_eq!(Key::parse(&text), Some(peer));
    }

    #[test]
    fn one_address_in_two_tenants_is_two() {
        assert_ne!(Slot::of(None, "/a"), Slot::of(Some("a"), "/a"));
        assert_ne!(Slot::of(Some("a"), "/b"), Slot::of(None, "a\0/b"));
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_it_was_written(id in "[a-z0-9]{1,9}", epoch: u64, slot: Option<[u8; HASHED]>) {
            let run = Run { node: id.parse().expect("a name"), epoch };
            let key = match slot {
                None => Key::Node(run),
                Some(slot) => Key::Peer(run, Slot(slot)),
            };
            prop_assert_eq!(Key::parse(&key.to_string()), Some(key));
        }

        #[test]
        fn any_text_is_a_key_that_is_written_so_or_none(text in "(nodes|peers)?[.a-f0-9+]{0,60}|.*") {
            if let Some(key) = Key::parse(&text) {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
