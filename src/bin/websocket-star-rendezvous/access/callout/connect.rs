//! Finds the service and connects to it, within limits.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::{net::TcpStream, sync::Mutex, task::JoinHandle, time::timeout};

/// How long the result of a lookup is reused: addresses for `GOOD`, an error for `BAD`.
const GOOD: Duration = Duration::from_secs(5);
const BAD: Duration = Duration::from_secs(1);
/// The number of addresses that are tried.
const MOST: usize = 8;
/// How long a connection attempt may take before the next address is tried in parallel. RFC 8305, section 8.
const DELAY: Duration = Duration::from_millis(250);

type Found = Result<Vec<SocketAddr>, Arc<io::Error>>;

/// Looks up the addresses of a host. At most one lookup, and so one blocked thread, runs at a time, however many
/// callers wait.
#[derive(Debug)]
pub struct Lookup {
    host: String,
    port: u16,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
    latest: Option<(Instant, Found)>,
}

impl State {
    fn latest(&self) -> Option<&Found> {
        let (at, found) = self.latest.as_ref()?;
        let good = if found.is_ok() { GOOD } else { BAD };
        (at.elapsed() < good).then_some(found)
    }
}

impl Lookup {
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            state: Mutex::default(),
        }
    }

    /// Returns at least one address. If a caller drops this future, the lookup goes on for the next caller.
    pub async fn addresses(&self) -> Found {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![(ip, self.port).into()]);
        }
        self.through(look_up).await
    }

    async fn through<F>(&self, look_up: impl FnOnce(String, u16) -> F) -> Found
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let mut state = self.state.lock().await;
        if let Some(found) = state.latest() {
            return found.clone();
        }
        let running = &mut state.running;
        let running =
            running.get_or_insert_with(|| tokio::spawn(look_up(self.host.clone(), self.port)));
        let found = running
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let found = match found {
            Ok(addresses) if addresses.is_empty() => Err(io::ErrorKind::NotFound.into()),
            found => found,
        };
        let found = found.map_err(Arc::new);
        state.running = None;
        state.latest = Some((Instant::now(), found.clone()));
        found
    }
}

async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host((host, port)).await?;
    Ok(found.take(MOST).collect())
}

/// Connects to the first of these addresses that answers.
pub async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    race(addresses, TcpStream::connect).await
}

/// Returns the first connection that succeeds. The next attempt begins when one fails, or has taken [`DELAY`].
async fn race<T, F>(addresses: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut left = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut error = io::ErrorKind::NotFound.into();
    loop {
        match left.next() {
            Some(addr) => attempts.push(connect(addr)),
            None if attempts.is_empty() => return Err(error),
            None => {}
        }
        let wait = if left.len() > 0 { DELAY } else { Duration::MAX };
        match timeout(wait, attempts.next()).await {
            Ok(Some(Ok(connected))) => return Ok(connected),
            Ok(Some(Err(failed))) => error = failed,
            // The next attempt begins in parallel.
            Ok(None) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::time;

    use super::*;

    fn addresses(ends: &[u8]) -> Vec<SocketAddr> {
        let addr = |end: &u8| ([192, 0, 2, *end], 80).into();
        ends.iter().map(addr).collect()
    }

    /// Address 1 never answers, 2 refuses, and 3 takes 100 ms.
    async fn attempt(addr: SocketAddr) -> io::Result<SocketAddr> {
        match addr {
            one if [one] == *addresses(&[1]) => pending().await,
            two if [two] == *addresses(&[2]) => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => {
                time::sleep(Duration::from_millis(100)).await;
                Ok(addr)
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_answer_costs_a_quarter_of_a_second() {
        let started = time::Instant::now();
        let won = race(addresses(&[1, 3]), attempt).await.expect("connected");
        assert_eq!([won], *addresses(&[3]));
        assert_eq!(started.elapsed(), DELAY + Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_costs_nothing() {
        let started = time::Instant::now();
        race(addresses(&[2, 2, 3]), attempt)
            .await
            .expect("connected");
        assert_eq!(started.elapsed(), Duration::from_millis(100));
        let error = race(addresses(&[2, 2]), attempt)
            .await
            .expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_however_many_give_up() {
        let lookup = Lookup::new("access.example", 80);
        let lookups = Arc::new(AtomicUsize::new(0));
        let (told, answer) = tokio::sync::oneshot::channel();
        let mut answer = Some(answer);
        let mut hanging = |_: String, _: u16| {
            let answer = answer.take();
            lookups.fetch_add(1, Ordering::Relaxed);
            async move {
                let answer: tokio::sync::oneshot::Receiver<_> = answer.expect("asked once");
                Ok(answer.await.expect("told"))
            }
        };
        for _ in 0..10 {
            let hurried = timeout(Duration::from_millis(1), lookup.through(&mut hanging));
            assert!(hurried.await.is_err());
        }
        told.send(addresses(&[3])).expect("it waits");
        for _ in 0..10 {
            let found = lookup.through(&mut hanging).await.expect("found");
            assert_eq!(found, addresses(&[3]));
        }
        assert_eq!(lookups.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up_and_no_address_is_an_error() {
        for (host, addr) in [("192.0.2.3", "192.0.2.3:80"), ("::1", "[::1]:80")] {
            let found = Lookup::new(host, 80).addresses().await.expect("itself");
            assert_eq!(found, [addr.parse::<SocketAddr>().expect("an address")]);
        }
        let lookup = Lookup::new("access.example", 80);
        let none = lookup.through(|_, _| async { Ok(Vec::new()) }).await;
        let error = none.expect_err("none");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
