//! Trunks: connections of HTTP/2 with mutual TLS, one from each node to each other.
//!
//! Each link of a client that dials peers at another node has a stream there, which lasts as long as it is of use. Messages
//! go over it as they would over a WebSocket, but without masks. The stream ends behind a close frame; all else is a cut.

mod incoming;
mod outgoing;
mod stream;
mod tls;

use std::time::Duration;

pub use self::tls::{TrunkTls, TrunkTlsError};
pub(super) use self::{
    incoming::Incoming,
    outgoing::{Trunk, WayError},
};

/// The path of a request for a stream, with the version of what goes over it.
const PATH: &str = "/trunk/1/link";
/// Which node asks.
const NODE: &str = "star-node";
/// For a client of which tenant, unless it is the default one.
const TENANT: &str = "star-tenant";
/// For a client at which IP address.
const CLIENT: &str = "star-client";
/// Why a stream is refused, in words.
const REFUSAL: &str = "star-refusal";

/// How many bytes of a stream may be on their way, and how many may wait to be sent: two items of the usual length. Half or twice as
/// many make no difference that could be measured (`cargo bench --bench cluster`).
const STREAM_WINDOW: u32 = 320 * 1024;
/// How many of all streams: no bound, or those that nobody reads would hold up the others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// How many streams a trunk may have. HTTP/2 tells the sender of room in the connection's window when half of it was taken; what
/// nobody reads has to fit the other half, or nothing moves any more.
const STREAMS: u32 = CONNECTION_WINDOW / 2 / STREAM_WINDOW - 96;
/// The largest piece that is sent at once: an item of the usual length, which is not copied then. It has to fit a stream's window at
/// every node, of whatever version.
const FRAME: u32 = 160 * 1024;
/// How long it may take to open a connection, and to have its certificate seen.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a trunk is tried.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long the answer may take. Then the trunk is cut.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Tries a trunk again and again; returns when it does not answer. `answered` is told how long it took.
async fn ping(mut pings: h2::PingPong, mut answered: impl FnMut(Duration)) {
    loop {
        let start = tokio::time::Instant::now();
        let pong = tokio::time::timeout(PING_TIMEOUT, pings.ping(h2::Ping::opaque()));
        match pong.await {
            Ok(Ok(_)) => answered(start.elapsed()),
            Ok(Err(_)) | Err(_) => return,
        }
        tokio::time::sleep(PING_INTERVAL).await;
    }
}
