//! The nonce that a peer signs to join: two concatenated UUIDs, 72 characters.
//!
//! The signature has no domain separation, so only the form distinguishes a nonce from other signed data. The npm
//! server sends two UUIDs of version 4, which do not depend on the join. A rogue rendezvous can therefore relay the
//! nonce of another rendezvous, and join there with our signature. The rendezvous of this crate sends two UUIDs of
//! version 8. The second is a hash of the first and of the address that is joined. A rogue rendezvous that relays such
//! a nonce asks for a signature for an address that is not ours.
//!
//! In a cluster, the first UUID also contains the node that made it and the time: see `Stamp`.

use sha2::{Digest as _, Sha256};

/// The numbers of bytes in the first UUID for the time (`TIME`) and for the node (`NODE`).
#[cfg(feature = "cluster")]
const TIME: usize = 6;
#[cfg(feature = "cluster")]
const NODE: usize = 5;
/// The length of a UUID as text, in bytes.
const UUID: usize = 36;
/// The positions of the version digit and of the variant digit in a UUID as text.
const VERSION_AT: usize = 14;
const VARIANT_AT: usize = 19;
/// The prefix of the hashed data, before the first UUID and the address. It makes this hash differ from every other
/// hash.
const DOMAIN: &[u8] = b"libp2p-websocket-star join nonce\0";

/// The reason why a nonce must not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NonceError {
    /// The nonce is not two UUIDs that are both of version 4 or both of version 8.
    #[error("not two UUIDs")]
    Form,
    /// The nonce was made for another address.
    #[error("made for another address")]
    OtherAddress,
}

/// Returns a new nonce for a join of `address`, which is spelled as in `ss-join`.
#[cfg_attr(
    not(feature = "rendezvous-server"),
    allow(dead_code, reason = "only the rendezvous asks for signatures")
)]
pub(crate) fn new(address: &str) -> String {
    let first = uuid(rand::random(), 8);
    let second = bound(&first, address);
    first + &second
}

/// The node and the time at which a nonce was made. A node of a cluster writes them into the first UUID. The signature
/// of such a nonce proves to the other nodes that the peer has joined at that node, and which joins came before it.
#[cfg(feature = "cluster")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// The time in milliseconds since 1970.
    pub(crate) time: u64,
    /// The node: a part of a hash of its id.
    pub(crate) node: [u8; NODE],
}

#[cfg(feature = "cluster")]
impl Stamp {
    /// Returns a new nonce with this stamp for a join of `address`.
    pub(crate) fn nonce(self, address: &str) -> String {
        // The remaining random bytes have 34 bits. This is enough, because a signature of this nonce is useful only at
        // one node and in one millisecond.
        let mut bytes: [u8; 16] = rand::random();
        bytes[..TIME].copy_from_slice(&self.time.to_be_bytes()[8 - TIME..]);
        bytes[16 - NODE..].copy_from_slice(&self.node);
        let first = uuid(bytes, 8);
        let second = bound(&first, address);
        first + &second
    }

    /// Reads the stamp of a nonce that was made for `address` by [`nonce`](Self::nonce).
    ///
    /// # Errors
    /// Returns an error if the nonce was made for another address, or in another way.
    pub(crate) fn of(nonce: &str, address: &str) -> Result<Self, NonceError> {
        check(nonce, address)?;
        let (first, _) = nonce.split_at_checked(UUID).ok_or(NonceError::Form)?;
        if version(first) != Some(b'8') {
            return Err(NonceError::Form);
        }
        let digits: String = first.chars().filter(|digit| *digit != '-').collect();
        let bytes = hex::decode(digits).map_err(|_| NonceError::Form)?;
        let (mut time, mut node) = ([0; 8], [0; NODE]);
        time[8 - TIME..].copy_from_slice(bytes.get(..TIME).ok_or(NonceError::Form)?);
        node.copy_from_slice(bytes.get(16 - NODE..).ok_or(NonceError::Form)?);
        Ok(Self {
            time: u64::from_be_bytes(time),
            node,
        })
    }
}

/// Checks whether our key may sign `nonce` to join `address`, which is spelled as in `ss-join`.
///
/// # Errors
/// Returns an error if another party could use the signature for something else.
pub fn check(nonce: &str, address: &str) -> Result<(), NonceError> {
    let (first, second) = nonce.split_at_checked(UUID).ok_or(NonceError::Form)?;
    match (version(first), version(second)) {
        (Some(b'4'), Some(b'4')) => Ok(()),
        (Some(b'8'), Some(b'8')) if second == bound(first, address) => Ok(()),
        (Some(b'8'), Some(b'8')) => Err(NonceError::OtherAddress),
        _ => Err(NonceError::Form),
    }
}

/// Returns the second UUID for this first UUID and this address.
fn bound(first: &str, address: &str) -> String {
    let hash = Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(first)
        .chain_update(address)
        .finalize();
    let mut bytes = [0; 16];
    for (byte, hashed) in bytes.iter_mut().zip(hash) {
        *byte = hashed;
    }
    uuid(bytes, 8)
}

/// Returns the version digit, if `text` is a UUID of RFC 9562.
fn version(text: &str) -> Option<u8> {
    let bytes = text.as_bytes();
    let is_uuid_byte = |(i, byte): (usize, &u8)| match i {
        8 | 13 | 18 | 23 => *byte == b'-',
        VARIANT_AT => matches!(byte, b'8' | b'9' | b'a' | b'b' | b'A' | b'B'),
        _ => byte.is_ascii_hexdigit(),
    };
    let is_uuid = bytes.len() == UUID && bytes.iter().enumerate().all(is_uuid_byte);
    bytes.get(VERSION_AT).copied().filter(|_| is_uuid)
}

/// Returns the UUID of that version with these bytes, in lower case.
pub(crate) fn uuid(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = bytes[6] & 0x0f | version << 4;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADDRESS: &str = "/dns4/star.example/tcp/443/wss/p2p-websocket-star/ipfs/a";
    const NPM: &str = "51fe2479-9bc2-4b5e-ad06-b2fff93b3a8ffb8aa7d0-0685-42ff-9e74-90fac96ac513";

    #[test]
    fn a_new_nonce_is_good_for_its_address_only() {
        let nonce = new(ADDRESS);
        assert_eq!(nonce.len(), 72);
        assert_ne!(nonce, new(ADDRESS));
        assert_eq!(check(&nonce, ADDRESS), Ok(()));
        for other in [
            "",
            "/dns4/star.example/tcp/443/wss/p2p-websocket-star/ipfs/b",
            "/dns4/rogue.example/tcp/443/wss/p2p-websocket-star/ipfs/a",
            &ADDRESS[1..],
            &ADDRESS.to_uppercase(),
            &format!("{ADDRESS}/"),
        ] {
            assert_eq!(check(&nonce, other), Err(NonceError::OtherAddress));
        }
    }

    #[test]
    fn the_hash_is_what_it_was() {
        // Other versions of this crate must get the same hash. The expected value was computed with another
        // implementation.
        let first = "00000000-0000-8000-8000-000000000000";
        let second = bound(first, ADDRESS);
        assert_eq!(second, "f178a1ae-748b-85dd-a705-d487d47cbed9");
        assert_eq!(check(&format!("{first}{second}"), ADDRESS), Ok(()));
    }

    #[test]
    fn the_nonce_of_an_npm_server_is_good_for_any_address() {
        for nonce in [NPM.to_owned(), NPM.to_uppercase()] {
            assert_eq!(check(&nonce, ADDRESS), Ok(()));
            assert_eq!(check(&nonce, ""), Ok(()));
        }
    }

    #[test]
    fn mixed_and_other_versions_are_refused() {
        let (of_npm, ours) = (NPM, new(ADDRESS));
        let mixed = [
            format!("{}{}", &of_npm[..UUID], &ours[UUID..]),
            format!("{}{}", &ours[..UUID], &of_npm[UUID..]),
        ];
        let others = "012356790abcdef".chars().flat_map(|version| {
            let version = version.to_string();
            [VERSION_AT, UUID + VERSION_AT].map(|at| {
                let mut nonce = of_npm.to_owned();
                nonce.replace_range(at..=at, &version);
                nonce
            })
        });
        let variants = "01234567cdefCDEF-".chars().map(|variant| {
            let mut nonce = of_npm.to_owned();
            nonce.replace_range(VARIANT_AT..=VARIANT_AT, &variant.to_string());
            nonce
        });
        for nonce in mixed.into_iter().chain(others).chain(variants) {
            assert_eq!(check(&nonce, ADDRESS), Err(NonceError::Form), "{nonce}");
        }
        let upper = ours.to_uppercase();
        assert_eq!(check(&upper, ADDRESS), Err(NonceError::OtherAddress));
    }

    #[test]
    fn what_is_not_two_uuids_is_refused() {
        for nonce in [
            "",
            &NPM[..36],
            &NPM[..71],
            &format!("{NPM}a"),
            &format!("{NPM}{NPM}"),
            &NPM.replace('-', "0"),
            &NPM.replace('f', "g"),
            &format!("{}é", &NPM[..70]),
            &format!("{}é{}", &NPM[..35], &NPM[37..]),
            "noise-libp2p-static-key:5b5e-ad06-b2fff93b3a8ffb8aa7d0-0685-42ff-9e74-90",
        ] {
            assert_eq!(check(nonce, ADDRESS), Err(NonceError::Form), "{nonce}");
        }
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn a_stamp_is_in_a_nonce_that_every_client_signs() {
        let stamp = Stamp {
            time: 0x0192_3456_789a,
            node: [1, 2, 3, 4, 255],
        };
        let nonce = stamp.nonce(ADDRESS);
        assert_eq!(check(&nonce, ADDRESS), Ok(()));
        assert_ne!(nonce, stamp.nonce(ADDRESS));
        assert_eq!(Stamp::of(&nonce, ADDRESS), Ok(stamp));
        assert_eq!(Stamp::of(&nonce, "/other"), Err(NonceError::OtherAddress));
        assert_eq!(Stamp::of(NPM, ADDRESS), Err(NonceError::Form));
    }

    proptest! {
        #[cfg(feature = "cluster")]
        #[test]
        fn every_stamp_is_read_as_it_was_written(time in 0_u64..1 << 48, node: [u8; NODE]) {
            let stamp = Stamp { time, node };
            prop_assert_eq!(Stamp::of(&stamp.nonce(ADDRESS), ADDRESS), Ok(stamp));
        }

        #[cfg(feature = "cluster")]
        #[test]
        fn any_text_has_a_stamp_or_none(nonce in "[0-9a-f-]{0,80}|.{0,80}") {
            let _ = Stamp::of(&nonce, ADDRESS);
        }

        #[test]
        fn no_other_second_half_is_signed(bytes: [u8; 16]) {
            let nonce = new(ADDRESS);
            let (first, second) = nonce.split_at(UUID);
            let other = uuid(bytes, 8);
            prop_assume!(other != second);
            let forged = format!("{first}{other}");
            prop_assert_eq!(check(&forged, ADDRESS), Err(NonceError::OtherAddress));
        }

        #[test]
        fn any_text_is_judged(nonce in ".{0,80}", address in ".*") {
            let _ = check(&nonce, &address);
        }
    }
}
