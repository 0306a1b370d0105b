//! Connecting to a host that has several addresses, some of which may not answer: RFC 8305.
//!
//! The address families alternate. The next attempt begins 250 ms after the last one, or as soon as one fails. The
//! first connection wins. This implementation omits waiting for one of the families (section 3), because the system's
//! resolver returns the addresses of both families together.

mod order;

use std::{io, net::SocketAddr};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use self::order::{Attempts, Step};
pub(super) use self::order::{Route, Routes};

/// Connects to one of the addresses, and returns that address. Dropping the future ends all attempts.
///
/// # Errors
/// Returns the error of the last attempt when all attempts have failed. Without a time limit around this function, an
/// address that never answers takes as long as the system tries.
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
            // Waits until an attempt ends or the next one is due.
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
