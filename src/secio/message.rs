//! The two messages of the handshake, as protobuf.
//!
//! ```text
//! message Propose  { bytes rand = 1; bytes pubkey = 2; string exchanges = 3; string ciphers = 4; string hashes = 5; }
//! message Exchange { bytes epubkey = 1; bytes signature = 2; }
//! ```
//!
//! Every field is length-delimited and required. Decoding borrows from the input and allocates nothing. The caller that
//! reads the input from the network bounds its length.

use super::error::MessageError;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// The first message, in both directions: the identity and the supported algorithms of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propose<'a> {
    /// The nonce.
    pub rand: &'a [u8],
    /// The identity key, as libp2p's protobuf `PublicKey`.
    pub pubkey: &'a [u8],
    /// The curves, comma-separated, best first.
    pub exchanges: &'a str,
    /// The ciphers, comma-separated, best first.
    pub ciphers: &'a str,
    /// The hashes of the MAC, comma-separated, best first.
    pub hashes: &'a str,
}

impl<'a> Propose<'a> {
    /// Decodes a message. Unknown fields are skipped, and the last one of a repeated field counts, as in any protobuf
    /// decoder.
    pub fn decode(message: &'a [u8]) -> Result<Self, MessageError> {
        let [rand, pubkey, exchanges, ciphers, hashes] = fields(message)?;
        Ok(Self {
            rand: rand.ok_or(MessageError::Missing("rand"))?,
            pubkey: pubkey.ok_or(MessageError::Missing("pubkey"))?,
            exchanges: text(exchanges, "exchanges")?,
            ciphers: text(ciphers, "ciphers")?,
            hashes: text(hashes, "hashes")?,
        })
    }

    /// Encodes the message.
    pub fn encode(&self) -> Vec<u8> {
        encode([
            self.rand,
            self.pubkey,
            self.exchanges.as_bytes(),
            self.ciphers.as_bytes(),
            self.hashes.as_bytes(),
        ])
    }
}

/// The second message, in both directions: a key for this connection only, signed by the identity key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange<'a> {
    /// The ephemeral key: a point of the curve, in SEC 1 form.
    pub epubkey: &'a [u8],
    /// The signature of the identity key over own proposal ‖ the other's proposal ‖ `epubkey`.
    pub signature: &'a [u8],
}

impl<'a> Exchange<'a> {
    /// Decodes a message; see [`Propose::decode`].
    pub fn decode(message: &'a [u8]) -> Result<Self, MessageError> {
        let [epubkey, signature] = fields(message)?;
        Ok(Self {
            epubkey: epubkey.ok_or(MessageError::Missing("epubkey"))?,
            signature: signature.ok_or(MessageError::Missing("signature"))?,
        })
    }

    /// Encodes the message.
    pub fn encode(&self) -> Vec<u8> {
        encode([self.epubkey, self.signature])
    }
}

/// Returns the fields 1 to `N`.
fn fields<const N: usize>(mut rest: &[u8]) -> Result<[Option<&[u8]>; N], MessageError> {
    let mut found = [None; N];
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(MessageError::Malformed);
        }
        let slot = usize::try_from(number - 1)
            .ok()
            .and_then(|index| found.get_mut(index));
        match (tag & 7, slot) {
            (LENGTH_DELIMITED, slot) => {
                let len = varint(&mut rest)?;
                let value = take(&mut rest, len)?;
                if let Some(slot) = slot {
                    *slot = Some(value);
                }
            }
            // Known fields have this type only.
            (_, Some(_)) => return Err(MessageError::Malformed),
            (VARINT, None) => {
                varint(&mut rest)?;
            }
            (FIXED64, None) => {
                take(&mut rest, 8)?;
            }
            (FIXED32, None) => {
                take(&mut rest, 4)?;
            }
            _ => return Err(MessageError::Malformed),
        }
    }
    Ok(found)
}

fn varint(rest: &mut &[u8]) -> Result<u64, MessageError> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or(MessageError::Truncated)?;
        *rest = tail;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if (bits << shift) >> shift != bits {
            return Err(MessageError::Malformed);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(MessageError::Malformed)
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], MessageError> {
    let (value, tail) = usize::try_from(len)
        .ok()
        .and_then(|len| rest.split_at_checked(len))
        .ok_or(MessageError::Truncated)?;
    *rest = tail;
    Ok(value)
}

fn text<'a>(value: Option<&'a [u8]>, field: &'static str) -> Result<&'a str, MessageError> {
    std::str::from_utf8(value.ok_or(MessageError::Missing(field))?)
        .map_err(|_| MessageError::NotText(field))
}

fn encode<const N: usize>(fields: [&[u8]; N]) -> Vec<u8> {
    let mut message = Vec::with_capacity(fields.iter().map(|value| value.len() + 11).sum());
    for (number, value) in (1..).zip(fields) {
        put_varint(&mut message, (number << 3) | LENGTH_DELIMITED);
        put_varint(&mut message, value.len() as u64);
        message.extend_from_slice(value);
    }
    message
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const PROPOSE: Propose<'static> = Propose {
        rand: b"0123456789abcdef",
        pubkey: b"key",
        exchanges: "P-256,P-384,P-521",
        ciphers: "AES-256,AES-128",
        hashes: "SHA256,SHA512",
    };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn a_proposal_survives_encoding(
            rand in vec(any::<u8>(), 0..300),
            pubkey in vec(any::<u8>(), 0..300),
            lists in [".{0,200}", ".{0,200}", ".{0,200}"],
        ) {
            let propose = Propose {
                rand: &rand,
                pubkey: &pubkey,
                exchanges: &lists[0],
                ciphers: &lists[1],
                hashes: &lists[2],
            };
            let message = propose.encode();
            prop_assert_eq!(Propose::decode(&message), Ok(propose));
        }

        #[test]
        fn an_exchange_survives_encoding(
            epubkey in vec(any::<u8>(), 0..300),
            signature in vec(any::<u8>(), 0..20_000),
        ) {
            let exchange = Exchange { epubkey: &epubkey, signature: &signature };
            let message = exchange.encode();
            prop_assert_eq!(Exchange::decode(&message), Ok(exchange));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            let _ = Propose::decode(&bytes);
            let _ = Exchange::decode(&bytes);
        }
    }

    #[test]
    fn a_cut_message_lacks_something() {
        let message = PROPOSE.encode();
        for len in 0..message.len() {
            assert!(Propose::decode(&message[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn unknown_fields_are_skipped_whatever_their_type() {
        let mut message = vec![
            6 << 3,
            0x96,
            0x01, // varint
            7 << 3 | 1,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0, // 64 bits
            8 << 3 | 5,
            0,
            0,
            0,
            0, // 32 bits
            9 << 3 | 2,
            2,
            0,
            0, // bytes
        ];
        message.extend(PROPOSE.encode());
        assert_eq!(Propose::decode(&message), Ok(PROPOSE));
    }

    #[test]
    fn what_is_no_protobuf_is_refused() {
        for (bytes, error) in [
            (&[0x0a][..], MessageError::Truncated),
            (&[0x0a, 0x05, 1], MessageError::Truncated),
            (
                &[
                    0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                ],
                MessageError::Truncated,
            ),
            (
                &[
                    0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
                ],
                MessageError::Malformed,
            ),
            (&[0x80; 11], MessageError::Malformed),
            (&[0x02, 0x00], MessageError::Malformed),
            (&[0x08, 0x00], MessageError::Malformed),
            (&[0x0b], MessageError::Malformed),
            (&[], MessageError::Missing("epubkey")),
            (&[0x0a, 0x00], MessageError::Missing("signature")),
        ] {
            assert_eq!(Exchange::decode(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn a_list_that_is_no_text_is_refused() {
        let message = encode([b"", b"", b"\xff", b"", b""]);
        assert_eq!(
            Propose::decode(&message),
            Err(MessageError::NotText("exchanges"))
        );
    }
}
