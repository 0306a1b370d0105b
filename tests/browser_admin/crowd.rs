//! The operator's page with very many peers.
//!
//! `STAR_PAINT_SECONDS` sets the time in seconds within which the page must be painted. It is meant for a machine
//! that is otherwise idle.

use futures::future::join_all;
use libp2p_identity::PeerId;
use libp2p_websocket_star::rendezvous::{Limits, Server};
use serde_json::{Value, json};

use crate::{
    World,
    client::{self, Client},
};

const PEERS: usize = 10_000;
const LINKS: usize = 20;
/// The most additional memory that the process may use for all peers and the page, in MiB. The process contains the
/// server and also the other ends of the links.
const MORE_MEMORY: u64 = 64;

/// Has a link join that many addresses, and read the answers.
async fn join_many(server: &Server, number: usize) -> Client {
    let mut client = Client::connect(server).await;
    for _ in 0..number {
        let id = PeerId::random();
        let address = format!("/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/ipfs/{id}");
        let joined = client.request(json!(["ss-join", address, ""])).await;
        assert_eq!(joined[0], Value::Null, "{joined}");
    }
    client
}

/// Returns the time of the first paint, in milliseconds since the page was requested.
const FIRST_PAINT: &str =
    "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null;";

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_peers_are_a_page_of_a_hundred_that_is_there_at_once() {
    let often = u32::MAX;
    let limits = Limits::default()
        .with_max_joins(PEERS)
        .with_join_rate(often, often)
        .with_origin_join_rate(often, often);
    // With the challenge, the proofs would take most of the time.
    let config = client::config().with_challenge(false).with_limits(limits);
    let world = World::with(config).await;
    let before = memory();
    let joining = (0..LINKS).map(|_| join_many(&world.server, PEERS / LINKS));
    let _clients = join_all(joining).await;
    world.log_in().await;
    let tab = &world.tab;
    let mut paints = Vec::new();
    for _ in 0..5 {
        tab.click("header a").await;
        tab.until("#figures", "Peers10,000").await;
        assert_eq!(tab.count(".peers tbody tr").await, 100);
        let paint = first_paint(&world).await;
        let size = tab
            .run("return document.documentElement.outerHTML.length;", vec![])
            .await;
        let size = size.as_u64().expect("a number");
        println!("{PEERS} peers: first paint after {paint:.0} ms, {size} bytes of HTML");
        assert!(size < 200_000, "{size}");
        paints.push(paint);
    }
    let best = paints.into_iter().fold(f64::MAX, f64::min);
    let bound = seconds("STAR_PAINT_SECONDS").unwrap_or(3.0);
    assert!(best < bound * 1000.0, "{best} ms");
    tab.until("#state", "live").await;
    if let (Some(before), Some(after)) = (before, memory()) {
        let more = after.saturating_sub(before) / 1024;
        println!("{PEERS} peers and the page: {more} MiB more");
        assert!(more < MORE_MEMORY, "{more} MiB");
    }

    let last = PeerId::random().to_base58();
    tab.write("#id", &last[..8]).await;
    tab.click("[role=search] button").await;
    tab.until("#figures", "Peers10,000").await;
    let paint = first_paint(&world).await;
    println!("a search among {PEERS} peers: first paint after {paint:.0} ms");
    assert!(paint < 5000.0, "{paint} ms");
    world.end().await;
}

/// Returns the memory of this process in KiB, where the system reports it.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn seconds(variable: &str) -> Option<f64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number of seconds"))
}

async fn first_paint(world: &World) -> f64 {
    crate::support::within("a paint", async {
        loop {
            let paint = world.tab.run(FIRST_PAINT, vec![]).await;
            if let Some(paint) = paint.as_f64() {
                return paint;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
}
