//! Connections that the application has accepted and hands to the server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures::FutureExt as _;
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Limits, Refused, ServeError, Server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::TcpListener,
};

use crate::client::{Client, Eio, config, dial, soon};

/// The number of connections that are allowed in addition to the links.
const BESIDE_LINKS: usize = 1024;
const LINK: &str = "GET /socket.io/?EIO=3&transport=websocket HTTP/1.1\r\nHost: a\r\n\
                    Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

fn remote(n: u8) -> SocketAddr {
    ([192, 0, 2, n], 4000).into()
}

async fn limited(limits: Limits) -> Server {
    let config = config().with_limits(limits);
    Server::bind(config).await.expect("a free port")
}

async fn hand(server: &Server, remote: SocketAddr) -> Result<DuplexStream, ServeError> {
    let (ours, its) = tokio::io::duplex(4096);
    server.serve_connection(its, remote).await.map(|()| ours)
}

/// Asks for a link, and returns the status line.
async fn link(stream: &mut DuplexStream) -> String {
    stream.write_all(LINK.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        answer.push(soon("an answer", stream.read_u8()).await.expect("a byte"));
    }
    String::from_utf8_lossy(&answer).trim().to_owned()
}

#[tokio::test]
async fn a_peer_on_a_listener_of_the_application_is_a_peer_as_any_other() {
    let server = limited(Limits::default()).await;
    let listener = TcpListener::bind(server_addr()).await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let accepted = async {
        let (stream, remote) = listener.accept().await.expect("a connection");
        let served = server.serve_connection(stream, remote).await;
        served.expect("a place");
    };
    let upgrade = Client::upgrade_at(addr, Eio::V3, "EIO=3&transport=websocket");
    let ((), mut there) = tokio::join!(accepted, upgrade);
    there.greet().await;
    there.join(&Keypair::generate_ed25519()).await;
    let mut here = Client::joined(&server).await;
    dial(&mut here, &mut there, "d").await;
    assert_eq!(server.snapshot().links, 2);
    server.shutdown().await;
    let (code, _) = there.closed().await.expect("a reason");
    assert_eq!(u16::from(code), 1001);
}

fn server_addr() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[tokio::test]
async fn a_connection_counts_for_the_remote_address_that_is_given() {
    let server = limited(Limits::default().with_max_links_per_ip(1)).await;
    let mut first = hand(&server, remote(1)).await.expect("a place");
    let mut same = hand(&server, remote(1)).await.expect("a place");
    let mut other = hand(&server, remote(2)).await.expect("a place");
    let begun = "HTTP/1.1 101 Switching Protocols";
    assert_eq!(link(&mut first).await, begun);
    assert_eq!(link(&mut same).await, "HTTP/1.1 429 Too Many Requests");
    assert_eq!(link(&mut other).await, begun);
}

#[tokio::test]
async fn one_that_comes_too_soon_is_refused_counted_and_dropped() {
    let server = limited(Limits::default().with_connection_rate(1, 1)).await;
    let _first = hand(&server, remote(1)).await.expect("a place");
    let (mut ours, its) = tokio::io::duplex(64);
    let refused = server.serve_connection(its, remote(1)).await;
    assert_eq!(refused, Err(ServeError::Refused(Refused::ConnectionRate)));
    assert_eq!(soon("the end", ours.read(&mut [0])).await.ok(), Some(0));
    let refusals = server.snapshot().refusals;
    assert_eq!(refusals.get(Refused::ConnectionRate), 1);
}

#[tokio::test]
async fn one_whose_place_is_gone_before_it_is_served_ends() {
    let never = Duration::from_secs(3600);
    let limits = Limits::default()
        .with_max_links(1)
        .with_connection_rate(1, 100_000)
        .with_handshake_timeout(never);
    let server = limited(limits).await;
    let mut others = Vec::new();
    for n in 1..BESIDE_LINKS as u32 {
        let origin = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + n);
        let other = hand(&server, (origin, 4000).into()).await;
        others.push(other.expect("a place"));
    }
    tokio::task::yield_now().await;
    // None of these connections is served before this test waits for something.
    let mut first = hand(&server, remote(1)).await.expect("a place");
    let _second = hand(&server, remote(1)).await.expect("a place");
    let mut other = hand(&server, remote(2))
        .await
        .expect("a place of the first");
    assert_eq!(link(&mut other).await, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(soon("the end", first.read(&mut [0])).await.ok(), Some(0));
}

#[test]
fn a_server_whose_runtime_is_gone_serves_no_connection() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(limited(Limits::default()));
    drop(runtime);
    let handed = hand(&server, remote(1)).now_or_never();
    let handed = handed.expect("nothing to wait for");
    assert_eq!(handed.err(), Some(ServeError::Ended));
}
