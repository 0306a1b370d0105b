//! Engine.IO protocols 3 and 4 over WebSocket: one packet per message.
//!
//! Text frames are the same in both versions. The versions differ in the side that sends heartbeats, in the first byte
//! of a binary frame, and in the data of the open packet: see [`Version`].

use std::time::Duration;

use base64::{
    alphabet,
    engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::{Buf, Bytes};
use serde_json::Value;

use super::{ProtocolError, excerpt};

/// A version of the protocol, and with it a version of Socket.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// Engine.IO 3 and Socket.IO 4 (socket.io 2.x), as in the deployed websocket-star. The client sends pings, and a
    /// binary frame begins with 0x04.
    #[default]
    V3,
    /// Engine.IO 4 and Socket.IO 5 (socket.io 3 and newer). The server sends pings, a binary frame contains only the
    /// data, and the client asks for the namespace.
    V4,
}

impl Version {
    /// Returns the version that the `EIO` parameter of an upgrade request asks for, if it is a known one.
    pub fn of_parameter(eio: &str) -> Option<Self> {
        match eio {
            "3" => Some(Self::V3),
            "4" => Some(Self::V4),
            _ => None,
        }
    }

    /// Returns the number of bytes before the data of a binary frame.
    pub fn binary_prefix(self) -> usize {
        match self {
            Self::V3 => 1,
            Self::V4 => 0,
        }
    }

    /// Returns whether `frame` may be a binary frame of this version.
    pub fn is_binary_message(self, frame: &[u8]) -> bool {
        match self {
            Self::V3 => frame.first() == Some(&BINARY_MESSAGE),
            Self::V4 => true,
        }
    }

    /// Converts a binary frame of this version to another version. Copies the data only if a byte must be inserted
    /// before it.
    pub fn convert_binary(self, mut frame: Bytes, to: Self) -> Bytes {
        match (self, to) {
            (Self::V3, Self::V3) | (Self::V4, Self::V4) => frame,
            (Self::V3, Self::V4) => {
                frame.advance(frame.len().min(1));
                frame
            }
            (Self::V4, Self::V3) => {
                let mut prefixed = Vec::with_capacity(frame.len() + 1);
                prefixed.push(BINARY_MESSAGE);
                prefixed.extend_from_slice(&frame);
                prefixed.into()
            }
        }
    }

    /// Encodes a binary frame of this version as a text frame, for a client that does not accept binary frames.
    pub fn encode_base64(self, frame: &[u8]) -> String {
        let data = frame.get(self.binary_prefix()..).unwrap_or_default();
        let mut text = match self {
            Self::V3 => "b4".to_owned(),
            Self::V4 => "b".to_owned(),
        };
        BASE64.encode_string(data, &mut text);
        text
    }

    /// Decodes the data of a [`Packet::Base64`] to a binary frame of this version.
    ///
    /// # Errors
    /// Returns [`ProtocolError::Base64`] if the data is not base64, and [`ProtocolError::BinaryPrefix`] for another
    /// packet type in version 3.
    pub fn decode_base64(self, text: &str) -> Result<Bytes, ProtocolError> {
        let (mut frame, text) = match self {
            Self::V3 => {
                let data = text.strip_prefix('4').ok_or(ProtocolError::BinaryPrefix)?;
                (vec![BINARY_MESSAGE], data)
            }
            Self::V4 => (Vec::new(), text),
        };
        let decoded = BASE64.decode_vec(text, &mut frame);
        decoded.map_err(|_| ProtocolError::Base64)?;
        Ok(frame.into())
    }
}

/// The path and query of the WebSocket upgrade request.
pub const UPGRADE_PATH: &str = "/socket.io/?EIO=3&transport=websocket";

/// The type of a message packet, as the first byte of a binary frame.
pub const BINARY_MESSAGE: u8 = 4;

/// Base64 as it is written and read here. Output is padded. Input may lack the padding, because some clients omit it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The longest open packet that is parsed, in bytes. The deployed server's has about 100.
const MAX_OPEN: usize = 4096;

/// The shortest and the longest heartbeat times that a server may ask for. Values outside are moved to the nearer
/// limit.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3600));

/// One packet in a text frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`: the server opens the session.
    Open(Open),
    /// `1`: the other side closes the session.
    Close,
    /// `2`: a heartbeat, with any data that follows.
    Ping(&'a str),
    /// `3`: the answer to a heartbeat.
    Pong(&'a str),
    /// `4`: a Socket.IO packet.
    Message(&'a str),
    /// `5`: the end of a transport upgrade. It has no meaning on a WebSocket.
    Upgrade,
    /// `6`: no operation.
    Noop,
    /// `b`: a binary frame as text; see [`Version::decode_base64`].
    Base64(&'a str),
}

/// The data of the packet with which a server opens a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The session's id.
    pub sid: String,
    /// The interval of the pings. In version 3 the client sends them, in version 4 the server.
    pub ping_interval: Duration,
    /// The maximum time for an answer. Without an answer, the link is dead.
    pub ping_timeout: Duration,
    /// The maximum length of a message to the server, in bytes. Servers send it from version 4 on.
    pub max_payload: Option<u64>,
}

impl<'a> Packet<'a> {
    /// Decodes a text frame.
    ///
    /// # Errors
    /// Returns [`ProtocolError::EngineIo`] for an unknown type, and [`ProtocolError::Open`] for an open packet without
    /// a session id or with intervals that are not whole milliseconds.
    pub fn decode(text: &'a str) -> Result<Self, ProtocolError> {
        let unknown = || ProtocolError::EngineIo(excerpt(text, 32));
        let (kind, rest) = text.split_at_checked(1).ok_or_else(unknown)?;
        Ok(match kind {
            "0" => Self::Open(Open::decode(rest)?),
            "1" => Self::Close,
            "2" => Self::Ping(rest),
            "3" => Self::Pong(rest),
            "4" => Self::Message(rest),
            "5" => Self::Upgrade,
            "6" => Self::Noop,
            "b" => Self::Base64(rest),
            _ => return Err(unknown()),
        })
    }

    /// Encodes the packet as a text frame.
    pub fn encode(&self) -> String {
        match self {
            Self::Open(open) => open.encode(),
            Self::Close => "1".to_owned(),
            Self::Ping(data) => format!("2{data}"),
            Self::Pong(data) => format!("3{data}"),
            Self::Message(data) => format!("4{data}"),
            Self::Upgrade => "5".to_owned(),
            Self::Noop => "6".to_owned(),
            Self::Base64(data) => format!("b{data}"),
        }
    }
}

impl Open {
    fn decode(json: &str) -> Result<Self, ProtocolError> {
        if json.len() > MAX_OPEN {
            return Err(ProtocolError::Open(format!(
                "it is too long: {} bytes",
                json.len()
            )));
        }
        let value: Value =
            serde_json::from_str(json).map_err(|error| ProtocolError::Open(error.to_string()))?;
        let interval = |key: &str| {
            let millis = value.get(key).and_then(Value::as_u64);
            let millis = millis.ok_or_else(|| {
                ProtocolError::Open(format!("{key} is not a whole number of milliseconds"))
            })?;
            Ok(Duration::from_millis(millis).clamp(INTERVALS.0, INTERVALS.1))
        };
        let sid = value.get("sid").and_then(Value::as_str);
        Ok(Self {
            sid: sid
                .ok_or_else(|| ProtocolError::Open("sid is missing".to_owned()))?
                .to_owned(),
            ping_interval: interval("pingInterval")?,
            ping_timeout: interval("pingTimeout")?,
            max_payload: value.get("maxPayload").and_then(Value::as_u64),
        })
    }

    fn encode(&self) -> String {
        let mut json = serde_json::json!({
            "sid": self.sid,
            "upgrades": [],
            "pingInterval": millis(self.ping_interval),
            "pingTimeout": millis(self.ping_timeout),
        });
        if let (Some(max), Some(json)) = (self.max_payload, json.as_object_mut()) {
            json.insert("maxPayload".to_owned(), max.into());
        }
        format!("0{json}")
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Removes the message type from a binary frame of version 3.
///
/// # Errors
/// Returns [`ProtocolError::BinaryPrefix`] if the frame is empty or of another type.
pub fn decode_binary(mut frame: Bytes) -> Result<Bytes, ProtocolError> {
    if !Version::V3.is_binary_message(&frame) {
        return Err(ProtocolError::BinaryPrefix);
    }
    frame.advance(1);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet() -> impl Strategy<Value = (u8, String, u64, u64)> {
        (0u8..8, ".*", 50u64..3_600_000, 50u64..3_600_000)
    }

    fn version() -> impl Strategy<Value = Version> {
        prop_oneof![Just(Version::V3), Just(Version::V4)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn what_is_encoded_decodes_to_itself(
            (kind, text, interval, timeout) in packet(),
            max_payload: Option<u64>,
        ) {
            let packet = match kind {
                0 => Packet::Open(Open {
                    sid: text.clone(),
                    ping_interval: Duration::from_millis(interval),
                    ping_timeout: Duration::from_millis(timeout),
                    max_payload,
                }),
                1 => Packet::Close,
                2 => Packet::Ping(&text),
                3 => Packet::Pong(&text),
                4 => Packet::Message(&text),
                5 => Packet::Upgrade,
                6 => Packet::Base64(&text),
                _ => Packet::Noop,
            };
            let text = packet.encode();
            prop_assert_eq!(Packet::decode(&text), Ok(packet));
        }

        #[test]
        fn a_binary_frame_keeps_its_data_through_both_versions(
            data: Vec<u8>,
            from in version(),
            to in version(),
        ) {
            let mut frame = if from == Version::V3 { vec![BINARY_MESSAGE] } else { Vec::new() };
            frame.extend_from_slice(&data);
            let frame = Bytes::from(frame);
            let converted = from.convert_binary(frame.clone(), to);
            prop_assert!(to.is_binary_message(&converted));
            prop_assert_eq!(&converted[to.binary_prefix()..], &data[..]);
            prop_assert_eq!(to.convert_binary(converted, from), frame);
        }

        #[test]
        fn a_binary_frame_as_text_becomes_the_same_again(data: Vec<u8>, version in version()) {
            let mut frame = vec![BINARY_MESSAGE; version.binary_prefix()];
            frame.extend_from_slice(&data);
            let text = version.encode_base64(&frame);
            let Ok(Packet::Base64(base64)) = Packet::decode(&text) else {
                panic!("{text}")
            };
            prop_assert_eq!(version.decode_base64(base64), Ok(frame.into()));
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in ".*") {
            let _ = Packet::decode(&text);
        }
    }

    #[test]
    fn the_recorded_open_packet_is_understood() {
        let text = r#"0{"sid":"md-7yhvk2Xu7X0wrAAAI","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
        let open = Open {
            sid: "md-7yhvk2Xu7X0wrAAAI".to_owned(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            max_payload: None,
        };
        assert_eq!(Packet::decode(text), Ok(Packet::Open(open)));
    }

    #[test]
    fn a_binary_frame_is_copied_only_where_it_grows() {
        let frame = Bytes::from_static(b"\x04ab");
        let same = Version::V3.convert_binary(frame.clone(), Version::V3);
        assert_eq!(same.as_ptr(), frame.as_ptr());
        let shorter = Version::V3.convert_binary(frame.clone(), Version::V4);
        assert_eq!(shorter.as_ptr(), frame[1..].as_ptr());
        let same = Version::V4.convert_binary(frame.clone(), Version::V4);
        assert_eq!(same.as_ptr(), frame.as_ptr());
    }

    #[test]
    fn binary_as_text_is_what_npm_writes() {
        let frame = Bytes::from_static(b"\x04hello");
        assert_eq!(Version::V3.encode_base64(&frame), "b4aGVsbG8=");
        assert_eq!(Version::V4.encode_base64(b"hello"), "baGVsbG8=");
        for text in ["4aGVsbG8=", "4aGVsbG8"] {
            assert_eq!(Version::V3.decode_base64(text), Ok(frame.clone()));
        }
        for text in [
            "4aGVsbG8==",
            "4aGVs bG8=",
            "4aGVsbG8=\n",
            "4a",
            "4%%%%",
            "4é",
        ] {
            let refused = Version::V3.decode_base64(text);
            assert_eq!(refused, Err(ProtocolError::Base64), "{text}");
        }
        for text in ["", "2cHJvYmU=", "aGVsbG8="] {
            let refused = Version::V3.decode_base64(text);
            assert_eq!(refused, Err(ProtocolError::BinaryPrefix), "{text}");
        }
    }

    #[test]
    fn a_heartbeat_that_would_spin_or_never_come_is_moved_into_bounds() {
        let text = r#"0{"sid":"a","pingInterval":0,"pingTimeout":18446744073709551615}"#;
        let Ok(Packet::Open(open)) = Packet::decode(text) else {
            panic!("an open packet")
        };
        assert_eq!((open.ping_interval, open.ping_timeout), INTERVALS);
    }

    #[test]
    fn malformed_packets_are_refused() {
        for text in ["", "7", "é", "x2"] {
            assert!(
                matches!(Packet::decode(text), Err(ProtocolError::EngineIo(_))),
                "{text}"
            );
        }
        for text in [
            "0",
            "0{",
            "0[]",
            r#"0{"pingInterval":1,"pingTimeout":1}"#,
            r#"0{"sid":"a","pingInterval":-1,"pingTimeout":1}"#,
            r#"0{"sid":"a","pingInterval":1.5,"pingTimeout":1}"#,
        ] {
            assert!(
                matches!(Packet::decode(text), Err(ProtocolError::Open(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_binary_frame_must_carry_the_message_type() {
        assert_eq!(
            decode_binary(Bytes::from_static(b"\x04ab")),
            Ok(Bytes::from_static(b"ab"))
        );
        assert_eq!(decode_binary(Bytes::from_static(b"\x04")), Ok(Bytes::new()));
        for frame in [&b""[..], b"\x03a", b"b4YQ=="] {
            let frame = Bytes::from_static(frame);
            assert_eq!(decode_binary(frame), Err(ProtocolError::BinaryPrefix));
        }
    }
}
