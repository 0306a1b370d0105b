//! What is refused, counted by reason.

use std::collections::BTreeMap;

use super::Refusal;
use crate::rendezvous::challenge::ProofError;

impl Refusal {
    /// A short name for metrics: one of a fixed set, whatever the peers send.
    fn reason(&self) -> &'static str {
        match self {
            Self::InvalidMultiaddr => "invalid_multiaddr",
            Self::NoKey => "no_key",
            Self::Proof(error) => match error {
                ProofError::Unusable => "unusable_key_or_signature",
                ProofError::WrongId => "wrong_id",
                ProofError::WrongSignature => "wrong_signature",
            },
            Self::TooManyJoins => "too_many_joins",
            Self::Taken => "address_taken",
            Self::NotAuthorized => "not_authorized",
            Self::PeerNotFound => "peer_not_found",
            Self::DialIdInUse => "dial_id_in_use",
            Self::TooManyDials => "too_many_dials",
            Self::DialRate => "dial_rate",
            Self::PeerBusy => "peer_busy",
            Self::DialTimedOut => "dial_timed_out",
            Self::PeerLeft => "peer_left",
            Self::ShuttingDown => "shutting_down",
            Self::Malformed(_) => "malformed_request",
            Self::Unknown => "unknown_request",
        }
    }
}

/// How often what was refused for which reason.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(BTreeMap<&'static str, u64>);

impl Refusals {
    pub(super) fn count(&mut self, refusal: &Refusal) {
        *self.0.entry(refusal.reason()).or_default() += 1;
    }

    pub(crate) fn by_reason(&self) -> BTreeMap<&'static str, u64> {
        self.0.clone()
    }
}
