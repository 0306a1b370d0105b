//! The contracts of a transport, as libp2p's documentation and its own transports define them. Each is tested at the
//! embedded rendezvous over real sockets.
//!
//! All tasks, including those of the rendezvous, run on the thread of the test, and only while the test waits. So a
//! test can stop everything after any number of [`steps`], and the result does not depend on the speed of the
//! machine.

mod addresses;
mod composed;
mod dials;
mod ends;
mod events;
mod listeners;
mod node;
mod order;
mod removal;
mod swarms;
mod upgrades;
mod wakes;

use std::{future::poll_fn, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{Multiaddr, core::transport::TransportEvent, identity::Keypair};
use libp2p_websocket_star::{Connection, WebSocketStarTransport, rendezvous::Server};
use tokio::{runtime::Handle, task::JoinHandle};

use self::node::Node;
use crate::support::{address, ed25519, hasty, raw::echo, within};

/// More steps than any test here takes.
const MANY: usize = 1000;

/// Lets all tasks run until they wait for the network, `count` times.
async fn steps(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// Returns the numbers of steps or polls after which to stop. A test goes on until an operation completes before it
/// is stopped.
fn counts() -> impl Iterator<Item = usize> {
    (0..).inspect(|count| assert!(*count < MANY, "it never gets done"))
}

/// Waits until a condition holds that no future of the test reports.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    within(what, async {
        while !is_so() {
            steps(1).await;
        }
    })
    .await;
}

/// Returns the number of tasks: those of all links, of the rendezvous, and of the test.
fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits until the rendezvous has no dials and exactly `links` links, and at most `most_tasks` tasks are left.
async fn settled(star: &Server, links: usize, most_tasks: usize) {
    let is_settled = || {
        let now = star.snapshot();
        (now.links, now.dials) == (links, 0) && tasks() <= most_tasks
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !is_settled() {
            steps(1).await;
        }
    });
    if waited.await.is_err() {
        let (now, tasks) = (star.snapshot(), tasks());
        panic!(
            "{} links instead of {links}, {} dials, {tasks} tasks instead of {most_tasks}",
            now.links, now.dials
        );
    }
}

/// Returns the address at which peers listen at `star`.
fn base(star: &Server) -> Multiaddr {
    address(star).parse().expect("a multiaddr")
}

fn transport(key: &Keypair) -> WebSocketStarTransport {
    WebSocketStarTransport::new(key, hasty())
}

fn raw() -> Node<WebSocketStarTransport> {
    Node::new(transport(&ed25519()))
}

/// Sends data over a connection whose other end echoes.
async fn check(mut connection: Connection) {
    let said = async {
        connection.write_all(b"hello").await?;
        connection.close().await?;
        let mut heard = Vec::new();
        connection.read_to_end(&mut heard).await?;
        std::io::Result::Ok(heard)
    };
    let heard = within("the echo", said).await.expect("no reset");
    assert_eq!(heard, b"hello");
}

/// Sends data from one end of a connection to the other, and back.
async fn check_both(connection: Connection, other: Connection) {
    let ((), echoed) = futures::future::join(check(connection), echo(other)).await;
    assert_eq!(echoed.expect("no reset"), 5);
}

/// A peer that echoes incoming data as long as the test runs.
struct Echo {
    address: Multiaddr,
    task: JoinHandle<()>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Echo {
    async fn at(star: &Server) -> Self {
        let mut node = raw();
        let (_, address) = node.listen(&base(star)).await;
        let task = tokio::spawn(async move {
            loop {
                // Without a time limit.
                let event = poll_fn(|cx| node.poll(cx)).await;
                if let TransportEvent::Incoming { upgrade, .. } = event {
                    let connection = upgrade.await.expect("accepted");
                    // A dialer may be gone.
                    tokio::spawn(echo(connection));
                }
            }
        });
        Self { address, task }
    }
}
