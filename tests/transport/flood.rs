//! A connection that is not read must not hold up its neighbours on the same link. JavaScript peers do not know
//! credits: they keep sending, and accept everything that arrives.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::join};
use libp2p_websocket_star::{
    Config, Connection,
    error::StreamError,
    rendezvous::{self, Limits, Refused, Server},
};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::support::{
    address, ed25519, embedded,
    js::{Peer, Rendezvous, RendezvousOptions, wire},
    pattern,
    raw::{Raw, check_echo, echo, reset},
    within,
};

const NEIGHBOURS: usize = 99;
/// The longest time that a connection may hold up its neighbours.
const HOLD: Duration = Duration::from_secs(1);
/// The additional time for everything that is queued before a message when the hold-up ends.
const SLACK: Duration = Duration::from_secs(1);
const FLOOD: usize = 128 << 20;

/// Connections on which small messages are echoed again and again.
struct Neighbours {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Duration>>,
}

impl Neighbours {
    async fn start(dialer: &Raw, listener: &mut Raw, addr: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for _ in 0..NEIGHBOURS {
            let (connection, (other, _)) = join(dialer.dial(addr), listener.accept()).await;
            tokio::spawn(pong(other));
            tasks.push(tokio::spawn(ping(connection, stop.clone())));
        }
        Self { stop, tasks }
    }

    /// Ends all of them properly. Returns the longest time between two echoes of one connection.
    async fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for task in self.tasks {
            let gap = within("an end", task).await.expect("an echo of all");
            longest = longest.max(gap);
        }
        longest
    }
}

/// Sends each message back at once.
async fn pong(mut connection: Connection) -> io::Result<()> {
    let mut data = [0; 16];
    while connection.read(&mut data[..1]).await? > 0 {
        connection.read_exact(&mut data[1..]).await?;
        connection.write_all(&data).await?;
        connection.flush().await?;
    }
    connection.close().await
}

async fn ping(mut connection: Connection, stop: Arc<AtomicBool>) -> Duration {
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    let mut data = [0; 16];
    while !stop.load(Ordering::Relaxed) {
        connection.write_all(&data).await.expect("no reset");
        connection.flush().await.expect("no reset");
        let read = within("an echo", connection.read_exact(&mut data)).await;
        read.expect("no reset");
        longest = longest.max(last.elapsed());
        last = Instant::now();
        sleep(Duration::from_millis(50)).await;
    }
    check_echo(connection, 0, 1).await;
    longest
}

/// Dials in both directions, and checks the echoes.
async fn check_both_ways(rust: &mut Raw, ours: &str, js: &Peer, theirs: &str) {
    js.mode("echo", json!({})).await;
    check_echo(rust.dial(theirs).await, 100_000, 10_000).await;
    let answer = async { echo(rust.accept().await.0).await.expect("no reset") };
    join(js.echo(&wire(ours), 100_000), answer).await;
}

async fn javascript_floods(addr: &str) {
    let config = Config::default()
        .with_allow_local_rendezvous(true)
        .with_hold_up_timeout(HOLD);
    let (mut rust, dialer, js) = (Raw::with(&ed25519(), config), Raw::new(), Peer::start());
    let (_, ours) = rust.listen(addr).await;
    let ours = ours.to_string();
    let theirs = js.listen(addr).await;
    let neighbours = Neighbours::start(&dialer, &mut rust, &ours).await;

    let flood = json!({"mode": "collect", "bytes": FLOOD});
    let flood = js.begin_dial(&wire(&ours), flood).await;
    let (mut unread, _) = rust.accept().await;
    let told = js.dialled(flood).await;
    assert_eq!(told["error"], "the reader stalled", "{told}");
    // Much of the flood is still to come. It ends before the echo that follows it on the same link.
    check_both_ways(&mut rust, &ours, &js, &theirs).await;
    let (connection, (other, _)) = join(dialer.dial(&ours), rust.accept()).await;
    join(check_echo(connection, 100_000, 10_000), echo(other))
        .await
        .1
        .expect("no reset");

    let gap = neighbours.stop().await;
    assert!(gap <= HOLD + SLACK, "{gap:?}");
    let mut held = Vec::new();
    let read = within("a reset", unread.read_to_end(&mut held)).await;
    let error = reset(read.expect_err("a reset"));
    assert_eq!(error, StreamError::ReaderStalled);
    assert!(held == pattern(0, held.len()), "wrong bytes");
}

#[tokio::test]
async fn a_javascript_peer_that_floods_holds_up_nobody_for_long_through_the_embedded_rendezvous() {
    let star = embedded().await;
    javascript_floods(&address(&star)).await;
    star.shutdown().await;
}

#[tokio::test]
async fn a_javascript_peer_that_floods_holds_up_nobody_for_long_through_the_npm_rendezvous() {
    let star = Rendezvous::start(RendezvousOptions::default()).await;
    javascript_floods(&star.addr()).await;
}

/// A rendezvous, a Rust peer that dials, a second Rust peer for the neighbours, and a JavaScript peer that accepts a
/// connection and does not read it.
struct Unread {
    star: Server,
    dialer: Raw,
    _other: Raw,
    js: Peer,
    ours: String,
    theirs: String,
    neighbours: Neighbours,
    connection: Connection,
}

impl Unread {
    async fn start() -> Self {
        let limits = Limits::default().with_hold_timeout(HOLD);
        let config = rendezvous::Config::default().with_limits(limits);
        let star = Server::bind(config).await.expect("a free port");
        let (mut dialer, mut other, js) = (Raw::new(), Raw::new(), Peer::start());
        let addr = address(&star);
        let (_, ours) = dialer.listen(&addr).await;
        let (_, others) = other.listen(&addr).await;
        let theirs = js.listen(&addr).await;
        let neighbours = Neighbours::start(&dialer, &mut other, &others.to_string()).await;
        js.mode("stall", json!({})).await;
        let connection = dialer.dial(&theirs).await;
        Self {
            star,
            dialer,
            _other: other,
            js,
            ours: ours.to_string(),
            theirs,
            neighbours,
            connection,
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        let sent = async {
            let data = vec![0; 1 << 20];
            for _ in 0..FLOOD >> 20 {
                self.connection.write_all(&data).await?;
            }
            self.connection.close().await
        };
        within("all to be sent, or a reset", sent).await
    }

    /// Checks that the links still work. Returns the longest wait of a neighbour, and the number of dials that the
    /// rendezvous reset because they held up others.
    async fn end(mut self) -> (Duration, u64) {
        check_both_ways(&mut self.dialer, &self.ours, &self.js, &self.theirs).await;
        let gap = self.neighbours.stop().await;
        let held_up = self.star.snapshot().refusals.get(Refused::HeldUp);
        self.star.shutdown().await;
        (gap, held_up)
    }
}

/// The JavaScript process accepts everything that arrives on its socket, even if the stream is not read.
#[tokio::test]
async fn a_javascript_peer_that_does_not_read_a_stream_holds_up_nobody() {
    let mut unread = Unread::start().await;
    unread.send().await.expect("no reset");
    let (gap, held_up) = unread.end().await;
    assert!(gap <= SLACK, "{gap:?}");
    assert_eq!(held_up, 0);
}

#[tokio::test]
async fn a_javascript_peer_that_does_not_read_its_socket_holds_up_its_sender_for_a_short_time_only()
{
    let mut unread = Unread::start().await;
    unread.js.send(json!({"cmd": "pause"})).await;
    let error = reset(unread.send().await.expect_err("a reset"));
    assert_eq!(error, StreamError::Stopped);
    let read = within("a reset", unread.connection.read(&mut [0])).await;
    let reason = "the receiver read too little for too long, and held up its sender".to_owned();
    let error = reset(read.expect_err("a reset"));
    assert_eq!(error, StreamError::ResetByPeer(reason));
    unread.js.send(json!({"cmd": "resume"})).await;
    let (gap, held_up) = unread.end().await;
    assert!(gap <= HOLD + SLACK, "{gap:?}");
    assert_eq!(held_up, 1);
}
