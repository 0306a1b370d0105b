//! Random actions of links in any order: all data must arrive, and nothing may be left in the end.

use std::collections::{HashMap, HashSet};

use libp2p_websocket_star::rendezvous::Server;
use serde_json::json;

use crate::client::{Client, config, end, item_data, until};

const LINKS: usize = 6;
const STEPS: usize = 2000;

/// A generator of numbers that are the same for the same seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).expect("31 bits") % n
    }
}

/// Prints the seed of a run that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("STAR_SEED={} does it again", self.0);
        }
    }
}

/// A link, and what it has received that is not checked yet.
struct Node {
    client: Client,
    joined: bool,
    /// The stream of the item whose bytes come next.
    due: Option<String>,
    /// The number of items received on each stream. Each item is checked when it arrives.
    items: HashMap<String, usize>,
    /// The streams that have ended, and how.
    ended: HashMap<String, String>,
    answers: HashMap<u64, String>,
}

impl Node {
    async fn new(server: &Server) -> Self {
        Self {
            client: Client::joined(server.local_addr()).await,
            joined: true,
            due: None,
            items: HashMap::new(),
            ended: HashMap::new(),
            answers: HashMap::new(),
        }
    }

    /// Handles one message. Accepts a dial.
    async fn step(&mut self) {
        let message = self.client.message().await.expect("the link is open");
        let Some(text) = message.as_text() else {
            let stream = self.due.take().expect("announced");
            let n = self.items.entry(stream).or_default();
            let len = message.as_payload().len() - 1;
            assert!(
                message.as_payload()[..] == item_data(*n, len)[..],
                "item {n}"
            );
            *n += 1;
            return;
        };
        let name = |prefix: &str| {
            let rest = text.strip_prefix(prefix)?;
            rest.split_once('"').map(|(name, _)| name.to_owned())
        };
        if let Some(stream) = name("451-[\"socket.io-pull-stream.queue.") {
            self.due = Some(stream);
        } else if let Some(stream) = name("42[\"socket.io-pull-stream.error.") {
            let before = self.ended.insert(stream, text.to_owned());
            assert_eq!(before, None, "ended twice");
        } else if let Some(answer) = text.strip_prefix("43") {
            let (ack, answer) = answer.split_at(answer.find('[').expect("an array"));
            let ack = ack.parse().expect("a number");
            self.answers.insert(ack, answer.to_owned());
        } else if let Some((ack, _)) = text.split_once("[\"ss-incomming\"") {
            self.client.send(format!("43{}[]", &ack[2..])).await;
        } else {
            assert!(text.starts_with("42[\"ws-peer\""), "{text}");
        }
    }

    async fn answer(&mut self, ack: u64) -> String {
        loop {
            if let Some(answer) = self.answers.remove(&ack) {
                return answer;
            }
            self.step().await;
        }
    }
}

struct Dial {
    id: String,
    /// The dialer and the listener.
    ends: [usize; 2],
    sent: [usize; 2],
    over: [bool; 2],
}

impl Dial {
    fn stream(&self, side: usize) -> String {
        format!("{}.{}", self.id, ["dialer", "listener"][side])
    }
}

struct World {
    server: Server,
    random: Random,
    nodes: Vec<Node>,
    dials: Vec<Dial>,
    done: HashSet<&'static str>,
}

impl World {
    async fn step(&mut self, step: usize) {
        let node = self.random.below(LINKS);
        match self.random.below(20) {
            0 => self.cut(node).await,
            1 | 2 => self.leave_or_join(node).await,
            3..=6 => self.dial(node, step).await,
            7..=8 => self.end().await,
            _ => self.data().await,
        }
    }

    async fn leave_or_join(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let event = match node.joined {
            true => json!(["ss-leave", node.client.address]),
            false => json!(["ss-join", node.client.address, ""]),
        };
        let ack = node.client.ask(event).await;
        let answer = node.answer(ack).await;
        assert!(answer == "[]" || answer.starts_with("[null"), "{answer}");
        node.joined = !node.joined;
        self.done.insert("joins and leaves");
    }

    async fn dial(&mut self, dialer: usize, step: usize) {
        let listener = (dialer + 1 + self.random.below(LINKS - 1)) % LINKS;
        let id = step.to_string();
        let (from, to) = (
            &self.nodes[dialer].client.address,
            &self.nodes[listener].client.address,
        );
        let event = json!(["ss-dial", from, to, id]);
        let ack = self.nodes[dialer].client.ask(event).await;
        let expected = match (self.nodes[dialer].joined, self.nodes[listener].joined) {
            (true, true) => "[]",
            (false, _) => "[\"Not authorized for this address\"]",
            (_, false) => "[\"Peer not found\"]",
        };
        let [a, b] = self
            .nodes
            .get_disjoint_mut([dialer, listener])
            .expect("two");
        let answer = async {
            tokio::select! {
                answer = a.answer(ack) => answer,
                () = async { loop { b.step().await } } => unreachable!("for ever"),
            }
        };
        assert_eq!(answer.await, expected);
        if expected == "[]" {
            let ends = [dialer, listener];
            self.dials.push(Dial {
                id,
                ends,
                sent: [0; 2],
                over: [false; 2],
            });
            self.done.insert("dials");
        } else {
            self.done.insert("refused dials");
        }
    }

    async fn data(&mut self) {
        let side = self.random.below(2);
        let len = self.random.below(3000);
        let Some(dial) = pick(&mut self.dials, &mut self.random) else {
            return;
        };
        if !dial.over[side] {
            let sender = &mut self.nodes[dial.ends[side]].client;
            assert!(
                sender
                    .try_item(&dial.stream(side), dial.sent[side], len)
                    .await
            );
            dial.sent[side] += 1;
        }
        if self.random.below(3) == 0 {
            self.nodes_hear_all().await;
            self.done.insert("data");
        }
    }

    async fn end(&mut self) {
        let side = self.random.below(2);
        let Some(dial) = pick(&mut self.dials, &mut self.random) else {
            return;
        };
        if !std::mem::replace(&mut dial.over[side], true) {
            self.nodes[dial.ends[side]]
                .client
                .send(end(&dial.stream(side)))
                .await;
        }
        self.nodes_hear_all().await;
        self.dials.retain(|dial| dial.over != [true; 2]);
        self.done.insert("ends");
    }

    /// Has every node read until it has everything that was sent to it.
    async fn nodes_hear_all(&mut self) {
        for dial in &self.dials {
            for side in [0, 1] {
                let (stream, node) = (dial.stream(side), &mut self.nodes[dial.ends[1 - side]]);
                while node.items.get(&stream).copied().unwrap_or(0) < dial.sent[side] {
                    node.step().await;
                }
                while dial.over[side] && !node.ended.contains_key(&stream) {
                    node.step().await;
                }
                assert_eq!(
                    node.items.get(&stream).copied().unwrap_or(0),
                    dial.sent[side]
                );
                if dial.over[side] {
                    assert_eq!(node.ended[&stream], end(&stream));
                }
            }
        }
    }

    /// Cuts a link without notice, and starts another one in its place.
    async fn cut(&mut self, cut: usize) {
        self.nodes_hear_all().await;
        self.nodes[cut] = Node::new(&self.server).await;
        for dial in self.dials.extract_if(.., |dial| dial.ends.contains(&cut)) {
            let other = dial.ends[usize::from(dial.ends[0] == cut)];
            for side in [0, 1] {
                let stream = dial.stream(side);
                // The server does not report the end of a stream that the node itself has ended.
                while !dial.over[side] && !self.nodes[other].ended.contains_key(&stream) {
                    self.nodes[other].step().await;
                }
            }
            self.done.insert("cuts");
        }
    }
}

fn pick<'a>(dials: &'a mut [Dial], random: &mut Random) -> Option<&'a mut Dial> {
    match dials.len() {
        0 => None,
        n => dials.get_mut(random.below(n)),
    }
}

#[tokio::test]
async fn whatever_links_do_all_arrives_that_should_and_nothing_is_left() {
    let given = std::env::var("STAR_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = Seed(given.unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1));
    let server = Server::bind(config()).await.expect("a free port");
    let mut nodes = Vec::new();
    for _ in 0..LINKS {
        nodes.push(Node::new(&server).await);
    }
    let random = Random(seed.0);
    let mut world = World {
        server,
        random,
        nodes,
        dials: Vec::new(),
        done: HashSet::new(),
    };
    for step in 0..STEPS {
        world.step(step).await;
        // The server closes links that are cut a moment later.
        let now = world.server.snapshot();
        assert!(now.dials >= world.dials.len(), "{now:?}");
    }
    world.nodes_hear_all().await;
    assert_eq!(world.done.len(), 6, "{:?}", world.done);
    let World { server, nodes, .. } = world;
    drop(nodes);
    until(&server, "nothing is left", |now| {
        now.links == 0 && now.peers.is_empty() && now.dials == 0 && now.queued_bytes == 0
    })
    .await;
}
