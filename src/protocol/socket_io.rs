//! Socket.IO protocols 4 and 5: the packets inside Engine.IO messages, for the namespace `/`.
//!
//! They differ in `0` only: in version 4 the server says it and nothing more, in version 5 the client
//! asks with it, its credentials if it has any, and the server answers with a session id.

use super::ProtocolError;

/// One packet. JSON is left as text: [`event`](super::event) gives it meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`: connected to the namespace, or to be connected, with a JSON object in version 5.
    Connect(Option<&'a str>),
    /// `1`: disconnected from the namespace.
    Disconnect,
    /// `2`: `["name", args…]`, with an id if an acknowledgement is asked for.
    Event {
        /// The acknowledgement to answer with.
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
    /// `4`: the server refuses the namespace; JSON.
    Error(&'a str),
    /// `5`: an event with one binary attachment, which follows in a frame of its own.
    BinaryEvent {
        /// The acknowledgement to answer with.
        ack: Option<u64>,
        /// The JSON array, with a placeholder where the attachment belongs.
        json: &'a str,
    },
}

impl<'a> Packet<'a> {
    /// Decodes the data of an Engine.IO message.
    ///
    /// # Errors
    /// [`ProtocolError::SocketIo`] for another type, another namespace or a malformed id;
    /// [`ProtocolError::Attachments`] for a binary event with none or several.
    pub fn decode(data: &'a str) -> Result<Self, ProtocolError> {
        let (kind, rest) = data
            .split_at_checked(1)
            .ok_or(ProtocolError::SocketIo("empty"))?;
        match kind {
            "0" => match namespace(rest)? {
                "" => Ok(Self::Connect(None)),
                json if json.starts_with('{') => Ok(Self::Connect(Some(json))),
                _ => Err(ProtocolError::SocketIo("data where none belongs")),
            },
            "1" => no_more(namespace(rest)?, Self::Disconnect),
            "2" => {
                let (ack, json) = ack_id(namespace(rest)?)?;
                Ok(Self::Event {
                    ack,
                    json: array(json)?,
                })
            }
            "3" => match ack_id(namespace(rest)?)? {
                (Some(id), json) => Ok(Self::Ack {
                    id,
                    json: array(json)?,
                }),
                (None, _) => Err(ProtocolError::SocketIo("an acknowledgement without an id")),
            },
            "4" => Ok(Self::Error(namespace(rest)?)),
            "5" => {
                let (ack, json) = ack_id(namespace(one_attachment(rest)?)?)?;
                Ok(Self::BinaryEvent {
                    ack,
                    json: array(json)?,
                })
            }
            "6" => Err(ProtocolError::SocketIo("a binary acknowledgement")),
            _ => Err(ProtocolError::SocketIo("unknown type")),
        }
    }

    /// Encodes the packet as a text frame, the Engine.IO message type included.
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
        }
    }
}

fn no_more<'a>(rest: &str, packet: Packet<'a>) -> Result<Packet<'a>, ProtocolError> {
    if rest.is_empty() {
        Ok(packet)
    } else {
        Err(ProtocolError::SocketIo("data where none belongs"))
    }
}

/// Takes the namespace off; only `/` is known. Its query, if any, is skipped.
fn namespace(rest: &str) -> Result<&str, ProtocolError> {
    if !rest.starts_with('/') {
        return Ok(rest);
    }
    let (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    match namespace.split('?').next() {
        Some("/") => Ok(rest),
        _ => Err(ProtocolError::SocketIo("a namespace other than /")),
    }
}

fn one_attachment(rest: &str) -> Result<&str, ProtocolError> {
    let (count, rest) = rest
        .split_once('-')
        .ok_or(ProtocolError::SocketIo("no number of attachments"))?;
    match number(count)? {
        1 => Ok(rest),
        count => Err(ProtocolError::Attachments(count)),
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

fn number(digits: &str) -> Result<u64, ProtocolError> {
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
        Err(ProtocolError::SocketIo("no JSON array"))
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
            kind in 0u8..6,
            ack in any::<Option<u64>>(),
            id: u64,
            tail in ".*",
        ) {
            let json = format!("[{tail}");
            let object = format!("{{{tail}");
            let packet = match kind {
                0 => Packet::Connect(ack.map(|_| &*object)),
                1 => Packet::Disconnect,
                2 => Packet::Event { ack, json: &json },
                3 => Packet::Ack { id, json: &json },
                4 => Packet::Error(&json),
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
            "0/admin,",
            "2",
            "2{}",
            "2x[]",
            "3[]",
            "3",
            "5[]",
            "51[]",
            "5+1-[]",
            "5-[]",
            "61-0[]",
            "299999999999999999999[]",
        ] {
            assert!(
                matches!(Packet::decode(text), Err(ProtocolError::SocketIo(_))),
                "{text}"
            );
        }
        for count in [0, 2, 100] {
            assert_eq!(
                Packet::decode(&format!("5{count}-[\"a\"]")),
                Err(ProtocolError::Attachments(count))
            );
        }
    }
}
