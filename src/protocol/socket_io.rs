//! Socket.IO protocols 4 and 5: the packets inside Engine.IO messages, for the namespace `/`.
//!
//! The two versions differ only in `0`. In version 4 the server sends it without data. In version 5 the client sends it
//! first to ask for the namespace, with credentials if it has any, and the server answers with a session id.
//!
//! Legal packets that websocket-star does not use are decoded only as far as a link needs to ignore them: see
//! [`Packet::Foreign`] and [`Packet::ForeignConnect`].

use super::{ProtocolError, engine_io::Version};

/// The maximum number of binary messages that one packet may announce. The deployed software announces one.
pub const MAX_ATTACHMENTS: usize = 16;

/// One packet. Its JSON stays text; [`event`](super::event) interprets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`: the namespace is connected, or the client asks for it. In version 5 it carries a JSON object.
    Connect(Option<&'a str>),
    /// `1`: the namespace is disconnected.
    Disconnect,
    /// `2`: `["name", args…]`, with an id if the sender asks for an acknowledgement.
    Event {
        /// The id of the acknowledgement to answer with.
        ack: Option<u64>,
        /// The JSON array.
        json: &'a str,
    },
    /// `3`: the answer `[args…]` to an event.
    Ack {
        /// The id that the event carried.
        id: u64,
        /// The JSON array.
        json: &'a str,
    },
    /// `4`: the server refuses the namespace. The data is JSON.
    Error(&'a str),
    /// `5`: an event with one binary attachment, which follows in its own frame.
    BinaryEvent {
        /// The id of the acknowledgement to answer with.
        ack: Option<u64>,
        /// The JSON array, with a placeholder where the attachment belongs.
        json: &'a str,
    },
    /// `0` of another namespace: its name without the query. The answer is [`refuse_namespace`].
    ForeignConnect(&'a str),
    /// A packet to ignore: any other packet of another namespace, a binary event with no or several attachments, or a
    /// binary acknowledgement.
    Foreign {
        /// The number of binary messages that follow and belong to the packet; at most [`MAX_ATTACHMENTS`].
        attachments: usize,
    },
}

impl<'a> Packet<'a> {
    /// Decodes the data of an Engine.IO message.
    ///
    /// # Errors
    /// Returns [`ProtocolError::SocketIo`] for another type or a malformed number, and [`ProtocolError::Attachments`]
    /// for more than [`MAX_ATTACHMENTS`].
    pub fn decode(data: &'a str) -> Result<Self, ProtocolError> {
        let (kind, rest) = data
            .split_at_checked(1)
            .ok_or(ProtocolError::SocketIo("empty"))?;
        let (attachments, rest) = match kind {
            "5" | "6" => attachments(rest)?,
            _ => (0, rest),
        };
        let (namespace, rest) = namespace(rest);
        let packet = Self::decode_rest(kind, attachments, rest)?;
        Ok(match (namespace, packet) {
            ("/", packet) => packet,
            (name, Self::Connect(_)) => Self::ForeignConnect(name),
            (_, _) => Self::Foreign { attachments },
        })
    }

    /// Decodes what follows the namespace.
    fn decode_rest(kind: &str, attachments: usize, rest: &'a str) -> Result<Self, ProtocolError> {
        match kind {
            "0" if rest.is_empty() => Ok(Self::Connect(None)),
            "0" if rest.starts_with('{') => Ok(Self::Connect(Some(rest))),
            "1" if rest.is_empty() => Ok(Self::Disconnect),
            "0" | "1" => Err(ProtocolError::SocketIo(
                "unexpected data in a connect or disconnect packet",
            )),
            "4" => Ok(Self::Error(rest)),
            "2" | "5" => {
                let (ack, json) = ack_id(rest)?;
                let json = array(json)?;
                Ok(match (kind, attachments) {
                    ("2", _) => Self::Event { ack, json },
                    (_, 1) => Self::BinaryEvent { ack, json },
                    (_, attachments) => Self::Foreign { attachments },
                })
            }
            "3" | "6" => match ack_id(rest)? {
                (Some(id), json) => {
                    let json = array(json)?;
                    Ok(match kind {
                        "3" => Self::Ack { id, json },
                        _ => Self::Foreign { attachments },
                    })
                }
                (None, _) => Err(ProtocolError::SocketIo("an acknowledgement without an id")),
            },
            _ => Err(ProtocolError::SocketIo("unknown type")),
        }
    }

    /// Returns the number of binary messages that follow and belong to the packet.
    pub fn attachments(&self) -> usize {
        match *self {
            Self::BinaryEvent { .. } => 1,
            Self::Foreign { attachments } => attachments,
            _ => 0,
        }
    }

    /// Encodes the packet as a text frame, including the Engine.IO message type.
    ///
    /// A [`Foreign`](Self::Foreign) packet keeps only the number of its attachments. It is encoded as a binary
    /// acknowledgement with that many attachments.
    pub fn encode(&self) -> String {
        match *self {
            Self::Connect(json) => format!("40{}", json.unwrap_or_default()),
            Self::Disconnect => "41".to_owned(),
            Self::Event { ack: None, json } => format!("42{json}"),
            Self::Event {
                ack: Some(id),
                json,
            } => format!("42{id}{json}"),
            Self::Ack { id, json } => format!("43{id}{json}"),
            Self::Error(json) => format!("44{json}"),
            Self::BinaryEvent { ack: None, json } => format!("451-{json}"),
            Self::BinaryEvent {
                ack: Some(id),
                json,
            } => format!("451-{id}{json}"),
            Self::ForeignConnect(namespace) => format!("40{namespace},"),
            Self::Foreign { attachments } => format!("46{attachments}-0[]"),
        }
    }
}

/// Returns the text frame that refuses a [`Packet::ForeignConnect`], in the words of the npm server.
pub fn refuse_namespace(version: Version, name: &str) -> String {
    let reason = match version {
        Version::V3 => "\"Invalid namespace\"",
        Version::V4 => "{\"message\":\"Invalid namespace\"}",
    };
    format!("44{name},{reason}")
}

/// Splits off the namespace. Drops its query, if it has one.
fn namespace(rest: &str) -> (&str, &str) {
    if !rest.starts_with('/') {
        return ("/", rest);
    }
    let (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    let name = namespace
        .split_once('?')
        .map_or(namespace, |(name, _)| name);
    (name, rest)
}

/// Splits off the number of attachments.
fn attachments(rest: &str) -> Result<(usize, &str), ProtocolError> {
    let (count, rest) = rest.split_once('-').ok_or(ProtocolError::SocketIo(
        "the number of attachments is missing",
    ))?;
    let count = number(count)?;
    match usize::try_from(count) {
        Ok(few) if few <= MAX_ATTACHMENTS => Ok((few, rest)),
        _ => Err(ProtocolError::Attachments(count)),
    }
}

fn ack_id(rest: &str) -> Result<(Option<u64>, &str), ProtocolError> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (id, rest) = rest.split_at(digits);
    let id = if id.is_empty() {
        None
    } else {
        Some(number(id)?)
    };
    Ok((id, rest))
}

pub(super) fn number(digits: &str) -> Result<u64, ProtocolError> {
    if digits.starts_with('+') {
        return Err(ProtocolError::SocketIo("malformed number"));
    }
    digits
        .parse()
        .map_err(|_| ProtocolError::SocketIo("malformed number"))
}

fn array(json: &str) -> Result<&str, ProtocolError> {
    if json.starts_with('[') {
        Ok(json)
    } else {
        Err(ProtocolError::SocketIo("not a JSON array"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn what_is_encoded_decodes_to_itself(
            kind in 0u8..8,
            ack in any::<Option<u64>>(),
            id: u64,
            tail in ".*",
            name in "/[^,?]+",
            attachments in 0..=MAX_ATTACHMENTS,
        ) {
            let json = format!("[{tail}");
            let object = format!("{{{tail}");
            let packet = match kind {
                0 => Packet::Connect(ack.map(|_| &*object)),
                1 => Packet::Disconnect,
                2 => Packet::Event { ack, json: &json },
                3 => Packet::Ack { id, json: &json },
                4 => Packet::Error(&json),
                5 => Packet::ForeignConnect(&name),
                6 => Packet::Foreign { attachments },
                _ => Packet::BinaryEvent { ack, json: &json },
            };
            let text = packet.encode();
            prop_assert!(text.starts_with('4'));
            prop_assert_eq!(Packet::decode(&text[1..]), Ok(packet));
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in "[0-9]?[0-9/,?-]{0,4}.*") {
            let _ = Packet::decode(&text);
        }
    }

    #[test]
    fn the_default_namespace_may_be_written_out() {
        for text in ["0", "0/", "0/,", "0/?token=a,"] {
            assert_eq!(Packet::decode(text), Ok(Packet::Connect(None)), "{text}");
        }
        let credentials = Packet::Connect(Some("{\"token\":1}"));
        assert_eq!(Packet::decode("0/,{\"token\":1}"), Ok(credentials));
        let event = Packet::Event {
            ack: Some(7),
            json: "[\"a\"]",
        };
        assert_eq!(Packet::decode("2/,7[\"a\"]"), Ok(event));
    }

    #[test]
    fn malformed_packets_are_refused() {
        for text in [
            "",
            "7",
            "é",
            "0x",
            "2",
            "2{}",
            "2x[]",
            "3[]",
            "3",
            "51[]",
            "5+1-[]",
            "5-[]",
            "5[]",
            "5-1-[]",
            "61-[]",
            "61-0",
            "6[]",
            "0/admin,x",
            "1/admin,x",
            "2/admin",
            "2/admin,",
            "3/admin,[]",
            "7/admin,[]",
            "51/admin,[]",
            "52-/admin,",
            "299999999999999999999[]",
        ] {
            assert!(
                matches!(Packet::decode(text), Err(ProtocolError::SocketIo(_))),
                "{text}"
            );
        }
        for count in [MAX_ATTACHMENTS as u64 + 1, 100, u64::MAX] {
            for text in [
                format!("5{count}-[\"a\"]"),
                format!("6{count}-0[]"),
                format!("5{count}-/admin,[\"a\"]"),
            ] {
                let error = ProtocolError::Attachments(count);
                assert_eq!(Packet::decode(&text), Err(error), "{text}");
            }
        }
    }

    #[test]
    fn to_ask_for_another_namespace_is_to_be_answered() {
        for text in [
            "0/admin",
            "0/admin,",
            "0/admin?token=a",
            "0/admin?token=a,",
            "0/admin?a?b=c,{\"token\":1}",
            "0/admin,{}",
        ] {
            let foreign = Packet::ForeignConnect("/admin");
            assert_eq!(Packet::decode(text), Ok(foreign), "{text}");
        }
        assert_eq!(Packet::decode("0//,"), Ok(Packet::ForeignConnect("//")));
        assert_eq!(
            refuse_namespace(Version::V3, "/admin"),
            "44/admin,\"Invalid namespace\""
        );
        assert_eq!(
            refuse_namespace(Version::V4, "/admin"),
            "44/admin,{\"message\":\"Invalid namespace\"}"
        );
    }

    #[test]
    fn what_is_legal_and_not_for_us_is_known_by_its_attachments() {
        for (text, attachments) in [
            ("1/admin,", 0),
            ("1/admin", 0),
            ("2/admin,[\"a\"]", 0),
            ("2/admin?token=a,7[\"a\"]", 0),
            ("3/admin,7[]", 0),
            ("4/admin,\"Invalid namespace\"", 0),
            ("51-/admin,[\"a\",{\"_placeholder\":true,\"num\":0}]", 1),
            ("53-/admin,7[\"a\"]", 3),
            ("50-[\"a\"]", 0),
            ("52-[\"a\",{},{}]", 2),
            ("516-7[\"a\"]", 16),
            ("60-7[]", 0),
            ("61-7[{}]", 1),
            ("62-/,7[{},{}]", 2),
            ("61-/admin,7[{}]", 1),
        ] {
            let foreign = Packet::Foreign { attachments };
            assert_eq!(Packet::decode(text), Ok(foreign), "{text}");
            assert_eq!(foreign.attachments(), attachments);
        }
    }
}
