//! The choice of algorithms: a function of both proposals that gives the same result on both sides.

use std::cmp::Ordering;

use sha2::{Digest as _, Sha256};

use super::{Error, message::Propose};

pub(super) const EXCHANGES: &str = "P-256,P-384";
pub(super) const CIPHERS: &str = "AES-256,AES-128";
pub(super) const HASHES: &str = "SHA256,SHA512";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cipher {
    Aes128,
    Aes256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// The agreed algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) curve: Curve,
    pub(super) cipher: Cipher,
    pub(super) hash: Hash,
    /// Whether the first half of the key material is ours.
    pub(super) first: bool,
}

impl Suite {
    pub(super) fn agree(local: &Propose<'_>, remote: &Propose<'_>) -> Result<Self, Error> {
        let first = match order(local, remote) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => return Err(Error::SelfDial),
        };
        let best = |kind, local, remote: &str| {
            best(first, local, remote).ok_or_else(|| Error::NothingInCommon {
                kind,
                theirs: remote.to_owned(),
            })
        };
        Ok(Self {
            curve: match best("exchange", local.exchanges, remote.exchanges)? {
                "P-384" => Curve::P384,
                _ => Curve::P256,
            },
            cipher: match best("cipher", local.ciphers, remote.ciphers)? {
                "AES-128" => Cipher::Aes128,
                _ => Cipher::Aes256,
            },
            hash: match best("hash", local.hashes, remote.hashes)? {
                "SHA512" => Hash::Sha512,
                _ => Hash::Sha256,
            },
            first,
        })
    }
}

/// Decides which side comes first. JavaScript compares multihashes, whose prefix is the same on both sides.
fn order(local: &Propose<'_>, remote: &Propose<'_>) -> Ordering {
    let digest = |key, nonce| {
        Sha256::new()
            .chain_update(key)
            .chain_update(nonce)
            .finalize()
    };
    digest(remote.pubkey, local.rand).cmp(&digest(local.pubkey, remote.rand))
}

/// Returns the algorithm that the first side prefers among those that both sides support. The result is a part of `local`.
fn best<'a>(local_first: bool, local: &'a str, remote: &str) -> Option<&'a str> {
    let (mut ours, mut theirs) = (local.split(','), remote.split(','));
    if local_first {
        ours.find(|own| remote.split(',').any(|other| other == *own))
    } else {
        theirs.find_map(|other| local.split(',').find(|own| *own == other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn propose<'a>(rand: &'a [u8], pubkey: &'a [u8], lists: [&'a str; 3]) -> Propose<'a> {
        let [exchanges, ciphers, hashes] = lists;
        Propose {
            rand,
            pubkey,
            exchanges,
            ciphers,
            hashes,
        }
    }

    #[test]
    fn both_sides_agree_on_the_preference_of_the_first() {
        for seed in 0..32_u8 {
            let nonce = [seed; 16];
            let a = propose(
                &nonce,
                b"a",
                ["P-256,P-384", "AES-256,AES-128", "SHA256,SHA512"],
            );
            let b = propose(
                &[7; 16],
                b"b",
                [
                    "P-521,P-384,P-256",
                    "Blowfish,AES-128,AES-256",
                    "SHA512,SHA256",
                ],
            );
            let ours = Suite::agree(&a, &b).expect("something in common");
            let theirs = Suite::agree(&b, &a).expect("the same");
            let first = !ours.first;
            assert_eq!(theirs, Suite { first, ..ours });
            let expected = if ours.first {
                (Curve::P256, Cipher::Aes256, Hash::Sha256)
            } else {
                (Curve::P384, Cipher::Aes128, Hash::Sha512)
            };
            assert_eq!((ours.curve, ours.cipher, ours.hash), expected);
        }
    }

    #[test]
    fn the_same_key_and_nonce_is_ourselves() {
        let a = propose(b"n", b"a", [EXCHANGES, CIPHERS, HASHES]);
        assert!(matches!(Suite::agree(&a, &a), Err(Error::SelfDial)));
    }

    #[test]
    fn nothing_in_common_names_the_kind() {
        let a = propose(b"n", b"a", [EXCHANGES, CIPHERS, HASHES]);
        for (kind, lists) in [
            ("exchange", ["P-521", CIPHERS, HASHES]),
            ("exchange", ["", CIPHERS, HASHES]),
            ("cipher", [EXCHANGES, "Blowfish", HASHES]),
            ("hash", [EXCHANGES, CIPHERS, "MD5,SHA-256"]),
        ] {
            let error = Suite::agree(&a, &propose(b"m", b"b", lists)).expect_err("nothing");
            let Error::NothingInCommon { kind: found, .. } = error else {
                panic!("{error}")
            };
            assert_eq!(found, kind);
        }
    }
}
