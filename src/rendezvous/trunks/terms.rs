//! What both ends of a trunk have to agree about, and how each notices that the other is gone.

use std::time::Duration;

/// The path of a request for a stream, with the version of the protocol on the stream.
pub(super) const PATH: &str = "/trunk/1/link";
/// The header that names the node that asks.
pub(super) const NODE: &str = "star-node";
/// The header that names the client's tenant; absent for the default one.
pub(super) const TENANT: &str = "star-tenant";
/// The header with the client's IP address.
pub(super) const CLIENT: &str = "star-client";
/// The header that says why a stream is refused, in words.
pub(super) const REFUSAL: &str = "star-refusal";

/// The window of a stream, in bytes, and the maximum that may wait to be sent on it: two items of the usual length.
/// Half or twice as much made no difference that could be measured (`cargo bench --bench cluster`).
pub(super) const STREAM_WINDOW: u32 = 320 * 1024;
/// The window of all streams together, in bytes: no limit. With a limit, streams that nobody reads would hold up the
/// others.
pub(super) const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// The maximum number of streams of a trunk. HTTP/2 notifies the sender of room in the connection's window when half of
/// the window was taken. So what nobody reads has to fit the other half, or nothing moves any more.
pub(super) const STREAMS: u32 = CONNECTION_WINDOW / 2 / STREAM_WINDOW - 96;
/// The longest frame, in bytes: an item of the usual length, which then need not be copied. It has to fit the window of
/// a stream at every node, of whatever version.
pub(super) const FRAME: u32 = 160 * 1024;
/// How long it may take to open a connection and check its certificate, and how long the answer to a request for a
/// stream may take.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval between pings on a trunk.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long the answer to a ping may take. Then the trunk is cut.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Pings a trunk again and again. Returns when a ping is not answered. Calls `answered` with the time that each answer
/// took.
pub(super) async fn ping(mut pings: h2::PingPong, mut answered: impl FnMut(Duration)) {
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
