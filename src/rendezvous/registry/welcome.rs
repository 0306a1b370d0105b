//! The answer to a join.

use std::sync::{Arc, OnceLock};

use crate::protocol::event::{encode_addresses, encode_joined};

/// The addresses of other peers that newcomers are told. They are long, so they are encoded by whoever writes them first,
/// and not with a lock held.
#[derive(Debug, Default)]
pub(super) struct Others {
    addresses: Vec<Arc<str>>,
    /// About how many bytes they have as JSON. Looking at each takes long, and it is asked with locks held.
    bytes: usize,
    json: OnceLock<String>,
}

impl Others {
    pub(super) fn new(addresses: Vec<Arc<str>>) -> Self {
        Self {
            bytes: addresses.iter().map(|address| address.len() + 3).sum(),
            addresses,
            json: OnceLock::new(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.addresses.len()
    }

    fn json(&self) -> &str {
        self.json.get_or_init(|| encode_addresses(&self.addresses))
    }
}

impl PartialEq for Others {
    fn eq(&self, other: &Self) -> bool {
        self.addresses == other.addresses
    }
}

impl Eq for Others {}

/// The answer to a join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Welcome {
    ack: u64,
    others: Arc<Others>,
}

impl Welcome {
    pub(super) fn new(ack: u64, others: Arc<Others>) -> Self {
        Self { ack, others }
    }

    /// The frame.
    pub(crate) fn encode(&self) -> String {
        encode_joined(self.ack, self.others.json())
    }

    /// About how many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.others.bytes
    }
}
