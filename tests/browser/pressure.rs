//! A page that does not read one of its connections: the cost for that connection, and for its neighbours on the same
//! link.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p_websocket_star::Connection;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    at_either_rendezvous,
    browser::{BOTH, Browser, Page},
    line::Line,
    start_raw,
    support::{
        address, embedded,
        js::{Peer, wire},
        pattern,
        raw::Raw,
        within,
    },
};

const FLOOD: usize = 256 << 20;
/// The most bytes by which the page's memory may grow in the meantime: three times the limit of unread data.
const GROWTH: f64 = (48 << 20) as f64;

/// A connection that the page echoes, on the same link as the one that the page does not read.
struct Neighbour(Connection);

impl Neighbour {
    async fn of(page: &Page, at: &str) -> Self {
        let native = Raw::new();
        let echo = "const neighbour = await raw.accept(); neighbour.echo();";
        let (connection, accepted) = tokio::join!(native.dial(at), page.run(echo, vec![]));
        accepted.expect("it is accepted");
        Self(connection)
    }

    /// Returns the median of 100 round trips.
    async fn round_trip(&mut self) -> Duration {
        let mut times = Vec::new();
        for _ in 0..100 {
            let start = Instant::now();
            self.0.write_all(&[7; 64]).await.expect("open");
            self.0.flush().await.expect("open");
            let mut read = [0; 64];
            let echoed = within("an echo", self.0.read_exact(&mut read)).await;
            echoed.expect("open");
            times.push(start.elapsed());
        }
        times.sort();
        times[times.len() / 2]
    }

    /// Checks that the round trip is not much longer than before.
    async fn check_round_trip(&mut self, before: Duration) {
        let now = self.round_trip().await;
        let most = before * 5 + Duration::from_millis(20);
        assert!(now <= most, "{now:?} after {before:?}");
    }
}

async fn memory(page: &Page) -> f64 {
    page.number("return star.memory_bytes();", vec![]).await
}

async fn a_javascript_peer_floods(page: &Page, rendezvous: &str) {
    let ours = start_raw(page, rendezvous, json!({})).await;
    let mut neighbour = Neighbour::of(page, &ours).await;
    let (idle, before) = (neighbour.round_trip().await, memory(page).await);
    let js = Peer::start();
    js.listen(rendezvous).await;
    let flood = json!({ "mode": "collect", "bytes": FLOOD });
    let flood = js.begin_dial(&wire(&ours), flood).await;
    let accept = "globalThis.unread = await raw.accept();";
    page.run(accept, vec![]).await.expect("it is accepted");
    let told = js.dialled(flood).await;
    assert_eq!(told["error"], "the reader stalled", "{told}");
    neighbour.check_round_trip(idle).await;
    let grown = memory(page).await - before;
    assert!(grown <= GROWTH, "{grown} bytes");
    let read = page.run("await unread.read(1e12);", vec![]).await;
    let error = read.expect_err("a reset");
    assert!(error.contains("ReaderStalled"), "{error}");
    neighbour.check_round_trip(idle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_peer_that_floods_a_page_that_does_not_read_loses_its_connection_only() {
    at_either_rendezvous(a_javascript_peer_floods).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_credits_waits_for_a_page_that_does_not_read_until_it_does() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let page = browser.page(sockets).await;
        let ours = start_raw(&page, &address(&server), json!({})).await;
        let mut neighbour = Neighbour::of(&page, &ours).await;
        let (idle, before) = (neighbour.round_trip().await, memory(&page).await);
        let native = Raw::new();
        let accept = "globalThis.unread = await raw.accept();";
        let (mut dialled, accepted) = tokio::join!(native.dial(&ours), page.run(accept, vec![]));
        accepted.expect("it is accepted");
        let mut sending = tokio::spawn(async move {
            for sent in (0..FLOOD).step_by(65_536) {
                dialled.write_all(&pattern(sent, 65_536)).await?;
            }
            dialled.close().await
        });
        // This is longer than a connection may hold up its neighbours.
        let sent = timeout(Duration::from_secs(7), &mut sending).await;
        assert!(sent.is_err(), "{sent:?}");
        neighbour.check_round_trip(idle).await;
        let grown = memory(&page).await - before;
        assert!(grown <= GROWTH, "{grown} bytes");
        let read = page.number("return await unread.read(1e12);", vec![]).await;
        assert_eq!(read, FLOOD as f64);
        let sent = within("the end", sending).await.expect("no panic");
        sent.expect("no reset");
        page.close().await;
        server.shutdown().await;
    }
}

/// Returns a script that counts the bytes of all the page's sockets that wait in the browser to be sent.
const COUNT_UNSENT: &str = "
    const sockets = [], { WebSocket } = globalThis;
    globalThis.WebSocket = class extends WebSocket {
        constructor(...args) { super(...args); sockets.push(this); }
    };
    let writing = 0;
    const { write } = WritableStreamDefaultWriter.prototype;
    WritableStreamDefaultWriter.prototype.write = function (chunk) {
        const length = chunk.byteLength ?? chunk.length;
        const done = () => { writing -= length; };
        writing += length;
        const written = write.call(this, chunk);
        written.then(done, done);
        return written;
    };
    globalThis.unsent = () =>
        sockets.reduce((sum, socket) => sum + socket.bufferedAmount, writing);";
/// The most bytes that may wait there: two full items and some more.
const UNSENT: f64 = (512 << 10) as f64;

/// The opposite direction: the page writes to a link whose other end reads nothing for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_holds_little_while_its_link_takes_nothing() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let line = Line::to(server.local_addr()).await;
        let page = browser.page(sockets).await;
        page.run(COUNT_UNSENT, vec![]).await.expect("it counts");
        let mut native = Raw::new();
        let at = line.rendezvous();
        let theirs = native.listen(&address(&server)).await.1;
        start_raw(&page, &at, json!({})).await;
        let peer = theirs.to_string();
        let (_, peer) = peer.rsplit_once('/').expect("a peer id");
        let dial = "globalThis.unread = await raw.dial(args[0]);";
        let run = page.run(dial, vec![json!(format!("{at}/p2p/{peer}"))]);
        let (run, (mut accepted, _)) = tokio::join!(run, native.accept());
        run.expect("it is there");
        let before = memory(&page).await;
        line.stop(true);
        let write = "globalThis.written = unread.write(args[0]).then(() => unread.end());";
        let run = page.run(write, vec![json!(FLOOD)]).await;
        run.expect("it begins");
        for _ in 0..30 {
            sleep(Duration::from_millis(100)).await;
            let unsent = page.number("return unsent();", vec![]).await;
            assert!(unsent <= UNSENT, "{unsent} bytes");
        }
        let grown = memory(&page).await - before;
        assert!(grown <= GROWTH, "{grown} bytes");
        line.stop(false);
        let read = async {
            let (mut place, mut buffer) = (0, vec![0; 65_536]);
            loop {
                let n = accepted.read(&mut buffer).await.expect("no reset");
                if n == 0 {
                    return place;
                }
                assert!(buffer[..n] == pattern(place, n), "after {place}");
                place += n;
            }
        };
        assert_eq!(within("all", read).await, FLOOD);
        page.run("await written;", vec![]).await.expect("no reset");
        page.close().await;
        server.shutdown().await;
    }
}
