//! Lists of peers, and the parser for their ids, which people write in base58 or as a CID.

use std::collections::HashSet;

use libp2p_identity::PeerId;
use libp2p_websocket_star::rendezvous::Join;

/// The first bytes of the CID of a key: the version 1, and the code of libp2p keys.
const KEY: [u8; 2] = [1, 0x72];
const BASE32: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
const BASE36: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const BASE58: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// The longest text that is parsed; the CID of a key has some 65 characters.
const MAX: usize = 256;

/// The code of a multihash that contains the key itself instead of a hash.
const IDENTITY: u64 = 0;

/// A set of peers by their ids.
#[derive(Default)]
pub struct Peers {
    ids: HashSet<PeerId>,
    /// Whether the set contains a hash of a key. Only then is it worth hashing the keys of peers.
    has_hashes: bool,
}

impl FromIterator<PeerId> for Peers {
    fn from_iter<I: IntoIterator<Item = PeerId>>(ids: I) -> Self {
        let ids: HashSet<_> = ids.into_iter().collect();
        let is_hash = |id: &PeerId| id.as_ref().code() != IDENTITY;
        Self {
            has_hashes: ids.iter().any(is_hash),
            ids,
        }
    }
}

impl Peers {
    /// Returns whether the peer that wants to join is in the set, by any of its ids.
    pub fn contain(&self, join: &Join) -> bool {
        if self.ids.is_empty() {
            return false;
        }
        // The id in use comes first, and then its hash.
        let looks = if self.has_hashes { usize::MAX } else { 1 };
        let mut ids = join.peer_ids().take(looks);
        ids.any(|id| self.ids.contains(&id))
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }
}

/// Parses a peer id.
///
/// # Errors
/// If the text is not a peer id; the error describes what is expected.
pub fn parse(text: &str) -> Result<PeerId, &'static str> {
    const NOT_ONE: &str = "this is not a peer id, such as 12D3KooW…, 16Uiu2HA…, Qm… or bafz…";
    if text.len() > MAX {
        return Err(NOT_ONE);
    }
    let written = text.parse().ok();
    written.or_else(|| of_cid(text)).ok_or(NOT_ONE)
}

/// Parses a CID of version 1.
fn of_cid(text: &str) -> Option<PeerId> {
    let (base, digits) = text.split_at_checked(1)?;
    let bytes = match base {
        "b" => bits(digits),
        "B" => bits(&digits.to_ascii_lowercase()),
        "k" => number(digits, BASE36),
        "K" => number(&digits.to_ascii_lowercase(), BASE36),
        "z" => number(digits, BASE58),
        "f" | "F" => hex::decode(digits).ok(),
        _ => None,
    };
    PeerId::from_bytes(bytes?.strip_prefix(&KEY)?).ok()
}

/// Decodes base 32: five bits a digit, from the left (RFC 4648, section 6, without padding).
fn bits(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut held, mut count) = (0_u32, 0);
    for digit in text.bytes() {
        held = (held << 5) | u32::try_from(value(digit, BASE32)?).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.extend(u8::try_from(held >> count));
            held &= (1 << count) - 1;
        }
    }
    // Fewer bits than a digit has are left over, and all of them are zero.
    (count < 5 && held == 0).then_some(bytes)
}

/// Decodes one large number. Each leading zero digit is a zero byte.
fn number(text: &str, alphabet: &[u8]) -> Option<Vec<u8>> {
    // The least significant byte comes first.
    let mut bytes: Vec<u8> = Vec::new();
    for digit in text.bytes() {
        let mut carry = value(digit, alphabet)?;
        for byte in &mut bytes {
            carry += usize::from(*byte) * alphabet.len();
            *byte = u8::try_from(carry & 0xff).ok()?;
            carry >>= 8;
        }
        while carry > 0 {
            bytes.push(u8::try_from(carry & 0xff).ok()?);
            carry >>= 8;
        }
    }
    let zero = alphabet.first()?;
    let zeros = text.bytes().take_while(|digit| digit == zero).count();
    bytes.extend(std::iter::repeat_n(0, zeros));
    bytes.reverse();
    Some(bytes)
}

fn value(digit: u8, alphabet: &[u8]) -> Option<usize> {
    alphabet.iter().position(|known| *known == digit)
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::*;

    /// The ids are from the specification of peer ids.
    #[test]
    fn an_id_is_the_same_in_base58_and_as_a_cid() {
        for (base58, cid) in [
            (
                "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
                "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe",
            ),
            (
                "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
                "bafzaajaiaejcal72gwuz2or47oyxxn6b3rkwdmmkrxgkjxzy3rqt5kczyn7lcm3l",
            ),
        ] {
            let peer = parse(base58).expect(base58);
            assert_eq!(peer.to_base58(), base58);
            assert_eq!(parse(cid), Ok(peer));
            assert_eq!(parse(&cid.to_ascii_uppercase()), Ok(peer));
        }
    }

    fn encode(bytes: &[u8], alphabet: &[u8]) -> String {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let mut digits: Vec<usize> = Vec::new();
        for byte in bytes {
            let mut carry = usize::from(*byte);
            for digit in &mut digits {
                carry += *digit << 8;
                *digit = carry % alphabet.len();
                carry /= alphabet.len();
            }
            while carry > 0 {
                digits.push(carry % alphabet.len());
                carry /= alphabet.len();
            }
        }
        digits.extend(std::iter::repeat_n(0, zeros));
        let digits = digits
            .iter()
            .rev()
            .map(|digit| char::from(alphabet[*digit]));
        digits.collect()
    }

    #[test]
    fn an_id_is_read_in_every_base_that_people_use_for_it() {
        for key in [Keypair::generate_ed25519(), Keypair::generate_secp256k1()] {
            let peer = key.public().to_peer_id();
            let cid = [&KEY[..], &peer.to_bytes()].concat();
            for text in [
                peer.to_base58(),
                format!("k{}", encode(&cid, BASE36)),
                format!("K{}", encode(&cid, BASE36).to_ascii_uppercase()),
                format!("z{}", encode(&cid, BASE58)),
                format!("f{}", hex::encode(&cid)),
            ] {
                assert_eq!(parse(&text), Ok(peer), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let long = "1".repeat(100_000);
        for text in [
            "",
            "x",
            "b",
            "é",
            "bafzaajaiaejcal72gwuz2or47oyxxn6b3rkwdmmkrxgkjxzy3rqt5kczyn7lcm3",
            "bafybeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe",
            "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5S",
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N,",
            "/ipfs/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
            &long,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
