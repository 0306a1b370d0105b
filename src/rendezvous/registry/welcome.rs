//! The answer to a join.

use std::sync::{Arc, OnceLock};

use crate::protocol::event::{encode_addresses, encode_joined};

/// The addresses of other peers that a newcomer is given. The list is long, so the first task that writes it encodes
/// it, and not while a lock is held.
#[derive(Debug, Default)]
pub(super) struct Others {
    addresses: Vec<Arc<str>>,
    /// The approximate number of bytes of the list as JSON. Going through the addresses takes long, and the number is
    /// needed while locks are held.
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

    /// Returns the frame.
    pub(crate) fn encode(&self) -> String {
        encode_joined(self.ack, self.others.json())
    }

    /// Returns the approximate length of the frame in bytes.
    pub(crate) fn len(&self) -> usize {
        self.others.bytes
    }
}
