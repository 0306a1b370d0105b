//! What a panic in the server's own tasks costs, and who hears of it. The log is what panics here: the server calls
//! nothing else that a test could break.

use std::{
    fmt::{Debug, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use libp2p_websocket_star::rendezvous::{EndError, Limits, Server};
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

use crate::client::{Client, config, http, server, soon};

/// Panics at events with this text, so many times.
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

/// Has all tasks on this thread, as those of the test are, panic when they log `text`, from the moment that the
/// number is set.
fn bomb(text: &'static str) -> (Arc<AtomicUsize>, DefaultGuard) {
    let left = Arc::new(AtomicUsize::new(0));
    let bomb = Bomb {
        text,
        left: left.clone(),
    };
    let subscriber = tracing_subscriber::registry().with(bomb);
    (left, tracing::subscriber::set_default(subscriber))
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
    let (left, _guard) = bomb("too many connections");
    // Beside those that are links there may be 1024.
    let needed = rlimit::increase_nofile_limit(4096).expect("a limit");
    assert!(needed >= 4096, "the system allows {needed} descriptors");
    let limits = Limits::default().with_max_links(1);
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
    // Nobody is left to believe that the server is there.
    assert_eq!(link.closed().await, None);
    assert!(TcpStream::connect(addr).await.is_err());
    assert_eq!(server.ended().await, ended);
    soon("the end", server.shutdown()).await;
}
