use proptest::prelude::*;

use super::*;

const HEADER: &str = r#"451-["socket.io-pull-stream.queue.96881771-4a47-41f5-b933-f41690a936a0.dialer",{"_placeholder":true,"num":0}]"#;

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Dialer), Just(Side::Listener)]
}

fn dial_id() -> impl Strategy<Value = DialId> {
    "[ !#-\\[\\]-~]{1,128}".prop_map(|id| DialId::new(&id).expect("plain"))
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Finished), "\\PC{0,60}".prop_map(End::Error)]
}

fn stream_event() -> impl Strategy<Value = StreamEvent> {
    prop_oneof![
        any::<Option<(u64, u64)>>().prop_map(|grant| StreamEvent::Accept(
            grant.map(|(credit, returned)| Grant { credit, returned })
        )),
        proptest::collection::vec(any::<u8>(), 0..64).prop_map(|v| StreamEvent::Item(v.into())),
        Just(StreamEvent::BinaryItem),
        end().prop_map(StreamEvent::End),
        Just(StreamEvent::Malformed),
    ]
}

fn plain_event() -> impl Strategy<Value = Event<'static>> {
    prop_oneof![
        (".*", ".*").prop_map(|(address, data)| Event::Join { address, data }),
        ".*".prop_map(|address| Event::Leave { address }),
        (".*", ".*", dial_id()).prop_map(|(from, to, dial_id)| Event::Dial { from, to, dial_id }),
        (dial_id(), ".*").prop_map(|(dial_id, from)| Event::Incoming { dial_id, from }),
        ".*".prop_map(|address| Event::Peer { address }),
        Just(Event::Unknown),
    ]
}

fn round_trip(event: &Event<'_>, ack: Option<u64>) {
    let text = event.encode(ack);
    match Packet::decode(&text[1..]).expect("a packet") {
        Packet::Event { ack: decoded, json } => {
            assert_eq!(Event::decode(json, false).as_ref(), Ok(event));
            assert_eq!(decoded, ack);
        }
        Packet::BinaryEvent { json, .. } => {
            assert_eq!(Event::decode(json, true).as_ref(), Ok(event));
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn an_event_decodes_to_itself(event in plain_event(), ack: Option<u64>) {
        round_trip(&event, ack);
    }

    #[test]
    fn a_stream_event_decodes_to_itself(id in dial_id(), sender in side(), event in stream_event()) {
        let stream = StreamName { dial_id: id.as_str(), sender };
        round_trip(&Event::Stream { stream, event }, None);
    }

    #[test]
    fn the_header_of_an_item_names_its_stream(id in dial_id(), sender in side()) {
        let stream = StreamName { dial_id: id.as_str(), sender };
        let header = stream.queue_header();
        prop_assert_eq!(StreamName::of_queue_header(&header), Some(stream));
    }

    #[test]
    fn a_join_answer_decodes_to_itself(
        kind in 0u8..3,
        text in "\\PC{1,60}",
        peers in proptest::collection::vec(".*", 0..4),
        id: u64,
    ) {
        let answer = match kind {
            0 => JoinAnswer::Nonce(text),
            1 => JoinAnswer::Joined(peers),
            _ => JoinAnswer::Refused(text),
        };
        let encoded = answer.encode(id);
        let Ok(Packet::Ack { id: decoded, json }) = Packet::decode(&encoded[1..]) else {
            panic!("an acknowledgement")
        };
        prop_assert_eq!(decoded, id);
        prop_assert_eq!(JoinAnswer::decode(json), Ok(answer));
    }

    #[test]
    fn a_dial_answer_decodes_to_itself(reason in proptest::option::of("\\PC{1,60}"), id: u64) {
        let answer = DialAnswer(reason.map_or(Ok(()), Err));
        let encoded = answer.encode(id);
        let Ok(Packet::Ack { json, .. }) = Packet::decode(&encoded[1..]) else {
            panic!("an acknowledgement")
        };
        prop_assert_eq!(DialAnswer::decode(json), Ok(answer));
    }

    #[test]
    fn any_json_is_decoded_or_refused(json in "\\[[\\[\\]{}\",:0-9a-z. -]{0,60}", binary: bool) {
        let _ = Event::decode(&json, binary);
        let _ = JoinAnswer::decode(&json);
        let _ = DialAnswer::decode(&json);
        let _ = StreamName::of_queue_header(&json);
    }
}

#[test]
fn the_recorded_header_of_an_item_is_the_one_that_is_sent() {
    let stream = StreamName {
        dial_id: "96881771-4a47-41f5-b933-f41690a936a0",
        sender: Side::Dialer,
    };
    assert_eq!(StreamName::of_queue_header(HEADER), Some(stream));
    assert_eq!(stream.queue_header(), HEADER);
}

#[test]
fn a_header_written_in_another_way_is_left_to_the_json_parser() {
    let spaced = HEADER.replace(",{", ", {");
    assert_eq!(StreamName::of_queue_header(&spaced), None);
    let Ok(Packet::BinaryEvent { json, .. }) = Packet::decode(&spaced[1..]) else {
        panic!("a binary event")
    };
    assert!(matches!(
        Event::decode(json, true),
        Ok(Event::Stream {
            event: StreamEvent::BinaryItem,
            ..
        })
    ));
}

#[test]
fn the_answers_of_all_servers_to_a_join_are_understood() {
    let joined = |peers: &[&str]| {
        Ok(JoinAnswer::Joined(
            peers.iter().map(ToString::to_string).collect(),
        ))
    };
    assert_eq!(JoinAnswer::decode("[]"), joined(&[]));
    assert_eq!(JoinAnswer::decode("[null]"), joined(&[]));
    assert_eq!(JoinAnswer::decode("[null,null,[\"/a\"]]"), joined(&["/a"]));
    assert_eq!(
        JoinAnswer::decode("[null,\"n\"]"),
        Ok(JoinAnswer::Nonce("n".into()))
    );
    assert_eq!(
        JoinAnswer::decode("[{}]"),
        Ok(JoinAnswer::Refused("{}".into()))
    );
    assert_eq!(
        JoinAnswer::decode("[\"no\"]"),
        Ok(JoinAnswer::Refused("no".into()))
    );
    for json in [
        "",
        "{}",
        "[null,1]",
        "[null,null,{}]",
        "[null,null,[1]]",
        "[0,0,0,0,0,0,0,0,0]",
    ] {
        assert!(JoinAnswer::decode(json).is_err(), "{json}");
    }
}

#[test]
fn json_items_are_bytes() {
    for (json, bytes) in [
        ("\"h\u{e9}\"", "h\u{e9}".as_bytes()),
        ("\"\"", b""),
        ("[0,255]", &[0, 255]),
        ("[]", b""),
        (r#"{"type":"Buffer","data":[1,2]}"#, &[1, 2]),
    ] {
        let json = format!("[\"socket.io-pull-stream.queue.a.dialer\",{json}]");
        let Ok(Event::Stream {
            event: StreamEvent::Item(item),
            ..
        }) = Event::decode(&json, false)
        else {
            panic!("{json}")
        };
        assert_eq!(item, bytes, "{json}");
    }
    for json in [
        "null",
        "1",
        "[256]",
        "[-1]",
        r#"{"length":40000000}"#,
        r#"{"type":"Buffer"}"#,
    ] {
        let json = format!("[\"socket.io-pull-stream.queue.a.dialer\",{json}]");
        let event = Event::decode(&json, false);
        assert!(
            matches!(
                event,
                Ok(Event::Stream {
                    event: StreamEvent::Malformed,
                    ..
                })
            ),
            "{json}"
        );
    }
}

#[test]
fn malformed_arguments_name_their_event() {
    for (json, event) in [
        ("[]", "event"),
        ("[1]", "event"),
        ("[\"a\",", "event"),
        ("[\"ss-join\"]", "ss-join"),
        ("[\"ss-join\",\"/a\",{}]", "ss-join"),
        ("[\"ss-leave\",null]", "ss-leave"),
        ("[\"ss-dial\",\"/a\",\"/b\",\"\"]", "ss-dial"),
        ("[\"ss-incomming\",\"a\\\"b\",\"/b\"]", "ss-incomming"),
        ("[\"ws-peer\",[]]", "ws-peer"),
    ] {
        let error = Event::decode(json, false).expect_err(json);
        assert!(
            matches!(error, ProtocolError::Arguments { event: e, .. } if e == event),
            "{json}: {error}"
        );
    }
}

#[test]
fn a_reason_is_quoted_in_part() {
    let json = format!("[\"{}\"]", "\u{e9}".repeat(1000));
    let Ok(DialAnswer(Err(reason))) = DialAnswer::decode(&json) else {
        panic!("refused")
    };
    assert_eq!(reason, "\u{e9}".repeat(128));
}

#[test]
fn a_dial_id_is_a_uuid() {
    let id = DialId::random();
    let parts: Vec<_> = id.as_str().split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12]);
    assert_eq!(id.as_str().as_bytes()[14], b'4');
    assert_ne!(id, DialId::random());
}
