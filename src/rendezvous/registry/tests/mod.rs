//! The registry on simulated time.

mod access;
mod dials;
mod peers;
mod random;

use libp2p_identity::Keypair;
use serde_json::{Value, json};

use super::*;
use crate::{
    protocol::{
        event::{Side, StreamName},
        socket_io::Packet,
    },
    rendezvous::{Limits, origin::Weights},
};

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);
const C: LinkId = LinkId(3);

/// A registry on simulated time, with the links `A`, `B` and `C` open.
struct Star {
    registry: Registry,
    now: Instant,
    next_ack: u64,
}

impl Star {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        let mut registry = Registry::new(&config, Commons::new(config.limits()));
        for link in [A, B, C] {
            registry.handle_open(link, from(link), now);
        }
        Self {
            registry,
            now,
            next_ack: 0,
        }
    }

    /// Returns what is to be sent, as `(link, event or answer)`; announcements have no link.
    fn actions(&mut self) -> Vec<(Option<LinkId>, Value)> {
        let parse = |text: &str| match Packet::decode(&text[1..]).expect("a packet") {
            Packet::Event { json, .. } | Packet::Ack { json, .. } => {
                serde_json::from_str(json).expect("JSON")
            }
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| self.registry.poll_action())
            .flat_map(|action| match action {
                Action::Send { to, text } | Action::Notify { to, text, .. } => {
                    vec![(Some(to), parse(&text))]
                }
                Action::Offer { to, text, .. } => vec![(Some(to), parse(&text))],
                Action::Welcome { to, welcome, .. } => vec![(Some(to), parse(&welcome.encode()))],
                Action::Announce(peers) => {
                    let texts = peers.iter().map(|peer| (None, parse(&peer.text)));
                    texts.collect()
                }
                Action::Joined { .. } | Action::Left(_) => Vec::new(),
                Action::Idle(link) => vec![(Some(link), json!("idle"))],
                #[cfg(feature = "cluster")]
                Action::Open(_) | Action::CloseWay(_) | Action::Publish(_) => Vec::new(),
            })
            .collect()
    }

    fn event(&mut self, link: LinkId, event: Event<'_>) {
        let ack = self.next_ack;
        self.next_ack += 1;
        let now = self.now;
        if let Some(check) = self.registry.handle_event(link, event, Some(ack), now) {
            self.registry.handle_checked(link, check.run(), now);
        }
    }

    /// Sends an event and returns its answer, which must be the only thing that happens.
    fn ask(&mut self, link: LinkId, event: Event<'_>) -> Value {
        self.event(link, event);
        match self.actions().as_slice() {
            [(to, answer)] if *to == Some(link) => answer.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn send_join(&mut self, link: LinkId, address: &str, data: &str) {
        self.event(
            link,
            Event::Join {
                address: address.to_owned(),
                data: data.to_owned(),
            },
        );
    }

    fn challenge(&mut self, link: LinkId, key: &Keypair) -> String {
        self.send_join(link, &address(key), &public(key));
        let (_, answer) = self.actions().pop().expect("an answer");
        answer[1].as_str().expect("a nonce").to_owned()
    }

    /// Joins with the challenge; returns what happens in the end.
    fn join(&mut self, link: LinkId, key: &Keypair) -> Vec<(Option<LinkId>, Value)> {
        let nonce = self.challenge(link, key);
        self.send_join(link, &address(key), &sign(key, &nonce));
        self.actions()
    }

    fn leave(&mut self, link: LinkId, key: &Keypair) {
        let address = address(key);
        let event = Event::Leave { address };
        self.registry.handle_event(link, event, None, self.now);
    }

    fn dial(&mut self, link: LinkId, from: &Keypair, to: &Keypair, id: &str) {
        let event = Event::Dial {
            from: address(from),
            to: address(to),
            dial_id: DialId::new(id).expect("plain"),
        };
        self.event(link, event);
    }

    /// Joins `A` and `B`, and opens an accepted dial `d` between them.
    fn dialled(&mut self) -> (Keypair, Keypair) {
        let (a, b) = (key(), key());
        self.join(A, &a);
        self.join(B, &b);
        self.dial(A, &a, &b, "d");
        self.registry.handle_ack(B, 0, "[]");
        let happened = [
            (Some(B), json!(["ss-incomming", "d", address(&a)])),
            (Some(A), json!([])),
        ];
        assert_eq!(self.actions(), happened);
        (a, b)
    }

    fn route(&self, link: LinkId, sender: Side) -> Option<Route> {
        let dial_id = "d";
        self.registry.route(link, StreamName { dial_id, sender })
    }

    fn end(&mut self, link: LinkId, sender: Side) {
        let dial_id = "d";
        self.registry
            .handle_end(link, StreamName { dial_id, sender });
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.registry.handle_timeout(self.now);
    }
}

/// The origin of a link: each link has an address of its own.
fn from(link: LinkId) -> Claimant {
    let n = u8::try_from(link.0).expect("few links");
    Weights::default().claimant([192, 0, 2, n].into())
}

fn key() -> Keypair {
    Keypair::generate_ed25519()
}

fn address(key: &Keypair) -> String {
    let peer = key.public().to_peer_id();
    format!("/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/ipfs/{peer}")
}

fn public(key: &Keypair) -> String {
    hex::encode(key.public().encode_protobuf())
}

fn sign(key: &Keypair, nonce: &str) -> String {
    hex::encode(key.sign(nonce.as_bytes()).expect("signs"))
}

fn star() -> Star {
    Star::new(Config::default())
}

fn cut(stream: &str, cut: DialEnd) -> Value {
    let name = format!("socket.io-pull-stream.error.{stream}");
    json!([name, cut.to_string()])
}

fn refused(refusal: &Refusal) -> Value {
    json!([refusal.to_string()])
}
