//! The life of a tab: hidden, frozen, offline, idle.

use std::time::Duration;

use libp2p_websocket_star::rendezvous::{Config, Server};
use serde_json::json;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use crate::{
    browser::{BOTH, Browser, Page, Sockets},
    line::Line,
    native,
    support::{
        address, embedded,
        js::{Peer, Rendezvous, RendezvousOptions},
    },
    until,
};

/// Returns the seconds that the environment sets for long runs, or the default.
fn seconds(variable: &str, default: u64) -> Duration {
    let set = std::env::var(variable).ok();
    let set = set.map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(set.unwrap_or(default))
}

/// Starts a rendezvous with a short heartbeat timeout.
async fn impatient(seconds: u64) -> Server {
    let config = Config::default()
        .with_ping_interval(Duration::from_secs(seconds))
        .with_ping_timeout(Duration::from_secs(seconds));
    Server::bind(config).await.expect("a free port")
}

/// Counts how often a timer fires, if each timer sets the next one.
const TICK: &str = "globalThis.ticks = 0;
    const tick = () => setTimeout(() => { ticks += 1; tick(); }, 100);
    tick();";

async fn ticks(page: &Page) -> f64 {
    page.number("return ticks;", vec![]).await
}

/// Checks that a page stays joined while it is hidden, and that it can be reached afterwards.
async fn stays_joined_while_hidden(page: &mut Page, rendezvous: &str, time: Duration) {
    let peer = page.start(rendezvous).await.expect("it joins");
    page.run(TICK, vec![]).await.expect("it ticks");
    page.hide().await;
    // After this time, the browser limits the timers.
    sleep(Duration::from_secs(14)).await;
    let before = ticks(page).await;
    sleep(time).await;
    let ticks = ticks(page).await - before;
    let most = time.as_secs_f64() / 60.0 + 2.0;
    assert!(ticks <= most, "{ticks} ticks: timers are not held back");
    let events = page.events().await;
    let expired = events.iter().any(|event| event.contains("Expired"));
    assert!(!expired, "{events:#?}");
    let mut native = native::Node::join_at(rendezvous).await;
    native.dial(&format!("{rendezvous}/p2p/{peer}")).await;
    native.echo(&peer, 1 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_hidden_for_long_and_alone_stays_joined() {
    let browser = Browser::start().await;
    let time = seconds("STAR_HIDDEN_SECONDS", 65);
    let npm = Rendezvous::start(RendezvousOptions::default()).await;
    let ours = impatient(5).await;
    let waits = [
        (Sockets::Streams, address(&ours)),
        (Sockets::Plain, address(&ours)),
        (Sockets::Streams, npm.addr()),
        (Sockets::Plain, npm.addr()),
    ];
    // Each case has a browser of its own, so all cases run at once.
    let waits = waits.map(|(sockets, rendezvous)| {
        let browser = &browser;
        async move {
            let mut page = browser.page(sockets).await;
            stays_joined_while_hidden(&mut page, &rendezvous, time).await;
            page.close().await;
        }
    });
    futures::future::join_all(waits).await;
    ours.shutdown().await;
}

/// Freezes everything that runs in the page, or lets it continue.
async fn freeze(page: &Page, frozen: bool) {
    let state = if frozen { "frozen" } else { "active" };
    page.tell("Page.setWebLifecycleState", json!({ "state": state }))
        .await;
}

/// Checks that the page has lost its link, reports that, joins again soon, and can be reached then.
async fn joins_again(page: &Page, peer: &str, at: &str, server: &Server) {
    let resumed = Instant::now();
    let since = until(page, 0, "ExpiredListenAddr").await;
    until(page, 0, "ListenerError").await;
    until(page, since, "NewListenAddr").await;
    let took = resumed.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let mut native = native::Node::join(server).await;
    native.dial(&format!("{at}/p2p/{peer}")).await;
    native.echo(peer, 1 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_frozen_says_what_it_lost_and_joins_again_at_once() {
    let browser = Browser::start().await;
    let time = seconds("STAR_FROZEN_SECONDS", 10);
    for sockets in BOTH {
        let server = impatient(2).await;
        let page = browser.page(sockets).await;
        let at = address(&server);
        let peer = page.start(&at).await.expect("it joins");
        freeze(&page, true).await;
        sleep(time).await;
        freeze(&page, false).await;
        joins_again(&page, &peer, &at, &server).await;
        page.close().await;
        server.shutdown().await;
    }
}

/// This is like a computer that slept: no close arrives for the old link.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_frozen_finds_out_that_its_link_is_dead() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let line = Line::to(server.local_addr()).await;
        let page = browser.page(sockets).await;
        let peer = page.start(&line.rendezvous()).await.expect("it joins");
        line.die(true);
        freeze(&page, true).await;
        sleep(Duration::from_secs(3)).await;
        line.die(false);
        freeze(&page, false).await;
        joins_again(&page, &peer, &line.rendezvous(), &server).await;
        page.close().await;
        server.shutdown().await;
    }
}

/// A time limit far below the heartbeat's 45 s.
const SOON: Duration = Duration::from_secs(10);

async fn hears_of_changes_of_the_network(page: &Page) {
    let server = embedded().await;
    let line = Line::to(server.local_addr()).await;
    page.start(&line.rendezvous()).await.expect("it joins");
    line.die(true);
    let event = |name: &str| page.run("dispatchEvent(new Event(args[0]));", vec![json!(name)]);
    event("offline").await.expect("it is told");
    let gone = Instant::now();
    let since = until(page, 0, "ExpiredListenAddr").await;
    let took = gone.elapsed();
    assert!(took < SOON, "{took:?}");
    // An attempt starts that leads nowhere, and takes 10 s to end.
    sleep(Duration::from_secs(1)).await;
    line.die(false);
    event("online").await.expect("it is told");
    let back = Instant::now();
    until(page, since, "NewListenAddr").await;
    let took = back.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_does_not_wait_when_it_hears_that_the_network_has_gone_or_come() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let page = browser.page(sockets).await;
        hears_of_changes_of_the_network(&page).await;
        page.close().await;
        let worker = browser.worker(sockets).await;
        hears_of_changes_of_the_network(&worker).await;
        worker.close().await;
    }
}

/// Uses the browser's own events and behaviour when it is offline.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_offline_for_long_joins_again_as_soon_as_it_is_online() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let line = Line::to(server.local_addr()).await;
        let page = browser.page(sockets).await;
        page.start(&line.rendezvous()).await.expect("it joins");
        let network = |offline: bool| {
            let conditions = json!({
                "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1,
            });
            page.tell("Network.emulateNetworkConditions", conditions)
        };
        page.tell("Network.enable", json!({})).await;
        line.die(true);
        network(true).await;
        let gone = Instant::now();
        let since = until(&page, 0, "ExpiredListenAddr").await;
        let took = gone.elapsed();
        assert!(took < SOON, "{took:?}");
        // By then, attempts are rare: the waits double from 50 ms on, and the connect timeout comes on top.
        sleep(Duration::from_secs(30)).await;
        line.die(false);
        network(false).await;
        let back = Instant::now();
        until(&page, since, "NewListenAddr").await;
        let took = back.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        page.close().await;
        server.shutdown().await;
    }
}

/// Counts the timers, the messages to itself and the task runs of a page.
const COUNT: &str = "globalThis.wakes = 0;
    const { setTimeout, queueMicrotask } = globalThis, { postMessage } = MessagePort.prototype;
    globalThis.setTimeout = (...args) => { wakes += 1; return setTimeout(...args); };
    globalThis.queueMicrotask = task => { wakes += 1; queueMicrotask(task); };
    MessagePort.prototype.postMessage = function (...args) {
        wakes += 1;
        return postMessage.apply(this, args);
    };";

/// Returns the polls of the node and the other wakes of the page in 20 s.
async fn wakes(page: &Page) -> [f64; 2] {
    let count = async || {
        let counted = page.run("return [node.polls(), wakes];", vec![]).await;
        let counted = counted.expect("it runs");
        [0, 1].map(|at| counted[at].as_f64().expect("a number"))
    };
    let before = count().await;
    sleep(Duration::from_secs(20)).await;
    let after = count().await;
    [after[0] - before[0], after[1] - before[1]]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_idle_wakes_twice_a_second_at_most() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let page = browser.page(sockets).await;
        page.run(COUNT, vec![]).await.expect("it counts");
        let peer = page.start(&address(&server)).await.expect("it joins");
        let alone = wakes(&page).await;
        let mut native = native::Node::join(&server).await;
        native
            .dial(&format!("{}/p2p/{peer}", address(&server)))
            .await;
        // Now with a connection that is idle after its start.
        sleep(Duration::from_secs(2)).await;
        let connected = wakes(&page).await;
        assert!(alone.iter().all(|wakes| *wakes <= 40.0), "{alone:?}");
        // This includes a ping in each direction, with some task runs for each message.
        let [polls, all] = connected;
        assert!(polls <= 40.0 && all <= 200.0, "{connected:?}");
        page.close().await;
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_of_thirty_days_does_not_come_at_once() {
    let browser = Browser::start().await;
    let month = 30 * 24 * 60 * 60;
    for sockets in BOTH {
        let server = embedded().await;
        let page = browser.page(sockets).await;
        let js = Peer::start();
        let theirs = js.listen(&address(&server)).await;
        js.mode("ignore", json!({})).await;
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = silent.local_addr().expect("bound").port();
        let at = format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p-websocket-star");
        let wait = "const options = { connect: args[2], dial: args[2] };
             const time = new Promise(done => setTimeout(() => done('still waiting'), 3000));
             const opening = star.Raw.start(args[0], options);
             const dialling = star.Raw.start(args[1], options);
             await dialling.event();
             const dial = dialling.dial(args[3]).catch(error => String(error));
             return await Promise.race([opening.event(), dial, time]);";
        let args = vec![
            json!(at),
            json!(address(&server)),
            json!(month),
            json!(theirs),
        ];
        assert_eq!(page.text(wait, args).await, "still waiting");
        page.close().await;
        server.shutdown().await;
    }
}
