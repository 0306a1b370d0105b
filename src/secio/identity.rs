//! The identity key of the other side.
//!
//! Old JavaScript nodes have RSA keys. Natively, libp2p verifies them with ring, which needs a C compiler when built
//! for a browser. So in a browser the `rsa` crate verifies them. It handles no secrets, because nothing is signed or
//! decrypted with RSA.

use libp2p_identity::{PeerId, PublicKey};

use super::Error;

/// A key that the other side has not yet proved.
pub(super) enum IdentityKey {
    Any(PublicKey),
    #[cfg(target_arch = "wasm32")]
    Rsa(rsa_key::RsaKey),
}

impl IdentityKey {
    /// Decodes libp2p's protobuf `PublicKey`.
    pub(super) fn decode(protobuf: &[u8]) -> Result<Self, Error> {
        #[cfg(target_arch = "wasm32")]
        if let Some(key) = rsa_key::RsaKey::decode(protobuf)? {
            return Ok(Self::Rsa(key));
        }
        let key = PublicKey::try_decode_protobuf(protobuf);
        key.map(Self::Any).map_err(Error::IdentityKey)
    }

    pub(super) fn to_peer_id(&self) -> PeerId {
        match self {
            Self::Any(key) => key.to_peer_id(),
            #[cfg(target_arch = "wasm32")]
            Self::Rsa(key) => key.to_peer_id(),
        }
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Any(key) => key.verify(message, signature),
            #[cfg(target_arch = "wasm32")]
            Self::Rsa(key) => key.verify(message, signature),
        }
    }
}

#[cfg(any(target_arch = "wasm32", test))]
mod rsa_key {
    use libp2p_identity::PeerId;
    use rsa::{
        PublicKey,
        pkcs1v15::{Signature, VerifyingKey},
        pkcs8::DecodePublicKey as _,
        signature::Verifier as _,
        traits::PublicKeyParts as _,
    };
    use sha2::{Digest as _, Sha256};

    use super::Error;

    /// The first bytes of an RSA key's protobuf: its type, and the tag of its data.
    const HEAD: [u8; 3] = [0x08, 0x00, 0x12];
    /// The minimum key length in bits, as in ring natively. The maximum is 8192 in both cases.
    const LEAST_BITS: u32 = 2048;
    /// The first bytes of a SHA-256 multihash.
    const SHA2_256: [u8; 2] = [0x12, 0x20];

    pub(in crate::secio) struct RsaKey {
        peer: PeerId,
        key: VerifyingKey<Sha256>,
    }

    impl RsaKey {
        /// Decodes an RSA key. Returns `None` for a key of another type.
        pub(super) fn decode(protobuf: &[u8]) -> Result<Option<Self>, Error> {
            let Some(rest) = protobuf.strip_prefix(&HEAD) else {
                return Ok(None);
            };
            let malformed = |why: &dyn std::fmt::Display| Error::RsaKey(why.to_string());
            let der = data(rest).ok_or_else(|| malformed(&"its length is wrong"))?;
            let key = PublicKey::from_public_key_der(der).map_err(|error| malformed(&error))?;
            if key.n().bit_width_vartime() < LEAST_BITS {
                return Err(malformed(&"it has less than 2048 bits"));
            }
            let mut id = SHA2_256.to_vec();
            id.extend(Sha256::digest(protobuf));
            let peer = PeerId::from_bytes(&id).map_err(|error| malformed(&error))?;
            let key = VerifyingKey::new(key);
            Ok(Some(Self { peer, key }))
        }

        pub(super) fn to_peer_id(&self) -> PeerId {
            self.peer
        }

        pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
            Signature::try_from(signature)
                .is_ok_and(|signature| self.key.verify(message, &signature).is_ok())
        }
    }

    /// Returns the data after its length. The length takes two bytes for every key that is long enough. Nothing may
    /// follow the data, so that a key has only one form, and thereby only one peer id.
    fn data(rest: &[u8]) -> Option<&[u8]> {
        let [low @ 0x80..=0xff, high @ 1..=0x7f, data @ ..] = rest else {
            return None;
        };
        let len = usize::from(low & 0x7f) | (usize::from(*high) << 7);
        (data.len() == len).then_some(data)
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::*;
    use crate::secio::tests::rsa_2048;

    #[test]
    fn an_rsa_key_is_the_same_in_a_browser_as_natively() {
        let pair = rsa_2048();
        let protobuf = pair.public().encode_protobuf();
        let key = rsa_key::RsaKey::decode(&protobuf).expect("a good key");
        let key = key.expect("an RSA key");
        assert_eq!(key.to_peer_id(), pair.public().to_peer_id());
        let mut signature = pair.sign(b"message").expect("it signs");
        assert!(key.verify(b"message", &signature));
        assert!(!key.verify(b"massage", &signature));
        signature[100] ^= 1;
        assert!(!key.verify(b"message", &signature));
        assert!(!key.verify(b"message", &signature[..255]));
        assert!(!key.verify(b"message", &[0; 5000]));
    }

    #[test]
    fn what_is_no_rsa_key_in_its_one_form_is_none() {
        let other = Keypair::generate_ed25519().public().encode_protobuf();
        assert!(matches!(rsa_key::RsaKey::decode(&other), Ok(None)));
        let good = rsa_2048().public().encode_protobuf();
        for len in [3, 4, 5, 100, good.len() - 1] {
            let short = rsa_key::RsaKey::decode(&good[..len]);
            assert!(matches!(short, Err(Error::RsaKey(_))), "{len}");
        }
        let long = [&good[..], &[0]].concat();
        assert!(matches!(
            rsa_key::RsaKey::decode(&long),
            Err(Error::RsaKey(_))
        ));
        let mut bent = good;
        for at in 5..bent.len() {
            bent[at] ^= 0x80;
            // Some of these are keys of another peer. None may panic.
            let _ = rsa_key::RsaKey::decode(&bent);
            bent[at] ^= 0x80;
        }
    }
}
