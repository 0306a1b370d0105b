//! Three instances of the example `full_node`, run as a user runs it.

use std::process::ExitStatus;

use libp2p_websocket_star::rendezvous::Server;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    example,
    support::{address, embedded, within},
};

/// A running example. It is killed when this is dropped.
struct Node {
    id: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    /// All lines of its output so far.
    said: Vec<String>,
}

impl Node {
    async fn start(rendezvous: &str) -> Self {
        let mut child = example::command("full_node")
            .args(["--loopback", rendezvous])
            .spawn()
            .expect("the example runs");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut node = Self {
            id: String::new(),
            child,
            input,
            output,
            said: Vec::new(),
        };
        node.says("this is ").await;
        let line = node.said.last().expect("said");
        node.id = line.trim_start_matches("this is ").to_owned();
        node
    }

    async fn line(&mut self) -> Option<String> {
        let line = within("a line", self.output.next_line()).await;
        let line = line.expect("UTF-8")?;
        self.said.push(line.clone());
        Some(line)
    }

    /// Waits until it has printed a line that begins with `begin`, unless it has done so already.
    async fn says(&mut self, begin: &str) {
        if self.said.iter().any(|line| line.starts_with(begin)) {
            return;
        }
        let wait = async {
            loop {
                match self.line().await {
                    Some(line) if line.starts_with(begin) => break,
                    Some(_) => {}
                    None => panic!("it ended before it said {begin:?}"),
                }
            }
        };
        let what = format!("a line that begins with {begin:?}");
        within(&what, wait).await;
    }

    /// Returns the ways in which it has connected to a peer, as it printed them.
    fn ways(&self, peer: &str) -> Vec<&str> {
        let begin = format!("connected to {peer} by ");
        let lines = self.said.iter();
        lines.filter_map(|line| line.strip_prefix(&begin)).collect()
    }

    async fn write(&mut self, line: &str) {
        let input = self.input.as_mut().expect("open");
        let line = format!("{line}\n");
        input.write_all(line.as_bytes()).await.expect("it reads");
    }

    async fn interrupt(&self) {
        let pid = self.child.id().expect("it runs").to_string();
        let kill = Command::new("kill").args(["-s", "INT", &pid]).status();
        assert!(kill.await.expect("kill runs").success());
    }

    /// Waits until it ends, and reads the rest of its output.
    async fn ended(&mut self) -> ExitStatus {
        while self.line().await.is_some() {}
        let status = within("the example to end", self.child.wait()).await;
        status.expect("a status")
    }
}

#[tokio::test]
async fn three_full_nodes_find_each_other_talk_and_see_one_leave() {
    let server = embedded().await;
    let at = address(&server);
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::start(&at).await);
    }
    let ids: Vec<String> = nodes.iter().map(|node| node.id.clone()).collect();

    for node in &mut nodes {
        node.says(&format!("joined as {at}/p2p/{}", node.id)).await;
        node.says("kad is server").await;
        let own = node.id.clone();
        for peer in ids.iter().filter(|id| **id != own) {
            node.says(&format!("discovered {peer} at the rendezvous"))
                .await;
            node.says(&format!("connected to {peer} by ")).await;
            node.says(&format!("{peer} has subscribed")).await;
        }
    }
    nodes[1].write("good morning").await;
    for reader in [0, 2] {
        let line = format!("{} says good morning", ids[1]);
        nodes[reader].says(&line).await;
    }
    one_connection_each(&nodes, &server);

    let mut leaver = nodes.remove(2);
    leaver.interrupt().await;
    assert!(leaver.ended().await.success());
    for node in &mut nodes {
        node.says(&format!("disconnected from {}", ids[2])).await;
    }
    for node in &mut nodes {
        drop(node.input.take());
        assert!(node.ended().await.success());
    }
    server.shutdown().await;
}

/// Checks that each pair has one connection, and that it goes through the rendezvous: the nodes know no other
/// addresses.
fn one_connection_each(nodes: &[Node], server: &Server) {
    for node in nodes {
        for peer in nodes.iter().filter(|other| other.id != node.id) {
            let ways = node.ways(&peer.id);
            let star = ways.iter().filter(|way| way.contains("websocket-star"));
            assert_eq!((ways.len(), star.count()), (1, 1), "{ways:?}");
        }
    }
    let counters = server.snapshot().counters;
    assert_eq!(counters.dials, 3, "one for each pair: {counters:?}");
}
