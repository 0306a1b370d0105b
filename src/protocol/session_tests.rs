use super::*;
use crate::protocol::{event::Side, nonce};

const NONCE: &str = "51fe2479-9bc2-4b5e-ad06-b2fff93b3a8ffb8aa7d0-0685-42ff-9e74-90fac96ac513";
const STAR: &str = "/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star";
const PEER: &str = "QmUzRSwRPKR984hfoKgGJnUqcSkzak3sYYQUjQhATZWa1t";
const TIMEOUT: Duration = Duration::from_secs(10);

struct Fixture {
    session: Session,
    key: Keypair,
    own: StarAddr,
    peer: StarAddr,
    now: Instant,
}

fn fixture() -> Fixture {
    let key = Keypair::generate_ed25519();
    let star = StarAddr::from_wire(STAR).expect("valid");
    Fixture {
        session: Session::new(Settings {
            keypair: key.clone(),
            join_timeout: TIMEOUT,
            dial_timeout: TIMEOUT * 2,
            allow_join_with_disabled_challenge: false,
        }),
        own: star.with_peer(key.public().to_peer_id()),
        key,
        peer: StarAddr::from_wire(&format!("{STAR}/ipfs/{PEER}")).expect("valid"),
        now: Instant::now(),
    }
}

impl Fixture {
    fn listening() -> Self {
        let mut fixture = fixture();
        fixture.session.listen(fixture.now, &fixture.own);
        fixture
    }

    fn joined() -> Self {
        let mut fixture = Self::listening();
        fixture.join(0);
        assert_eq!(
            fixture.outputs(),
            [Output::Joined {
                address: fixture.own.clone()
            }]
        );
        fixture
    }

    /// Answers the challenge request that had the acknowledgement id `ack`.
    fn join(&mut self, ack: u64) {
        self.sent_join();
        self.receive(&format!("43{ack}[null,\"{NONCE}\"]"));
        let signature = hex::decode(self.sent_join()).expect("hex");
        assert!(self.key.public().verify(NONCE.as_bytes(), &signature));
        self.receive(&format!("43{}[null,null,[]]", ack + 1));
    }

    fn receive<'a>(&mut self, text: &'a str) -> Received<'a> {
        self.session
            .handle_text(self.now, text)
            .expect("no violation")
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }

    /// Asserts that the next thing sent is `text`.
    fn sent(&mut self, text: &str) {
        assert_eq!(self.session.poll_transmit().as_deref(), Some(text));
    }

    /// Asserts that the next thing sent is a join of our address, and returns its data.
    fn sent_join(&mut self) -> String {
        let text = self.session.poll_transmit().expect("a join");
        let Ok(Packet::Event { json, .. }) = Packet::decode(&text[1..]) else {
            panic!("{text}")
        };
        match Event::decode(json, false) {
            Ok(Event::Join { address, data }) if address == self.own.to_wire() => data,
            other => panic!("{other:?}"),
        }
    }

    fn sent_nothing(&mut self) {
        assert_eq!(self.session.poll_transmit(), None);
    }

    fn join_failed(&mut self) -> JoinError {
        match self.session.poll_output() {
            Some(Output::JoinFailed { error, .. }) => error,
            other => panic!("{other:?}"),
        }
    }

    fn dial(&mut self) -> DialId {
        let dial_id = DialId::random();
        let wire = self.peer.to_wire();
        let deadline = self.now + TIMEOUT * 2;
        self.session
            .dial(self.now, deadline, dial_id.clone(), &self.peer, [wire]);
        dial_id
    }

    fn dialed(&mut self) -> (DialId, Result<(), DialError>) {
        match self.session.poll_output() {
            Some(Output::Dialed { dial_id, result }) => (dial_id, result),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_key_goes_out_as_hex() {
    let mut fixture = Fixture::listening();
    let key = fixture.key.public().encode_protobuf();
    assert_eq!(fixture.sent_join(), hex::encode(&key));
}

#[test]
fn the_peers_in_the_answer_to_the_join_are_heard_of_but_never_ourselves() {
    let mut fixture = Fixture::listening();
    fixture.sent_join();
    fixture.receive(&format!("430[null,\"{NONCE}\"]"));
    let (own, peer) = (fixture.own.to_wire(), fixture.peer.to_wire());
    fixture.receive(&format!(
        "431[null,null,[\"{own}\",\"{peer}\",\"nonsense\",\"{STAR}\"]]"
    ));
    let joined = Output::Joined {
        address: fixture.own.clone(),
    };
    assert_eq!(
        fixture.outputs(),
        [joined, Output::Peer(fixture.peer.clone())]
    );
}

#[test]
fn only_two_uuids_are_signed() {
    let too_long = format!("{NONCE}a");
    for nonce in [
        "",
        "a",
        &NONCE[..36],
        &NONCE[..71],
        &too_long,
        &NONCE.replace('-', "0"),
        &NONCE.replace('f', "g"),
        "noise-libp2p-static-key:5b5e-ad06-b2fff93b3a8ffb8aa7d0-0685-42ff-9e74-90",
    ] {
        let mut fixture = Fixture::listening();
        fixture.sent_join();
        fixture.receive(&format!("430[null,\"{nonce}\"]"));
        assert_eq!(fixture.join_failed(), JoinError::InvalidNonce, "{nonce}");
        fixture.sent_nothing();
    }
}

#[test]
fn a_nonce_that_was_made_for_another_address_is_not_signed() {
    for other in [false, true] {
        let mut fixture = Fixture::listening();
        fixture.sent_join();
        let own = fixture.own.to_wire();
        let elsewhere = own.replace("127.0.0.1", "127.0.0.2");
        let nonce = nonce::new(if other { &elsewhere } else { &own });
        fixture.receive(&format!("430[null,\"{nonce}\"]"));
        if other {
            assert_eq!(fixture.join_failed(), JoinError::ForeignNonce);
            fixture.sent_nothing();
        } else {
            let signature = hex::decode(fixture.sent_join()).expect("hex");
            let public = fixture.key.public();
            assert!(public.verify(nonce.as_bytes(), &signature));
        }
    }
}

#[test]
fn a_rendezvous_without_a_challenge_is_left_unless_it_is_allowed() {
    for answer in ["430[]", "430[null,null,[]]"] {
        let mut refused = Fixture::listening();
        refused.sent_join();
        refused.receive(answer);
        assert_eq!(refused.join_failed(), JoinError::ChallengeDisabled);
        let leave = Event::Leave {
            address: refused.own.to_wire(),
        }
        .encode(None);
        refused.sent(&leave);

        let mut allowed = Fixture::listening();
        allowed.session.settings.allow_join_with_disabled_challenge = true;
        allowed.sent_join();
        allowed.receive(answer);
        assert_eq!(
            allowed.outputs(),
            [Output::Joined {
                address: allowed.own.clone()
            }]
        );
    }
}

#[test]
fn each_answer_to_a_join_has_its_deadline() {
    for answered in [false, true] {
        let mut fixture = Fixture::listening();
        fixture.now += TIMEOUT / 2;
        if answered {
            fixture.receive(&format!("430[null,\"{NONCE}\"]"));
            fixture.now += TIMEOUT / 2;
        }
        fixture.session.handle_timeout(fixture.now);
        assert_eq!(fixture.outputs(), []);
        fixture.now += TIMEOUT / 2;
        assert_eq!(fixture.session.poll_timeout(), Some(fixture.now));
        fixture.session.handle_timeout(fixture.now);
        assert_eq!(fixture.join_failed(), JoinError::TimedOut(TIMEOUT));
        assert_eq!(fixture.session.poll_timeout(), None);
        fixture.receive("431[null,null,[]]");
        assert_eq!(fixture.outputs(), []);
    }
}

#[test]
fn a_join_whose_answer_is_late_leaves_no_ghost_at_the_rendezvous() {
    let mut fixture = Fixture::listening();
    fixture.sent_join();
    fixture.now += TIMEOUT;
    fixture.session.handle_timeout(fixture.now);
    let leave = Event::Leave {
        address: fixture.own.to_wire(),
    };
    fixture.sent(&leave.encode(None));
    assert_eq!(fixture.join_failed(), JoinError::TimedOut(TIMEOUT));
    fixture.session.listen(fixture.now, &fixture.own);
    fixture.sent_join();
    fixture.receive("431[\"Signature Invalid\"]");
    assert_eq!(fixture.join_failed(), JoinError::StaleChallenge);
}

#[test]
fn an_answer_of_another_form_fails_the_join_only() {
    for answer in ["430[null,7]", "430[null,null,7]", "430[[["] {
        let mut fixture = Fixture::listening();
        fixture.receive(answer);
        assert!(
            matches!(fixture.join_failed(), JoinError::Malformed(_)),
            "{answer}"
        );
    }
}

#[test]
fn leaving_before_the_join_is_answered_leaves_when_it_is() {
    let mut fixture = Fixture::listening();
    fixture.sent_join();
    fixture.receive(&format!("430[null,\"{NONCE}\"]"));
    fixture.sent_join();
    fixture.session.leave(&fixture.own);
    fixture.sent_nothing();
    fixture.receive("431[null,null,[]]");
    let leave = Event::Leave {
        address: fixture.own.to_wire(),
    }
    .encode(None);
    fixture.sent(&leave);
    assert_eq!(fixture.outputs(), []);
    assert!(!fixture.session.is_listening());
}

#[test]
fn leaving_before_the_challenge_signs_nothing() {
    let mut fixture = Fixture::listening();
    fixture.sent_join();
    fixture.session.leave(&fixture.own);
    fixture.receive(&format!("430[null,\"{NONCE}\"]"));
    fixture.sent_nothing();
}

#[test]
fn joining_again_falls_back_to_the_signature_that_the_deployed_server_kept() {
    let mut fixture = Fixture::joined();
    fixture.session.leave(&fixture.own);
    fixture.session.poll_transmit();
    fixture.session.listen(fixture.now, &fixture.own);
    fixture.sent_join();
    fixture.receive("432[\"Signature Invalid\"]");
    let signature = hex::decode(fixture.sent_join()).expect("hex");
    assert!(fixture.key.public().verify(NONCE.as_bytes(), &signature));
    fixture.receive("433[\"Signature Invalid\"]");
    // The old signature is wrong, not our key. A new link has a new challenge.
    assert_eq!(fixture.join_failed(), JoinError::StaleChallenge);
    fixture.sent_nothing();
}

#[test]
fn an_old_signature_is_sent_only_to_whom_waits_for_one() {
    for words in [
        "Too many joins a second",
        "Too many addresses on one link",
        "Not allowed now, again in 5 s: nobody has decided in time",
        "Not allowed: banned",
        "whatever",
    ] {
        let mut fixture = Fixture::joined();
        fixture.session.leave(&fixture.own);
        fixture.session.poll_transmit();
        fixture.session.listen(fixture.now, &fixture.own);
        fixture.sent_join();
        fixture.receive(&format!("432[\"{words}\"]"));
        fixture.sent_nothing();
        let error = fixture.join_failed();
        assert_eq!(error, JoinError::Refused(words.to_owned()));
        assert_eq!(error.is_permanent(), words == "Not allowed: banned");
    }
}

#[test]
fn an_old_signature_may_be_refused_for_a_while_like_a_new_one() {
    let mut fixture = Fixture::joined();
    fixture.session.leave(&fixture.own);
    fixture.session.poll_transmit();
    fixture.session.listen(fixture.now, &fixture.own);
    fixture.sent_join();
    fixture.receive("432[\"Crypto error\"]");
    fixture.sent_join();
    fixture.receive("433[\"Not allowed now, again in 60 s: full\"]");
    let after = fixture.join_failed().retry_after();
    assert_eq!(after, Some(Duration::from_secs(60)));
}

#[test]
fn a_dial_is_answered() {
    for (answer, result) in [
        ("[]", Ok(())),
        ("[null]", Ok(())),
        ("[\"Peer not found\"]", Err(DialError::PeerNotFound)),
        (
            "[\"Not authorized for this address\"]",
            Err(DialError::NotAuthorized),
        ),
        ("[\"busy\"]", Err(DialError::Refused("busy".to_owned()))),
        ("[{}]", Err(DialError::Refused("{}".to_owned()))),
    ] {
        let mut fixture = Fixture::joined();
        let dial_id = fixture.dial();
        let (from, to) = (fixture.own.to_wire(), fixture.peer.to_wire());
        fixture.sent(&format!(
            "422[\"ss-dial\",\"{from}\",\"{to}\",\"{dial_id}\"]"
        ));
        fixture.receive(&format!("432{answer}"));
        assert_eq!(fixture.dialed(), (dial_id, result));
        assert_eq!(fixture.session.poll_timeout(), None);
    }
}

#[test]
fn a_dial_without_an_answer_times_out() {
    let mut fixture = Fixture::joined();
    let dial_id = fixture.dial();
    fixture.now += TIMEOUT * 2;
    assert_eq!(fixture.session.poll_timeout(), Some(fixture.now));
    fixture.session.handle_timeout(fixture.now);
    assert_eq!(
        fixture.dialed(),
        (dial_id, Err(DialError::TimedOut(TIMEOUT * 2)))
    );
}

#[test]
fn a_cancelled_dial_is_forgotten() {
    let mut fixture = Fixture::joined();
    let dial_id = fixture.dial();
    fixture.session.cancel_dial(&dial_id);
    fixture.receive("432[]");
    assert_eq!(fixture.outputs(), []);
    assert_eq!(fixture.session.poll_timeout(), None);
}

#[test]
fn a_dial_without_a_listener_joins_first_and_refuses_those_who_dial_back() {
    let mut fixture = fixture();
    let dial_id = fixture.dial();
    fixture.join(0);
    let text = fixture.session.poll_transmit().expect("a dial");
    assert!(text.starts_with("422[\"ss-dial\""), "{text}");
    assert_eq!(fixture.outputs(), []);
    fixture.receive(&format!(
        "427[\"ss-incomming\",\"a\",\"{STAR}/ipfs/{PEER}\"]"
    ));
    fixture.sent("437[\"not listening\"]");
    fixture.receive("432[]");
    assert_eq!(fixture.dialed(), (dial_id, Ok(())));

    fixture.session.listen(fixture.now, &fixture.own);
    assert_eq!(
        fixture.outputs(),
        [Output::Joined {
            address: fixture.own.clone()
        }]
    );
}

#[test]
fn a_join_that_fails_fails_the_dials_that_wait_for_it() {
    let mut fixture = fixture();
    let dial_id = fixture.dial();
    fixture.receive("430[\"no\"]");
    let error = JoinError::Refused("no".to_owned());
    assert_eq!(fixture.dialed(), (dial_id, Err(DialError::Join(error))));
}

#[test]
fn a_dial_that_waits_for_the_join_has_its_own_deadline_and_can_be_cancelled() {
    let mut fixture = fixture();
    fixture.session.settings.join_timeout = TIMEOUT * 5;
    let first = fixture.dial();
    let second = fixture.dial();
    fixture.session.cancel_dial(&second);
    fixture.now += TIMEOUT * 2;
    assert_eq!(fixture.session.poll_timeout(), Some(fixture.now));
    fixture.session.handle_timeout(fixture.now);
    assert_eq!(
        fixture.dialed(),
        (first, Err(DialError::TimedOut(TIMEOUT * 2)))
    );
    assert_eq!(fixture.outputs(), []);
}

#[test]
fn an_incoming_dial_is_accepted_in_the_order_that_javascript_does() {
    let mut fixture = Fixture::joined();
    fixture.receive(&format!(
        "429[\"ss-incomming\",\"a\",\"{STAR}/ipfs/{PEER}\"]"
    ));
    let Some(Output::Incoming { dial_id, from, ack }) = fixture.session.poll_output() else {
        panic!("incoming")
    };
    assert_eq!((&from, ack), (&fixture.peer, 9));
    fixture.session.accept(&dial_id, ack);
    fixture.sent(r#"42["socket.io-pull-stream.accept.a.dialer",{"credit":16384}]"#);
    fixture.sent("439[]");
}

#[test]
fn an_incoming_dial_from_nowhere_is_refused() {
    for from in ["", "nonsense", STAR, "/ip4/1.2.3.4/tcp/1"] {
        let mut fixture = Fixture::joined();
        fixture.receive(&format!("429[\"ss-incomming\",\"a\",\"{from}\"]"));
        fixture.sent("439[\"invalid dialer address\"]");
        assert_eq!(fixture.outputs(), []);
    }
}

#[test]
fn malformed_and_unknown_events_are_passed_over() {
    let mut fixture = Fixture::joined();
    for text in [
        "42[\"ss-incomming\",7,8]",
        "42[\"ss-incomming\",\"a\",\"b\"]",
        "42[\"ws-peer\",7]",
        "42[\"ws-peer\",\"nonsense\"]",
        "42[\"something\"]",
        "42[7]",
        "42[\"ss-join\",\"a\",\"b\"]",
        "43999[]",
        "40",
        "3",
        "6",
    ] {
        assert_eq!(fixture.receive(text), Received::Handled, "{text}");
    }
    fixture.receive("425[\"ss-incomming\",7,8]");
    fixture.sent("435[\"malformed arguments\"]");
    assert_eq!(fixture.outputs(), []);
}

#[test]
fn a_binary_frame_belongs_to_the_header_before_it() {
    let mut fixture = fixture();
    let stream = StreamName {
        dial_id: "a",
        sender: Side::Dialer,
    };
    let header = stream.queue_header();
    let spaced = header.replace(",{", ", {");
    let frame = Bytes::from_static(b"\x04abc");
    for header in [&header, &spaced] {
        let received = fixture.receive(header);
        assert_eq!(received, Received::Stream(stream, StreamEvent::BinaryItem));
        assert_eq!(fixture.receive("3probe"), Received::Handled);
        assert_eq!(
            fixture.session.handle_binary(frame.clone()),
            Ok(Some(frame.slice(1..)))
        );
    }
    let error = fixture.session.handle_binary(frame);
    assert_eq!(error, Err(ProtocolError::UnannouncedBinary));
    for next in [&header, &spaced, "42[\"ws-peer\",\"a\"]"] {
        let mut fixture = super::tests::fixture();
        fixture.receive(&header);
        let error = fixture.session.handle_text(fixture.now, next);
        assert_eq!(error, Err(ProtocolError::MissingBinary), "{next}");
    }
}

#[test]
fn a_binary_frame_may_be_written_as_text() {
    let mut fixture = fixture();
    let stream = StreamName {
        dial_id: "a",
        sender: Side::Dialer,
    };
    fixture.receive(&stream.queue_header());
    let item = Received::Item(Bytes::from_static(b"hello"));
    assert_eq!(fixture.receive("b4aGVsbG8="), item);
    let unannounced = fixture.session.handle_text(fixture.now, "b4aGVsbG8=");
    assert_eq!(unannounced, Err(ProtocolError::UnannouncedBinary));
    fixture.receive(&stream.queue_header());
    let malformed = fixture.session.handle_text(fixture.now, "b4%");
    assert_eq!(malformed, Err(ProtocolError::Base64));
}

#[test]
fn what_is_legal_and_not_for_us_is_passed_over_with_its_attachments() {
    let mut fixture = Fixture::joined();
    let frame = Bytes::from_static(b"\x04abc");
    for (text, attachments) in [
        ("40/admin,", 0),
        ("40/admin?token=a,{}", 0),
        ("41/admin,", 0),
        ("42/admin,7[\"ws-peer\",\"a\"]", 0),
        ("43/admin,0[]", 0),
        ("44/admin,\"Invalid namespace\"", 0),
        ("450-[\"a\"]", 0),
        ("452-[\"a\",{},{}]", 2),
        ("4516-[\"a\"]", 16),
        ("451-/admin,[\"a\",{}]", 1),
        ("462-0[{},{}]", 2),
        ("460-0[]", 0),
    ] {
        assert_eq!(fixture.receive(text), Received::Handled, "{text}");
        for n in 0..attachments {
            assert_eq!(fixture.receive("3"), Received::Handled);
            if n % 2 == 0 {
                let passed_over = fixture.session.handle_binary(frame.clone());
                assert_eq!(passed_over, Ok(None), "{text}");
            } else {
                assert_eq!(fixture.receive("b4aGVsbG8="), Received::Handled, "{text}");
            }
        }
        let more = fixture.session.handle_binary(frame.clone());
        assert_eq!(more, Err(ProtocolError::UnannouncedBinary), "{text}");
    }
    fixture.sent_nothing();
    assert_eq!(fixture.outputs(), []);
    fixture.receive("452-[\"a\",{},{}]");
    let interrupted = fixture.session.handle_text(fixture.now, "430[]");
    assert_eq!(interrupted, Err(ProtocolError::MissingBinary));
}

#[test]
fn the_server_may_ping_and_close() {
    let mut fixture = fixture();
    assert_eq!(
        fixture.receive("2probe"),
        Received::Ping("3probe".to_owned())
    );
    assert_eq!(fixture.receive("1"), Received::Close);
    assert_eq!(fixture.receive("41"), Received::Close);
    for text in [
        "0{\"sid\":\"a\",\"pingInterval\":1,\"pingTimeout\":1}",
        "44\"no\"",
        "4",
        "9",
        "",
    ] {
        assert!(
            fixture.session.handle_text(fixture.now, text).is_err(),
            "{text}"
        );
    }
}

#[test]
fn a_refused_join_is_of_a_kind_if_its_words_are_known() {
    let kind = |words: &str| JoinError::Refused(words.to_owned()).refusal();
    for (words, expected) in [
        ("Invalid multiaddr", Some(JoinRefusal::Address)),
        ("Id is not matching", Some(JoinRefusal::Identity)),
        ("{}", Some(JoinRefusal::Identity)),
        ("Not allowed", Some(JoinRefusal::NotAllowed)),
        ("Not allowed: who are you?", Some(JoinRefusal::NotAllowed)),
        (
            "Not allowed now, again in 60 s",
            Some(JoinRefusal::NotAllowed),
        ),
        ("Too many joins a second", Some(JoinRefusal::TooMany)),
        ("Peer not found", None),
        ("no", None),
    ] {
        assert_eq!(kind(words), expected, "{words}");
    }
    assert_eq!(JoinError::Displaced.refusal(), None);
}
