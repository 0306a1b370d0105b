//! The check of a client at another node that dials peers here.

use std::{sync::Arc, time::SystemTime};

use super::{clock::Clock, node::NodeId, record::PeerRecord};
use crate::protocol::{nonce::Stamp, refusal::Refusal};

/// The proof that a peer has joined at another node, before it is checked.
#[derive(Debug)]
pub(in crate::rendezvous) struct GuestCheck {
    pub(in crate::rendezvous) address: String,
    pub(in crate::rendezvous) ack: u64,
    /// The record, as it is in the directory.
    pub(in crate::rendezvous) record: String,
    pub(in crate::rendezvous) tenant: Option<Arc<str>>,
    pub(in crate::rendezvous) node: NodeId,
    pub(in crate::rendezvous) clock: Clock,
}

impl GuestCheck {
    /// Checks the proof. Takes 50 to 150 µs of a core.
    pub(in crate::rendezvous) fn run(&self) -> Result<Stamp, Refusal> {
        let checked = PeerRecord::decode(self.record.as_bytes()).and_then(|record| {
            let verified = record.verify(&self.node, &self.clock, SystemTime::now());
            verified.map(|(stamp, _)| (record, stamp))
        });
        match checked {
            Ok((record, stamp))
                if *record.address == *self.address && record.tenant == self.tenant =>
            {
                Ok(stamp)
            }
            Ok(_) => Err(Refusal::NotAuthorized),
            Err(error) => {
                tracing::debug!(node = %self.node, %error, "a node has no proof of a peer");
                Err(Refusal::NotAuthorized)
            }
        }
    }
}
