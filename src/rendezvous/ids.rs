//! The peer ids of a key, and the ids at the end of addresses.

use libp2p_core::multihash::Multihash;
use libp2p_identity::{PeerId, PublicKey};
use sha2::{Digest as _, Sha256};

/// The multihash code of SHA2-256.
const SHA2_256: u64 = 0x12;
/// The multihash code of data that is not hashed.
const IDENTITY: u64 = 0;

fn hashed(key: &[u8]) -> Option<PeerId> {
    let digest = Sha256::digest(key);
    let hash = Multihash::wrap(SHA2_256, &digest).ok()?;
    PeerId::from_multihash(hash).ok()
}

/// Returns the id that old clients give to the key of this peer, if the id contains the key itself: old clients hash
/// short keys, too, so their id is a different one.
pub(super) fn hashed_form(peer: &PeerId) -> Option<PeerId> {
    let multihash: &Multihash<64> = peer.as_ref();
    match multihash.code() {
        IDENTITY => hashed(multihash.digest()),
        _ => None,
    }
}

/// Returns whether two ids belong to one key.
pub(super) fn is_same_peer(one: &PeerId, other: &PeerId) -> bool {
    one == other || hashed_form(one) == Some(*other) || hashed_form(other) == Some(*one)
}

/// Returns the id that libp2p gives to a key today. `None` if the address ends neither with that id nor with the one
/// that old clients give to the key.
pub(super) fn of_key(key: &PublicKey, address: &str) -> Option<PeerId> {
    let peer = key.to_peer_id();
    let id = in_address(address);
    let is_its = |of_key: PeerId| of_key.to_base58() == id;
    let hashed = || hashed_form(&peer);
    (is_its(peer) || hashed().is_some_and(is_its)).then_some(peer)
}

/// Returns the end of an address, which is the id of its peer if the address is valid.
pub(super) fn in_address(address: &str) -> &str {
    address.rsplit("ipfs/").next().unwrap_or_default()
}

/// Returns the peer that an address names.
pub(super) fn peer_in(address: &str) -> Option<PeerId> {
    in_address(address).parse().ok()
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::*;

    #[test]
    fn two_ids_of_one_key_are_one_peer() {
        for key in [Keypair::generate_ed25519(), Keypair::generate_secp256k1()] {
            let id = key.public().to_peer_id();
            let old = hashed_form(&id).expect("another one");
            assert!(old.to_base58().starts_with("Qm"), "{old}");
            assert_eq!(hashed_form(&old), None);
            let other = Keypair::generate_ed25519().public().to_peer_id();
            for (one, two) in [(id, old), (old, id), (id, id), (old, old)] {
                assert!(is_same_peer(&one, &two));
                assert!(!is_same_peer(&one, &other) && !is_same_peer(&other, &two));
            }
        }
    }

    #[test]
    fn the_peer_of_an_address_is_the_last_part_of_it() {
        let id = Keypair::generate_ed25519().public().to_peer_id();
        let base = "/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star";
        assert_eq!(peer_in(&format!("{base}/ipfs/{id}")), Some(id));
        for address in ["", base, "/ipfs/", "/ipfs/x", "ipfs"] {
            assert_eq!(peer_in(address), None, "{address}");
        }
    }
}
