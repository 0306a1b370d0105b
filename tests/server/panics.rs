//! The effects of a panic in the server's own tasks, and who is notified. The log panics here, because the server
//! calls nothing else that a test could break.

use std::{
    fmt::{Debug, Write as _},
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use libp2p::{
    core::{
        Endpoint, Transport as _,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    identity::Keypair,
    multiaddr::Protocol,
};
use libp2p_websocket_star::{
    Config, Error, WebSocketStarTransport,
    error::LinkError,
    rendezvous::{EndError, Limits, Server},
};
use serde_json::json;
use tokio::net::TcpStream;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};

use crate::{
    client::{Client, config, http, server, soon},
    traced::traced,
};

/// A log layer that panics at events with this text, that many times.
struct Bomb {
    text: &'static str,
    left: Arc<AtomicUsize>,
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{value:?} ");
    }
}

impl<S: Subscriber> Layer<S> for Bomb {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let is_meant = text.0.contains(self.text);
        let less = |left: usize| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if is_meant && self.left.fetch_update(order, order, less).is_ok() {
            panic!("the log is broken");
        }
    }
}

/// Makes all tasks on this thread panic when they log `text`, as soon as the returned number is set. The tasks of a
/// test run on its thread.
fn bomb(text: &'static str) -> (Arc<AtomicUsize>, DefaultGuard) {
    let left = Arc::new(AtomicUsize::new(0));
    let bomb = Bomb {
        text,
        left: left.clone(),
    };
    let subscriber = tracing_subscriber::registry().with(bomb);
    (left, traced(subscriber))
}

#[tokio::test]
async fn a_panic_in_a_connection_costs_that_connection_and_is_counted() {
    let (left, _guard) = bomb("link ended");
    let server = server().await;
    let mut bystander = Client::joined(&server).await;
    let victim = Client::joined(&server).await;
    assert_eq!(bystander.announced().await, victim.address);
    left.store(1, Ordering::Relaxed);
    drop(victim);
    let counted = async {
        while server.snapshot().panics == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the panic is counted", counted).await;
    let snapshot = server.snapshot();
    assert_eq!((snapshot.panics, snapshot.links), (1, 1));
    assert_eq!(snapshot.peers, [bystander.address.clone()]);

    let refused = bystander.request(json!(["no such event"])).await;
    assert_eq!(refused, json!(["Unknown request"]));
    let newcomer = Client::joined(&server).await;
    assert_eq!(bystander.announced().await, newcomer.address);
    let metrics = http(server.local_addr(), "GET /metrics HTTP/1.1\r\nHost: x").await;
    assert!(
        metrics.contains("\nrendezvous_panics_total 1\n"),
        "{metrics}"
    );
    assert!(futures::poll!(std::pin::pin!(server.ended())).is_pending());
    server.shutdown().await;
}

#[tokio::test]
async fn a_panic_of_the_task_that_accepts_ends_the_server_which_tells_why() {
    let (left, _guard) = bomb("a connection is refused");
    let limits = Limits::default().with_connection_rate(1, 10);
    let server = Server::bind(config().with_limits(limits)).await;
    let server = server.expect("a free port");
    let addr = server.local_addr();
    let mut link = Client::joined(&server).await;
    left.store(1, Ordering::Relaxed);
    let mut connections = Vec::new();
    let fill = async {
        loop {
            match TcpStream::connect(addr).await {
                Ok(connection) => connections.push(connection),
                Err(_) => std::future::pending().await,
            }
        }
    };
    let ended = tokio::select! {
        ended = soon("the end", server.ended()) => ended,
        () = fill => unreachable!(),
    };
    assert_eq!(ended, EndError::Panicked("the log is broken".into()));
    // All connections are closed, so no client believes that the server is still there.
    assert_eq!(link.closed().await, None);
    assert!(TcpStream::connect(addr).await.is_err());
    assert_eq!(server.ended().await, ended);
    soon("the end", server.shutdown()).await;
}

async fn event(
    transport: &mut WebSocketStarTransport,
) -> TransportEvent<impl Sized, libp2p_websocket_star::Error> {
    soon("an event", poll_fn(|cx| Pin::new(&mut *transport).poll(cx))).await
}

/// Returns whether the error says that the link's task has ended.
fn is_task_ended(error: &Error) -> bool {
    let Error::Link { error, .. } = error else {
        return false;
    };
    matches!(error, LinkError::TaskEnded)
}

#[tokio::test]
async fn a_panic_of_a_links_task_is_told_to_its_listener_and_its_dials_and_a_new_link_works() {
    let (left, _guard) = bomb("the link is open");
    let server = server().await;
    let address = server.addresses().remove(0);
    let key = Keypair::generate_ed25519();
    let mut transport = WebSocketStarTransport::new(&key, Config::default());
    let listen = |transport: &mut WebSocketStarTransport| {
        let listening = transport.listen_on(ListenerId::next(), address.clone());
        listening.expect("a good address");
    };
    left.store(1, Ordering::Relaxed);
    listen(&mut transport);
    assert!(futures::poll!(poll_fn(|cx| Pin::new(&mut transport).poll(cx))).is_pending());
    let other = Keypair::generate_ed25519().public().to_peer_id();
    let opts = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    };
    let dial = transport.dial(address.clone().with(Protocol::P2p(other)), opts);
    let dial = dial.expect("a good address");
    let refused = soon("the end of the dial", dial).await;
    assert!(is_task_ended(&refused.expect_err("no link")));
    match event(&mut transport).await {
        TransportEvent::ListenerClosed {
            reason: Err(error), ..
        } => assert!(is_task_ended(&error), "{error}"),
        _ => panic!("it is closed first"),
    }

    listen(&mut transport);
    let joined = event(&mut transport).await;
    assert!(matches!(joined, TransportEvent::NewAddress { .. }));
    server.shutdown().await;
}
