//! Connecting to a host that has several addresses, some of which may lead nowhere: RFC 8305.
//!
//! The families take turns, the next attempt begins 250 ms after the last one or as soon as one fails,
//! and the first connection wins. What this leaves out: the system's resolver gives the addresses of both
//! families together, so there is no waiting for one of them (section 3).

mod order;

use std::{io, net::SocketAddr};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use self::order::{Attempts, Step};
pub(super) use self::order::{Route, Routes};

/// Connects to one of the addresses, and tells to which. Dropping the future ends all attempts.
///
/// # Errors
/// The error of the last attempt, when all have failed. Without a limit of time around it, an address
/// that never answers takes as long as the system tries.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    routes: &mut Routes,
) -> io::Result<(TcpStream, SocketAddr)> {
    race(addresses, routes, TcpStream::connect).await
}

async fn race<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    routes: &mut Routes,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<(T, SocketAddr)> {
    let now = || Instant::now().into_std();
    let mut attempts = Attempts::new(routes.order(addresses), now());
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let ended = match attempts.step(now()) {
            Step::Start(addr) => {
                routes.tried(addr);
                let attempt = connect(addr);
                running.push(async move { (addr, attempt.await) });
                continue;
            }
            // Whether one has ended, or it is time for the next.
            Step::WaitUntil(next) => match timeout_at(next.into(), running.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
            Step::Wait => running.next().await,
        };
        match ended {
            Some((addr, Ok(connected))) => return Ok((connected, addr)),
            Some((_, Err(error))) => last = error,
            None => return Err(last),
        }
        attempts.failed(now());
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
pub(super) mod tests;
