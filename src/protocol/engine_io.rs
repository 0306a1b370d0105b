//! Engine.IO protocol 3, WebSocket framing: one packet a message.

use std::time::Duration;

use bytes::{Buf, Bytes};
use serde_json::Value;

use super::{ProtocolError, excerpt};

/// The path and query of the WebSocket upgrade request.
pub const UPGRADE_PATH: &str = "/socket.io/?EIO=3&transport=websocket";

/// The type of a message packet as the first byte of a binary frame.
pub const BINARY_MESSAGE: u8 = 4;

/// The longest open packet that is looked at, in bytes; the deployed server's has about 100.
const MAX_OPEN: usize = 4096;

/// The shortest and longest heartbeat a server may ask for; anything else is moved to the nearer end.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3600));

/// One packet of a text frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`: the server opens the session.
    Open(Open),
    /// `1`: the other side closes the session.
    Close,
    /// `2`: a heartbeat, with whatever follows it.
    Ping(&'a str),
    /// `3`: the answer to a heartbeat.
    Pong(&'a str),
    /// `4`: a Socket.IO packet.
    Message(&'a str),
    /// `5`: the end of a transport upgrade; meaningless on a WebSocket.
    Upgrade,
    /// `6`: nothing.
    Noop,
}

/// What the server says when it opens a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The session's id.
    pub sid: String,
    /// How often the client is to send a ping.
    pub ping_interval: Duration,
    /// How long an answer may take until the link is dead.
    pub ping_timeout: Duration,
}

impl<'a> Packet<'a> {
    /// Decodes a text frame.
    ///
    /// # Errors
    /// [`ProtocolError::EngineIo`] for an unknown type, [`ProtocolError::Open`] for an open packet
    /// without a session id or with intervals that are no whole milliseconds.
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
        }
    }
}

impl Open {
    fn decode(json: &str) -> Result<Self, ProtocolError> {
        if json.len() > MAX_OPEN {
            return Err(ProtocolError::Open(format!("{} bytes", json.len())));
        }
        let value: Value =
            serde_json::from_str(json).map_err(|error| ProtocolError::Open(error.to_string()))?;
        let interval = |key: &str| {
            let millis = value.get(key).and_then(Value::as_u64);
            let millis = millis.ok_or_else(|| {
                ProtocolError::Open(format!("{key} is not in whole milliseconds"))
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
        })
    }

    fn encode(&self) -> String {
        let json = serde_json::json!({
            "sid": self.sid,
            "upgrades": [],
            "pingInterval": millis(self.ping_interval),
            "pingTimeout": millis(self.ping_timeout),
        });
        format!("0{json}")
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Takes the message type off a binary frame.
///
/// # Errors
/// [`ProtocolError::BinaryPrefix`] if the frame is empty or of another type.
pub fn decode_binary(mut frame: Bytes) -> Result<Bytes, ProtocolError> {
    if frame.first() != Some(&BINARY_MESSAGE) {
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
        (0u8..7, ".*", 50u64..3_600_000, 50u64..3_600_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn what_is_encoded_decodes_to_itself((kind, text, interval, timeout) in packet()) {
            let packet = match kind {
                0 => Packet::Open(Open {
                    sid: text.clone(),
                    ping_interval: Duration::from_millis(interval),
                    ping_timeout: Duration::from_millis(timeout),
                }),
                1 => Packet::Close,
                2 => Packet::Ping(&text),
                3 => Packet::Pong(&text),
                4 => Packet::Message(&text),
                5 => Packet::Upgrade,
                _ => Packet::Noop,
            };
            let text = packet.encode();
            prop_assert_eq!(Packet::decode(&text), Ok(packet));
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
        };
        assert_eq!(Packet::decode(text), Ok(Packet::Open(open)));
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
