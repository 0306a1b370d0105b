//! The records that nodes write into the directory: how to reach them, and who has joined at them.

use std::{sync::Arc, time::SystemTime};

use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine as _};
use libp2p_identity::{PeerId, PublicKey};
use serde::{Deserialize, Serialize};

use super::{
    clock::Clock,
    node::{NodeId, Slot},
};
use crate::{protocol::nonce::Stamp, rendezvous::ids};

/// The version of the records that are written here.
const VERSION: u32 = 1;
/// The oldest version that can read these records.
const READABLE_BY: u32 = 1;
/// The longest record that is read, in bytes. An RSA-8192 key and its signature take 3 KiB.
pub(in crate::rendezvous) const MAX_RECORD: usize = 8 * 1024;

/// Why a record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::rendezvous) enum RecordError {
    #[error("that node has more peers than this node accepts")]
    TooMany,
    #[error("the record is too long: {0} bytes")]
    TooLong(usize),
    #[error("the record is malformed: {0}")]
    Malformed(String),
    #[error("the record can only be read by software for record version {0} or later")]
    TooNew(u32),
    #[error("the record is under the key of another address")]
    OtherKey,
    #[error("the nonce was made for another address, or not by a node of a cluster")]
    Nonce,
    #[error("the nonce was made at another node")]
    OtherNode,
    #[error("the nonce is from the future: a clock is wrong")]
    Future,
    #[error("the key does not belong to the peer in the address")]
    OtherPeer,
    #[error("the signature is wrong")]
    Signature,
}

/// How to reach a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::rendezvous) struct NodeRecord {
    #[serde(rename = "v")]
    version: u32,
    /// The oldest version that can talk to the node.
    #[serde(rename = "r")]
    readable_by: u32,
    /// Where the node listens for the trunks of others: a name or an address, and a port.
    #[serde(rename = "t")]
    pub(in crate::rendezvous) trunk: String,
    /// The number of times that the record was written.
    #[serde(rename = "n", default)]
    pub(in crate::rendezvous) number: u64,
}

impl NodeRecord {
    pub(in crate::rendezvous) fn new(trunk: String, number: u64) -> Self {
        Self {
            version: VERSION,
            readable_by: READABLE_BY,
            trunk,
            number,
        }
    }

    pub(in crate::rendezvous) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(in crate::rendezvous) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: Self = parse(bytes)?;
        match record.readable_by {
            version if version > VERSION => Err(RecordError::TooNew(version)),
            _ => Ok(record),
        }
    }
}

/// The record that a peer has joined at a node, with the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rendezvous) struct PeerRecord {
    pub(in crate::rendezvous) tenant: Option<Arc<str>>,
    pub(in crate::rendezvous) address: Arc<str>,
    pub(in crate::rendezvous) proof: JoinProof,
}

/// The proof that a peer has the key of the id in its address, and of when and at which node the peer has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rendezvous) struct JoinProof {
    /// The public key, as a protobuf.
    pub(in crate::rendezvous) key: Box<[u8]>,
    pub(in crate::rendezvous) nonce: Box<str>,
    /// The signature of the nonce with this key.
    pub(in crate::rendezvous) signature: Box<[u8]>,
}

/// A [`PeerRecord`] as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(rename = "r")]
    readable_by: u32,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    tenant: Option<Box<str>>,
    #[serde(rename = "a")]
    address: Box<str>,
    #[serde(rename = "k")]
    key: String,
    #[serde(rename = "n")]
    nonce: Box<str>,
    #[serde(rename = "s")]
    signature: String,
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RecordError> {
    if bytes.len() > MAX_RECORD {
        return Err(RecordError::TooLong(bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|error| RecordError::Malformed(error.to_string()))
}

fn decode_base64(text: &str) -> Result<Box<[u8]>, RecordError> {
    let bytes = BASE64_STANDARD_NO_PAD.decode(text);
    let bytes = bytes.map_err(|error| RecordError::Malformed(error.to_string()))?;
    Ok(bytes.into())
}

impl PeerRecord {
    /// Returns the hash that stands for the address in a key of the directory.
    pub(in crate::rendezvous) fn slot(&self) -> Slot {
        Slot::of(self.tenant.as_deref(), &self.address)
    }

    pub(in crate::rendezvous) fn encode(&self) -> String {
        let written = Written {
            readable_by: READABLE_BY,
            tenant: self.tenant.as_deref().map(Box::from),
            address: (*self.address).into(),
            key: BASE64_STANDARD_NO_PAD.encode(&self.proof.key),
            nonce: self.proof.nonce.clone(),
            signature: BASE64_STANDARD_NO_PAD.encode(&self.proof.signature),
        };
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Reads a record. Nothing in it is proved yet.
    pub(in crate::rendezvous) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let written: Written = parse(bytes)?;
        if written.readable_by > VERSION {
            return Err(RecordError::TooNew(written.readable_by));
        }
        if written.tenant.as_deref() == Some("") {
            return Err(RecordError::Malformed("a tenant without a name".to_owned()));
        }
        Ok(Self {
            tenant: written.tenant.map(Arc::from),
            address: written.address.into(),
            proof: JoinProof {
                key: decode_base64(&written.key)?,
                nonce: written.nonce,
                signature: decode_base64(&written.signature)?,
            },
        })
    }

    /// Returns the stamp of the nonce, if the nonce was made at `node` for this address.
    pub(in crate::rendezvous) fn stamp(&self, node: &NodeId) -> Result<Stamp, RecordError> {
        let stamp = Stamp::of(&self.proof.nonce, &self.address);
        let stamp = stamp.map_err(|_| RecordError::Nonce)?;
        match stamp.node == node.tag() {
            true => Ok(stamp),
            false => Err(RecordError::OtherNode),
        }
    }

    /// Verifies that the peer of the address has joined at `node`, and not in the future. Takes 50 to 150 µs of a core.
    pub(in crate::rendezvous) fn verify(
        &self,
        node: &NodeId,
        clock: &Clock,
        now: SystemTime,
    ) -> Result<(Stamp, PeerId), RecordError> {
        let stamp = self.stamp(node)?;
        let key = PublicKey::try_decode_protobuf(&self.proof.key);
        let key = key.map_err(|_| RecordError::OtherPeer)?;
        let peer = ids::of_key(&key, &self.address).ok_or(RecordError::OtherPeer)?;
        if !key.verify(self.proof.nonce.as_bytes(), &self.proof.signature) {
            return Err(RecordError::Signature);
        }
        // This comes last, so that our clock is never set without a proof.
        match clock.hear(stamp.time, now) {
            true => Ok((stamp, peer)),
            false => Err(RecordError::Future),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use libp2p_identity::Keypair;
    use proptest::prelude::*;

    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;

    fn node(name: &str) -> NodeId {
        name.parse().expect("a name")
    }

    fn address(key: &Keypair) -> Arc<str> {
        let peer = key.public().to_peer_id();
        format!("/dns4/star.example/tcp/443/wss/p2p-websocket-star/ipfs/{peer}").into()
    }

    fn record(key: &Keypair, at: &str, time: u64) -> PeerRecord {
        let address = address(key);
        let stamp = Stamp {
            time,
            node: node(at).tag(),
        };
        let nonce = stamp.nonce(&address);
        PeerRecord {
            tenant: Some("blue".into()),
            address,
            proof: JoinProof {
                key: key.public().encode_protobuf().into(),
                signature: key.sign(nonce.as_bytes()).expect("signs").into(),
                nonce: nonce.into(),
            },
        }
    }

    fn verify(record: &PeerRecord, at: &str) -> Result<u64, RecordError> {
        let node = node(at);
        let clock = Clock::new(&node);
        let verified = record.verify(&node, &clock, NOW + Duration::from_secs(1));
        verified.map(|(stamp, _)| stamp.time)
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_proves_a_join() {
        for key in [Keypair::generate_ed25519(), Keypair::generate_secp256k1()] {
            let written = record(&key, "a", 1000);
            let read = PeerRecord::decode(written.encode().as_bytes()).expect("a record");
            assert_eq!(read, written);
            assert_eq!(verify(&read, "a"), Ok(1000));
        }
    }

    #[test]
    fn nobody_gets_a_peer_that_did_not_join_there() {
        let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let good = record(&key, "a", 1000);
        assert_eq!(verify(&good, "b"), Err(RecordError::OtherNode));
        assert_eq!(
            verify(&record(&key, "a", 32_000), "a"),
            Err(RecordError::Future)
        );
        let mut forged = good.clone();
        forged.proof = record(&other, "a", 1000).proof;
        assert_eq!(verify(&forged, "a"), Err(RecordError::Nonce));
        let mut forged = good.clone();
        forged.address = address(&other);
        assert_eq!(verify(&forged, "a"), Err(RecordError::Nonce));
        // A new nonce for the same address, with the signature of the old one.
        let mut forged = good.clone();
        forged.proof.nonce = record(&key, "a", 2000).proof.nonce;
        assert_eq!(verify(&forged, "a"), Err(RecordError::Signature));
        let mut forged = good.clone();
        forged.proof.key = other.public().encode_protobuf().into();
        assert_eq!(verify(&forged, "a"), Err(RecordError::OtherPeer));
        let mut forged = good;
        forged.proof.signature = Box::default();
        assert_eq!(verify(&forged, "a"), Err(RecordError::Signature));
    }

    #[test]
    fn what_later_versions_write_for_this_one_is_read() {
        let key = Keypair::generate_ed25519();
        let good = record(&key, "a", 1000);
        let later = good.encode().replacen('{', "{\"v\":2,\"new\":[1],", 1);
        assert_eq!(PeerRecord::decode(later.as_bytes()), Ok(good.clone()));
        let too_new = good.encode().replacen("\"r\":1", "\"r\":2", 1);
        let refused = PeerRecord::decode(too_new.as_bytes());
        assert_eq!(refused, Err(RecordError::TooNew(2)));
        let node = NodeRecord::decode(br#"{"v":2,"r":1,"t":"a:1","new":null}"#);
        assert_eq!(node.map(|node| node.trunk), Ok("a:1".to_owned()));
        let too_new = NodeRecord::decode(br#"{"v":2,"r":2,"t":"a:1"}"#);
        assert_eq!(too_new, Err(RecordError::TooNew(2)));
    }

    #[test]
    fn long_records_are_not_looked_at() {
        let long = vec![b' '; MAX_RECORD + 1];
        assert_eq!(
            NodeRecord::decode(&long),
            Err(RecordError::TooLong(MAX_RECORD + 1))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes: Vec<u8>) {
            let _ = PeerRecord::decode(&bytes);
            let _ = NodeRecord::decode(&bytes);
        }
    }
}
