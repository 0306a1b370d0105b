//! The derivation of the keys of both directions from the ephemeral keys.

use hmac::{EagerHash, Hmac, Mac as _};
use p256::elliptic_curve::{Generate as _, sec1::ToSec1Point as _};
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use super::{
    Error,
    suite::{Cipher, Curve, Hash, Suite},
};

const LABEL: &[u8] = b"key expansion";
pub(super) const IV_LEN: usize = 16;
const MAC_KEY_LEN: usize = 20;

/// Our key for this connection. It is erased when it is dropped.
pub(super) enum Ephemeral {
    P256(p256::ecdh::EphemeralSecret),
    P384(p384::ecdh::EphemeralSecret),
}

impl Ephemeral {
    pub(super) fn generate(curve: Curve) -> Self {
        let rng = &mut rand::rng();
        match curve {
            Curve::P256 => Self::P256(p256::ecdh::EphemeralSecret::generate_from_rng(rng)),
            Curve::P384 => Self::P384(p384::ecdh::EphemeralSecret::generate_from_rng(rng)),
        }
    }

    /// Returns the public half as an uncompressed point, the form that JavaScript sends.
    pub(super) fn public(&self) -> Vec<u8> {
        match self {
            Self::P256(secret) => secret.public_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::P384(secret) => secret.public_key().to_sec1_point(false).as_bytes().to_vec(),
        }
    }

    /// Returns the shared secret: the x-coordinate at its full length.
    pub(super) fn agree(self, remote: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let secret = match self {
            Self::P256(secret) => {
                let remote = p256::PublicKey::from_sec1_bytes(remote)
                    .map_err(|_| Error::EphemeralKey("P-256"))?;
                secret.diffie_hellman(&remote).raw_secret_bytes().to_vec()
            }
            Self::P384(secret) => {
                let remote = p384::PublicKey::from_sec1_bytes(remote)
                    .map_err(|_| Error::EphemeralKey("P-384"))?;
                secret.diffie_hellman(&remote).raw_secret_bytes().to_vec()
            }
        };
        Ok(Zeroizing::new(secret))
    }
}

/// The key material of one direction. It is erased when it is dropped.
pub(super) struct Keys {
    material: Zeroizing<Vec<u8>>,
    cipher_key_len: usize,
}

impl Keys {
    /// Returns our keys and the peer's.
    pub(super) fn stretch(suite: &Suite, secret: &[u8]) -> (Self, Self) {
        let cipher_key_len = match suite.cipher {
            Cipher::Aes128 => 16,
            Cipher::Aes256 => 32,
        };
        let len = IV_LEN + cipher_key_len + MAC_KEY_LEN;
        let material = match suite.hash {
            Hash::Sha256 => expand::<Sha256>(secret, 2 * len),
            Hash::Sha512 => expand::<Sha512>(secret, 2 * len),
        };
        let (first, second) = material.split_at(len);
        let keys = |material: &[u8]| Self {
            material: Zeroizing::new(material.to_vec()),
            cipher_key_len,
        };
        if suite.first {
            (keys(first), keys(second))
        } else {
            (keys(second), keys(first))
        }
    }

    pub(super) fn iv(&self) -> &[u8] {
        &self.material[..IV_LEN]
    }

    pub(super) fn cipher(&self) -> &[u8] {
        &self.material[IV_LEN..][..self.cipher_key_len]
    }

    pub(super) fn mac(&self) -> &[u8] {
        &self.material[IV_LEN + self.cipher_key_len..]
    }
}

/// `P_hash` of TLS 1.2 (RFC 5246, section 5), except that the label is the whole seed.
fn expand<D: EagerHash>(secret: &[u8], len: usize) -> Zeroizing<Vec<u8>>
where
    Hmac<D>: hmac::KeyInit + hmac::Mac,
{
    let keyed =
        <Hmac<D> as hmac::KeyInit>::new_from_slice(secret).expect("HMAC takes any key length");
    let mac = |parts: [&[u8]; 2]| {
        let mut mac = keyed.clone();
        parts.iter().for_each(|part| mac.update(part));
        Zeroizing::new(mac.finalize().into_bytes().to_vec())
    };
    // The capacity is sufficient from the start, so that growing leaves no copy behind.
    let mut material = Zeroizing::new(Vec::with_capacity(len + 64));
    let mut a = mac([LABEL, &[]]);
    while material.len() < len {
        material.extend_from_slice(&mac([&a, LABEL]));
        a = mac([&a, &[]]);
    }
    material.truncate(len);
    material
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of `keyStretcher` in the npm package libp2p-crypto 0.16 for the bytes 0 to 31.
    #[test]
    fn keys_are_stretched_as_javascript_does() {
        let secret: Vec<u8> = (0..32).collect();
        let suite = |cipher, hash| Suite {
            curve: Curve::P256,
            cipher,
            hash,
            first: true,
        };
        let check = |keys: Keys, iv, cipher, mac| {
            assert_eq!(hex::encode(keys.iv()), iv);
            assert_eq!(hex::encode(keys.cipher()), cipher);
            assert_eq!(hex::encode(keys.mac()), mac);
        };
        let (first, second) = Keys::stretch(&suite(Cipher::Aes256, Hash::Sha256), &secret);
        check(
            first,
            "bef3e571301dc04a79ad4ab4310b90a4",
            "80043e5a719b99aec95ba29a00234beba1999046d5c676ef6b53c490bca9643f",
            "14427b5e3cddd3c6acc3bf5bd9d23dd331b220b6",
        );
        check(
            second,
            "a0b21dec2b5cd9a47711c674fc294509",
            "9583d472e25338bfc9fdfcfa7199762813727766f00d5da254a8991aaef9ff4e",
            "616379aa2558a68ac76d3638e37e45cf85b7a18c",
        );
        let (first, second) = Keys::stretch(&suite(Cipher::Aes128, Hash::Sha512), &secret);
        check(
            first,
            "8983caaaf635e4415ec2f52149af25cf",
            "024b0ce5e8c0c5675f71e0a0528d8e7b",
            "7cb12134300f2f1aa1c4e1b385a8109750130c89",
        );
        check(
            second,
            "65e6958963b23ce6291e801af46500fe",
            "32c0df27cbdc9718c9ee2469caca24a0",
            "9de5af00a30623417742114bb7df4044971df5ab",
        );
    }

    #[test]
    fn whoever_comes_first_has_the_first_half() {
        let suite = Suite {
            curve: Curve::P256,
            cipher: Cipher::Aes256,
            hash: Hash::Sha256,
            first: true,
        };
        let (ours, _) = Keys::stretch(&suite, &[1; 32]);
        let (_, theirs) = Keys::stretch(
            &Suite {
                first: false,
                ..suite
            },
            &[1; 32],
        );
        assert_eq!(*ours.material, *theirs.material);
    }

    #[test]
    fn both_sides_find_the_same_secret_on_both_curves() {
        for curve in [Curve::P256, Curve::P384] {
            let (a, b) = (Ephemeral::generate(curve), Ephemeral::generate(curve));
            let (to_a, to_b) = (b.public(), a.public());
            let secret = a.agree(&to_a).expect("a point");
            assert_eq!(secret, b.agree(&to_b).expect("a point"));
        }
    }

    #[test]
    fn what_is_no_point_is_refused() {
        for key in [&[][..], &[0], &[4; 65], &[0; 65]] {
            let error = Ephemeral::generate(Curve::P256).agree(key);
            assert!(matches!(error, Err(Error::EphemeralKey("P-256"))));
        }
        // A point of the other curve is not valid on this one.
        let other = Ephemeral::generate(Curve::P384).public();
        assert!(Ephemeral::generate(Curve::P256).agree(&other).is_err());
    }
}
