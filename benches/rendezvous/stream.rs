//! One stream that is sent as fast as its reader takes it. For the benchmarks `rendezvous` and `cluster`.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::client::{Client, item};

const MIB: usize = 1024 * 1024;
/// The number of items per write, and of bytes per read. Large, so that the clients use little of the processor time.
const AT_ONCE: usize = 4;
const READ: usize = 512 * 1024;
/// The maximum number of bytes that the sender is ahead: the npm server would accept everything at once.
const WINDOW: usize = 4 * MIB;

/// The data to send, on the dial `d`.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The length of an item, in bytes.
    pub item: usize,
    pub mib: usize,
}

impl Load {
    fn frames(self) -> Vec<u8> {
        item("d.dialer", &vec![7; self.item]).repeat(AT_ONCE)
    }

    /// Returns the number of writes, each of [`AT_ONCE`] items.
    fn rounds(self) -> usize {
        (self.mib * MIB).div_ceil(AT_ONCE * self.item)
    }

    /// Returns the number of bytes that arrive from this crate's server, whose frames have no masks.
    #[allow(dead_code, reason = "npm's may have other headers")]
    pub fn bytes_from_ours(self) -> usize {
        self.rounds() * (self.frames().len() - AT_ONCE * 8)
    }

    /// Returns the number of bytes of data.
    #[allow(dead_code, reason = "each benchmark waits for its own")]
    pub fn bytes(self) -> usize {
        self.mib * MIB
    }
}

/// Sends a load, and waits until `bytes` bytes have arrived.
pub async fn send(
    (mut dialer, mut listener): (Client, Client),
    load: Load,
    bytes: usize,
) -> io::Result<(Client, Client)> {
    let progress = Arc::new((AtomicUsize::new(0), Notify::new()));
    let received = progress.clone();
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; READ];
        let mut total = listener.take_unread();
        while total < bytes {
            // The count includes announcements, which are negligible beside the items.
            let read = listener.skip(&mut buffer).await;
            // An error counts as all bytes, so that the sender does not wait any more.
            total += *read.as_ref().unwrap_or(&bytes);
            received.0.store(total, Ordering::Release);
            received.1.notify_one();
            read?;
        }
        io::Result::Ok(listener)
    });
    let frames = load.frames();
    let mut sent: usize = 0;
    for _ in 0..load.rounds() {
        while sent.saturating_sub(progress.0.load(Ordering::Acquire)) >= WINDOW {
            progress.1.notified().await;
        }
        dialer.write(&frames).await?;
        sent += AT_ONCE * load.item;
    }
    let listener = reader.await.map_err(io::Error::other)??;
    Ok((dialer, listener))
}
