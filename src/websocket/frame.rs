//! The header of a frame (RFC 6455, section 5.2).

use super::{Role, WebSocketError};

/// The longest header in bytes: two, plus eight of length and four of mask.
pub(super) const MAX_HEADER: usize = 14;
/// The longest payload of a control frame, in bytes.
pub(super) const MAX_CONTROL: usize = 125;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn to_bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether this is the last or only frame of its message.
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<[u8; 4]>,
    /// The length of the payload, in bytes.
    pub(super) len: usize,
}

impl Header {
    /// Decodes the header at the beginning of `bytes`. Returns it with the number of bytes that it takes, or `None` if
    /// it is not complete yet. `role` is our own role.
    pub(super) fn decode(
        bytes: &[u8],
        role: Role,
    ) -> Result<Option<(Self, usize)>, WebSocketError> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(WebSocketError::ReservedBits);
        }
        let (fin, bits) = (first & 0x80 != 0, first & 0x0f);
        let opcode = Opcode::from_bits(bits).ok_or(WebSocketError::Opcode(bits))?;
        let masked = second & 0x80 != 0;
        if masked != (role == Role::Server) {
            return Err(WebSocketError::Mask);
        }
        let short = second & 0x7f;
        if opcode.is_control() && (!fin || usize::from(short) > MAX_CONTROL) {
            return Err(WebSocketError::Control);
        }
        let (len, rest, least, most) = match short {
            126 => match rest.split_first_chunk() {
                Some((len, rest)) => (u16::from_be_bytes(*len).into(), rest, 126, u64::MAX),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest, 1 << 16, u64::MAX >> 1),
                None => return Ok(None),
            },
            short => (short.into(), rest, 0, u64::MAX),
        };
        if !(least..=most).contains(&len) {
            return Err(WebSocketError::Length);
        }
        // A length that does not fit in memory exceeds every limit in any case.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let (mask, rest) = match masked.then(|| rest.split_first_chunk()) {
            None => (None, rest),
            Some(Some((mask, rest))) => (Some(*mask), rest),
            Some(None) => return Ok(None),
        };
        let header = Self {
            fin,
            opcode,
            mask,
            len,
        };
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// Appends the header.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        to.push(self.opcode.to_bits() | if self.fin { 0x80 } else { 0 });
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        match self.len {
            0..=125 => to.push(masked | self.len as u8),
            126..=0xffff => {
                to.push(masked | 126);
                to.extend_from_slice(&(self.len as u16).to_be_bytes());
            }
            _ => {
                to.push(masked | 127);
                to.extend_from_slice(&(self.len as u64).to_be_bytes());
            }
        }
        to.extend(self.mask.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opcode() -> impl Strategy<Value = Opcode> {
        (0..16_u8).prop_filter_map("unknown", Opcode::from_bits)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_once_it_is_complete(
            opcode in opcode(),
            fin: bool,
            mask: Option<[u8; 4]>,
            shift in 0..usize::BITS,
            bits: usize,
        ) {
            let control = opcode.is_control();
            let len = (bits >> shift) % if control { MAX_CONTROL + 1 } else { usize::MAX >> 1 };
            let header = Header { fin: fin || control, opcode, mask, len };
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            prop_assert!(bytes.len() <= MAX_HEADER);
            let (role, other) = match mask {
                Some(_) => (Role::Server, Role::Client),
                None => (Role::Client, Role::Server),
            };
            for end in 0..bytes.len() {
                prop_assert_eq!(Header::decode(&bytes[..end], role), Ok(None));
            }
            let n = bytes.len();
            bytes.push(7);
            prop_assert_eq!(Header::decode(&bytes, role), Ok(Some((header, n))));
            prop_assert_eq!(Header::decode(&bytes, other), Err(WebSocketError::Mask));
        }
    }

    #[test]
    fn what_the_rfc_forbids_is_an_error() {
        let decode = |bytes: [u8; 2]| Header::decode(&bytes, Role::Client).map(drop);
        for bit in [0x40, 0x20, 0x10] {
            assert_eq!(decode([0x82 | bit, 0]), Err(WebSocketError::ReservedBits));
        }
        for opcode in [3, 7, 11, 15] {
            let unknown = Err(WebSocketError::Opcode(opcode));
            assert_eq!(decode([0x80 | opcode, 0]), unknown);
        }
        assert_eq!(decode([0x09, 0]), Err(WebSocketError::Control), "a part");
        assert_eq!(decode([0x89, 126]), Err(WebSocketError::Control), "long");
    }
}
