//! What a peer signs to join: two UUIDs, one behind the other, 72 characters.
//!
//! The signature has no domain separation, so the form is all that tells a nonce from something else.
//! The npm server sends two UUIDs of version 4, which say nothing about the join. A rogue rendezvous
//! can therefore pass on the nonce of another one, and join there with our signature. The rendezvous of
//! this crate sends two of version 8, and the second is a hash of the first and of the address that is
//! joined: whoever passes that on asks for a signature of another address than ours.

use sha2::{Digest as _, Sha256};

/// The length of a UUID as text, in bytes.
const UUID: usize = 36;
/// Where a UUID says its version, and its variant.
const VERSION_AT: usize = 14;
const VARIANT_AT: usize = 19;
/// What the hash is of, beside the first UUID and the address: no other hash is to be like it.
const DOMAIN: &[u8] = b"libp2p-websocket-star join nonce\0";

/// Why a nonce must not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NonceError {
    /// It is not two UUIDs, both of version 4 or both of version 8.
    #[error("not two UUIDs")]
    Form,
    /// It was made for another address.
    #[error("made for another address")]
    OtherAddress,
}

/// A new nonce for a join of `address`, as it is written in `ss-join`.
#[cfg_attr(
    not(feature = "rendezvous-server"),
    allow(dead_code, reason = "only the rendezvous asks for signatures")
)]
pub(crate) fn new(address: &str) -> String {
    let first = uuid(rand::random(), 8);
    let second = bound(&first, address);
    first + &second
}

/// Whether our key may sign `nonce` to join `address`, as it is written in `ss-join`.
///
/// # Errors
/// If somebody could use the signature for something else.
pub fn check(nonce: &str, address: &str) -> Result<(), NonceError> {
    let (first, second) = nonce.split_at_checked(UUID).ok_or(NonceError::Form)?;
    match (version(first), version(second)) {
        (Some(b'4'), Some(b'4')) => Ok(()),
        (Some(b'8'), Some(b'8')) if second == bound(first, address) => Ok(()),
        (Some(b'8'), Some(b'8')) => Err(NonceError::OtherAddress),
        _ => Err(NonceError::Form),
    }
}

/// The second UUID that belongs to the first one and to an address.
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

/// The digit of the version, if `text` is a UUID of RFC 9562.
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

/// The UUID of that version with these bytes, in lower case.
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
        // Other versions of this crate must find the same; computed with another implementation.
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

    proptest! {
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
