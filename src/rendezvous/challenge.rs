//! The proof that a peer has the key of the peer id in its address.
//!
//! Parsing a key and verifying a signature take up to some 100 µs. The registry therefore only returns a [`Check`],
//! which is run with no lock held, and later takes its outcome.

use std::{net::IpAddr, sync::Arc};

use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, Engine as _};
use libp2p_identity::{PeerId, PublicKey};
use sha2::{Digest as _, Sha256};

#[cfg(feature = "cluster")]
use super::cluster::{Clock, GuestCheck, JoinProof};
use super::{
    access::{Grant, Join, Visit},
    ids,
};
#[cfg(feature = "cluster")]
use crate::protocol::nonce::Stamp;
use crate::protocol::{nonce, refusal::Refusal};

/// The maximum length of a key or signature as text, in bytes. An RSA-8192 key is 2.1 KiB in hex.
const MAX_TEXT: usize = 4 * 1024;

/// A check to run outside of the registry.
#[derive(Debug)]
pub(crate) enum Check {
    /// The check for the first `ss-join`.
    Key(KeyCheck),
    /// The check for the second `ss-join`.
    Signature(SignatureCheck),
    /// The only check if the challenge is off and an access decides about joins.
    Claim(ClaimCheck),
    /// The only check for a peer that has joined at another node.
    #[cfg(feature = "cluster")]
    Guest(GuestCheck),
}

/// Makes the nonces of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Nonces {
    /// The clock whose stamps in the nonces are read by the other nodes; `None` if there are none.
    #[cfg(feature = "cluster")]
    clock: Option<Clock>,
}

impl Nonces {
    /// Returns the nonces of a node of a cluster.
    #[cfg(feature = "cluster")]
    pub(super) fn of_node(clock: Clock) -> Self {
        Self { clock: Some(clock) }
    }

    /// Returns a new nonce for a join of `address`.
    fn make(&self, address: &str) -> String {
        #[cfg(feature = "cluster")]
        if let Some(clock) = &self.clock {
            return clock.stamp(std::time::SystemTime::now()).nonce(address);
        }
        nonce::new(address)
    }
}

#[derive(Debug)]
pub(crate) struct KeyCheck {
    pub(super) address: String,
    pub(super) ack: u64,
    pub(super) key: String,
    pub(super) nonces: Nonces,
}

#[derive(Debug)]
pub(crate) struct SignatureCheck {
    pub(super) address: String,
    pub(super) ack: u64,
    pub(super) challenge: Box<Challenge>,
    pub(super) signature: String,
    pub(super) number: u64,
}

#[derive(Debug)]
pub(crate) struct ClaimCheck {
    pub(super) address: String,
    pub(super) ack: u64,
    pub(super) number: u64,
}

/// The result of a [`Check`] that was run.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(super) address: String,
    pub(super) ack: u64,
    /// The number of the request to join. It tells which of two joins was requested later, since a decision may take
    /// long.
    pub(super) number: u64,
    pub(super) result: Result<Proof, Refusal>,
    /// What the join is allowed, if an access decides about joins.
    pub(super) grant: Option<Arc<Grant>>,
}

impl Checked {
    /// Returns the address if the peer has proved that it has the key.
    pub(super) fn proved(&self) -> Option<&str> {
        let proved = matches!(self.result, Ok(Proof::Possession(_)));
        proved.then_some(self.address.as_str())
    }

    /// Returns the join for the access to judge, if the join has come so far. `client` is the peer's address, and
    /// `visit` is what its HTTP request said.
    pub(super) fn join(&self, client: IpAddr, visit: Arc<Visit>) -> Option<Join> {
        let address = || self.address.as_str().into();
        match &self.result {
            Ok(Proof::Possession(challenge)) => {
                Some(Join::proved(challenge.peer, address(), client, visit))
            }
            Ok(Proof::Claim) => Some(Join::claimed(address(), client, visit)),
            #[cfg(feature = "cluster")]
            Ok(Proof::Guest(_)) => None,
            Ok(Proof::Key(_)) | Err(_) => None,
        }
    }

    /// Adds the decision about the join.
    pub(super) fn judged(self, judged: Result<Arc<Grant>, Refusal>) -> Self {
        match judged {
            Ok(grant) => Self {
                grant: Some(grant),
                ..self
            },
            Err(refusal) => Self {
                result: Err(refusal),
                ..self
            },
        }
    }
}

/// What a check has shown.
#[derive(Debug)]
pub(crate) enum Proof {
    /// The key belongs to the address. The challenge is new.
    Key(Box<Challenge>),
    /// The peer has the key.
    Possession(Box<Challenge>),
    /// The peer claims its id without a proof.
    Claim,
    /// The peer has joined at another node.
    #[cfg(feature = "cluster")]
    Guest(Stamp),
}

/// What a peer must sign to join.
#[derive(Debug, Clone)]
pub(crate) struct Challenge {
    /// A hash of the key as it was sent. It tells a repeated first `ss-join` from the second one. The text itself may
    /// be long, so it is not kept.
    key_text: [u8; 32],
    key: PublicKey,
    peer: PeerId,
    /// A number that distinguishes the challenges of a link.
    pub(super) number: u64,
    pub(super) nonce: String,
    /// The signature of the nonce; empty until it is verified.
    #[cfg(feature = "cluster")]
    signature: Box<[u8]>,
}

impl Challenge {
    /// Returns whether this is the key as it was sent.
    pub(super) fn has_key(&self, text: &str) -> bool {
        text.len() <= MAX_TEXT && self.key_text == *Sha256::digest(text)
    }

    /// Gives the challenge another nonce.
    pub(super) fn renew(&mut self, nonces: &Nonces, address: &str) {
        self.nonce = nonces.make(address);
    }

    /// Returns the proof for other nodes that the peer has joined here. It is valid only if the nonce was made by a
    /// node.
    #[cfg(feature = "cluster")]
    pub(super) fn join_proof(&self) -> JoinProof {
        JoinProof {
            key: self.key.encode_protobuf().into(),
            nonce: self.nonce.as_str().into(),
            signature: self.signature.clone(),
        }
    }
}

impl Check {
    /// Runs the check. Takes 10 to 100 µs of a core.
    pub(crate) fn run(self) -> Checked {
        match self {
            Self::Key(KeyCheck {
                address,
                ack,
                key,
                nonces,
            }) => {
                let result = check_key(&address, &key).map(|(public, peer)| {
                    Proof::Key(Box::new(Challenge {
                        key_text: Sha256::digest(&key).into(),
                        number: 0,
                        key: public,
                        peer,
                        nonce: nonces.make(&address),
                        #[cfg(feature = "cluster")]
                        signature: Box::default(),
                    }))
                });
                Checked {
                    address,
                    ack,
                    // This is not a join yet.
                    number: 0,
                    result,
                    grant: None,
                }
            }
            Self::Signature(check) => Checked {
                result: check_signature(check.challenge, &check.signature).map(Proof::Possession),
                address: check.address,
                ack: check.ack,
                number: check.number,
                grant: None,
            },
            Self::Claim(ClaimCheck {
                address,
                ack,
                number,
            }) => Checked {
                address,
                ack,
                number,
                result: Ok(Proof::Claim),
                grant: None,
            },
            #[cfg(feature = "cluster")]
            Self::Guest(check) => Checked {
                result: check.run().map(Proof::Guest),
                address: check.address,
                ack: check.ack,
                number: 0,
                grant: None,
            },
        }
    }
}

/// Decodes a key. Returns it with the id that libp2p gives to it today.
fn check_key(address: &str, text: &str) -> Result<(PublicKey, PeerId), Refusal> {
    let bytes = decode_key(text).ok_or(Refusal::UnusableProof)?;
    let key = PublicKey::try_decode_protobuf(&bytes).map_err(|_| Refusal::UnusableProof)?;
    let peer = ids::of_key(&key, address).ok_or(Refusal::WrongId)?;
    Ok((key, peer))
}

/// Decodes hex, which every published peer sends, or base64, which the specification requires.
fn decode_key(text: &str) -> Option<Vec<u8>> {
    if text.len() > MAX_TEXT {
        return None;
    }
    hex::decode(text)
        .or_else(|_| BASE64_STANDARD.decode(text))
        .or_else(|_| BASE64_STANDARD_NO_PAD.decode(text))
        .ok()
}

#[cfg_attr(
    not(feature = "cluster"),
    allow(unused_mut, reason = "without this feature, the signature is not kept")
)]
fn check_signature(mut challenge: Box<Challenge>, text: &str) -> Result<Box<Challenge>, Refusal> {
    if text.len() > MAX_TEXT {
        return Err(Refusal::WrongSignature);
    }
    let signature = hex::decode(text).map_err(|_| Refusal::WrongSignature)?;
    if !challenge.key.verify(challenge.nonce.as_bytes(), &signature) {
        return Err(Refusal::WrongSignature);
    }
    #[cfg(feature = "cluster")]
    {
        challenge.signature = signature.into();
    }
    Ok(challenge)
}

#[cfg(test)]
#[path = "challenge_tests.rs"]
mod tests;
