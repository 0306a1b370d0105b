//! The proof that a peer has the key of the peer id in its address.
//!
//! Parsing a key and verifying a signature take up to some 100 µs. The registry therefore only hands
//! out what is to be checked, and is told the outcome: a [`Check`] is run where no lock is held.

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

/// The longest key or signature as text. An RSA-8192 key is 2.1 KiB in hex.
const MAX_TEXT: usize = 4 * 1024;

/// Something to check outside of the registry.
#[derive(Debug)]
pub(crate) enum Check {
    /// The first `ss-join`.
    Key(KeyCheck),
    /// The second.
    Signature(SignatureCheck),
    /// The only one where the challenge is off, and somebody is to be asked about it.
    Claim(ClaimCheck),
    /// The only one of a peer that has joined at another node.
    #[cfg(feature = "cluster")]
    Guest(GuestCheck),
}

/// Makes the nonces of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Nonces {
    /// What the other nodes read in them, if there are any.
    #[cfg(feature = "cluster")]
    clock: Option<Clock>,
}

impl Nonces {
    /// Those of a node of a cluster.
    #[cfg(feature = "cluster")]
    pub(super) fn of_node(clock: Clock) -> Self {
        Self { clock: Some(clock) }
    }

    /// A new one for a join of `address`.
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

/// A [`Check`] that was run.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(super) address: String,
    pub(super) ack: u64,
    /// Tells which of two joins was asked for later: it may take long to decide about one.
    pub(super) number: u64,
    pub(super) result: Result<Proof, Refusal>,
    /// What the join is allowed, where somebody is asked about it.
    pub(super) grant: Option<Arc<Grant>>,
}

impl Checked {
    /// The address whose key the peer has proved to have.
    pub(super) fn proved(&self) -> Option<&str> {
        let proved = matches!(self.result, Ok(Proof::Possession(_)));
        proved.then_some(self.address.as_str())
    }

    /// The join about which somebody may be asked, if it has come so far: of a client, whose request has said this.
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

    /// The same with what was decided about the join.
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
    /// The key belongs to the address. Its challenge is new.
    Key(Box<Challenge>),
    /// The peer has the key.
    Possession(Box<Challenge>),
    /// The peer says who it is.
    Claim,
    /// The peer has joined at another node.
    #[cfg(feature = "cluster")]
    Guest(Stamp),
}

/// What a peer must sign to join.
#[derive(Debug, Clone)]
pub(crate) struct Challenge {
    /// A hash of the key as it was sent, to tell a repeated first `ss-join` from the second. The text itself may
    /// be long.
    key_text: [u8; 32],
    key: PublicKey,
    peer: PeerId,
    /// Tells the challenges of a link apart.
    pub(super) number: u64,
    pub(super) nonce: String,
    /// The signature of the nonce, when it has come.
    #[cfg(feature = "cluster")]
    signature: Box<[u8]>,
}

impl Challenge {
    /// Whether this is the key as it was sent.
    pub(super) fn has_key(&self, text: &str) -> bool {
        text.len() <= MAX_TEXT && self.key_text == *Sha256::digest(text)
    }

    /// The same challenge with another nonce.
    pub(super) fn renew(&mut self, nonces: &Nonces, address: &str) {
        self.nonce = nonces.make(address);
    }

    /// What proves to other nodes that its peer has joined here, if the nonce was made for that.
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
    /// Does the work. Takes 10 to 100 µs of a core.
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
                    // It is no join yet.
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

/// The key, and the id that libp2p gives to it today.
fn check_key(address: &str, text: &str) -> Result<(PublicKey, PeerId), Refusal> {
    let bytes = decode_key(text).ok_or(Refusal::UnusableProof)?;
    let key = PublicKey::try_decode_protobuf(&bytes).map_err(|_| Refusal::UnusableProof)?;
    let peer = ids::of_key(&key, address).ok_or(Refusal::WrongId)?;
    Ok((key, peer))
}

/// Hex, as every published peer has it, or base64, as the specification has it.
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
    allow(unused_mut, reason = "nobody else wants the signature")
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
