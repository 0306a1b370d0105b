//! What `close` of a connection promises: the socket has accepted all data and the end marker.

use std::{io, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p_websocket_star::{Connection, Limits};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::support::{
    ed25519, hasty, pattern,
    raw::Raw,
    scripted::{Link, Scripted, error},
    within,
};

/// Together, these connections write more bytes than the kernel's largest buffers hold.
const CONNECTIONS: usize = 500;
const DATA: usize = 32 * 1024;

/// A node with connections, on a runtime of its own, linked to a server that reads nothing more.
struct Setup {
    runtime: Option<Runtime>,
    _server: Scripted,
    link: Link,
    _node: Raw,
    connections: Vec<Connection>,
}

fn name(connection: usize) -> String {
    format!("c{connection}")
}

impl Setup {
    async fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = Scripted::with_small_receive_buffer().await;
        let config = hasty().with_limits(Limits::default().with_connections(CONNECTIONS));
        let node = runtime.spawn(async { Raw::with(&ed25519(), config) });
        let mut node = node.await.expect("no panic");
        node.listen_on(&server.addr()).expect("a good address");
        let (mut link, _) = futures::future::join(server.joined(), node.joined()).await;
        let mut connections = Vec::new();
        for n in 0..CONNECTIONS {
            let id = name(n);
            let (_, (connection, _)) = futures::future::join(link.dial(&id), node.accept()).await;
            connections.push(connection);
        }
        Self {
            runtime: Some(runtime),
            _server: server,
            link,
            _node: node,
            connections,
        }
    }

    /// Writes to and closes one connection after the other until a close has to wait. Returns the number of closes
    /// that did not.
    async fn fill(&mut self) -> usize {
        for (n, connection) in self.connections.iter_mut().enumerate() {
            let data = pattern(0, DATA);
            let write = within("room", connection.write_all(&data)).await;
            write.expect("no reset");
            let close = tokio::time::timeout(Duration::from_secs(1), connection.close());
            match close.await {
                Ok(closed) => closed.expect("no reset"),
                Err(_) => return n,
            }
        }
        panic!("every close was ready, though nobody reads");
    }

    /// Ends all tasks of the node.
    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Reads the data and the end of that many connections.
    async fn expect_ends(&mut self, connections: usize) {
        for n in 0..connections {
            assert_eq!(self.link.item().await, pattern(0, DATA), "{n}");
            let event = error(&format!("{}.listener", name(n)));
            assert_eq!(self.link.expect(&event).await.args, [json!(true)]);
        }
    }
}

#[tokio::test]
async fn a_close_waits_until_the_server_takes_what_was_written() {
    let mut setup = Setup::new().await;
    let closed = setup.fill().await;
    let mut waiting = setup.connections.remove(closed);
    let (closed, ()) = futures::future::join(
        within("the close", waiting.close()),
        setup.expect_ends(closed + 1),
    )
    .await;
    closed.expect("no reset");
    // The connection is closed for writing only.
    assert!(futures::poll!(waiting.read(&mut [0; 1])).is_pending());
    setup.end();
}

#[tokio::test]
async fn what_was_closed_arrives_although_everything_is_dropped_then() {
    let mut setup = Setup::new().await;
    let closed = setup.fill().await;
    // The link cannot continue, as if the process had ended.
    setup.end();
    let waiting = setup.connections.get_mut(closed).expect("one that waits");
    let lost = within("a reset", waiting.close()).await;
    assert_eq!(
        lost.expect_err("a reset").kind(),
        io::ErrorKind::ConnectionReset
    );
    setup.expect_ends(closed).await;
}

/// After the last connection is closed, the server sends more to a socket that would not be read. That would reset
/// the TCP connection, and lose what is still on its way to the server.
#[tokio::test]
async fn what_was_closed_arrives_although_the_server_has_more_to_say_then() {
    let server = Scripted::with_small_receive_buffer().await;
    let node = Raw::with(&ed25519(), hasty().with_allow_local_rendezvous(true));
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    let mut link = server.joined().await;
    let id = link.take_dial().await;
    let dialled = within("a dial", dial).await.expect("no panic");
    let mut connection = dialled.expect("a connection");
    let data = pattern(0, DATA);
    let write = within("room", connection.write_all(&data)).await;
    write.expect("no reset");
    within("the close", connection.close())
        .await
        .expect("no reset");
    // After this, nothing needs the link any more.
    link.end(&format!("{id}.listener"), json!(true)).await;
    drop(connection);
    for _ in 0..20 {
        link.text("3").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut received = Vec::new();
    while received.len() < DATA {
        received.extend(link.item().await);
    }
    assert!(received == data, "other data");
    link.until_gone().await;
}
