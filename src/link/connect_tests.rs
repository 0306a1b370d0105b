use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::net::TcpListener;
#[cfg(target_os = "linux")]
use tokio::net::TcpSocket;

use super::{order::DELAY, *};

fn addr(n: u8) -> SocketAddr {
    ([192, 0, 2, n], 80).into()
}

/// The behaviour of an address.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Connects after this many milliseconds.
    Good(u64),
    /// Refuses after this many milliseconds.
    Bad(u64),
    /// Never answers.
    BlackHole,
}

/// An attempt that records when it is dropped.
struct Running(Arc<Mutex<usize>>);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.lock().expect("no panic") -= 1;
    }
}

/// Races to addresses 0, 1, 2, … in simulated time. Returns the winner, and the start of each attempt in milliseconds.
async fn simulate(ways: &[Way], routes: &mut Routes) -> (io::Result<u8>, Vec<(u8, u128)>) {
    let start = Instant::now();
    let began = Mutex::new(Vec::new());
    let running = Arc::new(Mutex::new(0));
    let addresses: Vec<_> = (0..).zip(ways).map(|(n, _)| addr(n)).collect();
    let connect = |to: SocketAddr| {
        let n = addresses.iter().position(|a| *a == to).expect("known");
        let mut began = began.lock().expect("no panic");
        began.push((n as u8, start.elapsed().as_millis()));
        *running.lock().expect("no panic") += 1;
        let guard = Running(running.clone());
        let way = ways[n];
        async move {
            let _guard = guard;
            let after = |millis| tokio::time::sleep(Duration::from_millis(millis));
            match way {
                Way::Good(millis) => after(millis).await,
                Way::Bad(millis) => {
                    after(millis).await;
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Way::BlackHole => pending().await,
            }
            Ok(n as u8)
        }
    };
    let result = race(&addresses, routes, connect).await;
    assert_eq!(*running.lock().expect("no panic"), 0, "losers are dropped");
    let result = result.map(|(n, from)| {
        assert_eq!(addr(n), from);
        n
    });
    (result, began.into_inner().expect("no panic"))
}

#[tokio::test(start_paused = true)]
async fn two_black_holes_before_a_good_address_cost_half_a_second() {
    use Way::*;
    let start = Instant::now();
    let ways = [BlackHole, BlackHole, Good(30), Good(0)];
    let (won, began) = simulate(&ways, &mut Routes::default()).await;
    assert_eq!(won.expect("connected"), 2);
    assert_eq!(began, [(0, 0), (1, 250), (2, 500)]);
    assert_eq!(start.elapsed(), DELAY * 2 + Duration::from_millis(30));
}

#[tokio::test(start_paused = true)]
async fn a_failure_begins_the_next_attempt_at_once_and_a_slow_first_one_may_still_win() {
    use Way::*;
    let ways = [Bad(10), Good(400), Bad(20), BlackHole];
    let (won, began) = simulate(&ways, &mut Routes::default()).await;
    assert_eq!(won.expect("connected"), 1);
    assert_eq!(began, [(0, 0), (1, 10), (2, 260), (3, 280)]);
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_last_error_is_given_and_without_addresses_one_too() {
    use Way::*;
    let (refused, began) = simulate(&[Bad(0), Bad(500), Bad(0)], &mut Routes::default()).await;
    let refused = refused.expect_err("nobody is there");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(began, [(0, 0), (1, 0), (2, 250)]);
    let (none, _) = simulate(&[], &mut Routes::default()).await;
    let none = none.expect_err("nothing to try");
    assert_eq!(none.kind(), io::ErrorKind::AddrNotAvailable);
}

#[tokio::test(start_paused = true)]
async fn what_failed_or_was_too_slow_is_tried_last_next_time() {
    use Way::*;
    let mut routes = Routes::default();
    let ways = [BlackHole, Bad(0), Good(0), Good(0)];
    let (won, _) = simulate(&ways, &mut routes).await;
    assert_eq!(won.expect("connected"), 2);
    routes.good(Route::Direct(addr(2)));
    let (won, began) = simulate(&ways, &mut routes).await;
    assert_eq!((won.expect("connected"), began), (2, vec![(2, 0)]));
    // The address connects, but no link is opened over it.
    let (won, began) = simulate(&ways, &mut routes).await;
    assert_eq!((won.expect("connected"), began), (3, vec![(3, 0)]));
}

/// Returns a listener that answers no SYN, because its queue is full. Other systems have a longest queue that is not
/// short, and only one loopback address.
#[cfg(target_os = "linux")]
pub(in crate::link) async fn black_hole(ip: &str) -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let ip: std::net::IpAddr = ip.parse().expect("an IP address");
    let socket = match ip.is_ipv4() {
        true => TcpSocket::new_v4(),
        false => TcpSocket::new_v6(),
    };
    let socket = socket.expect("a socket");
    socket.bind((ip, 0).into()).expect("a free port");
    let listener = socket.listen(0).expect("listening");
    let addr = listener.local_addr().expect("bound");
    let mut queued = Vec::new();
    // A dropped SYN is sent again after a second. On loopback, no other SYN takes that long.
    let patience = Duration::from_millis(700);
    while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(addr)).await {
        queued.push(stream.expect("accepted by the system"));
        assert!(queued.len() < 10, "the queue is never full");
    }
    (addr, queued, listener)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn real_black_holes_before_a_good_address_do_not_matter() {
    let good = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let good_addr = good.local_addr().expect("bound");
    let holes = futures::future::join(black_hole("127.0.0.1"), black_hole("127.0.0.2")).await;
    let addresses = [holes.0.0, holes.1.0, good_addr];
    let mut routes = Routes::default();
    // Sequential attempts would take minutes.
    let patience = Duration::from_secs(20);
    let connected = tokio::time::timeout(patience, connect(&addresses, &mut routes)).await;
    let (stream, addr) = connected.expect("in time").expect("connected");
    assert_eq!((addr, stream.peer_addr().ok()), (good_addr, Some(addr)));
}
