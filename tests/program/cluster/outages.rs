//! Outages of the directory: open streams go on, and after the outage everything works as before.

use std::time::{Duration, Instant};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p_websocket_star::Connection;

use super::{bound, nats::Nats, nodes::Nodes, reach, talk};
use crate::support::{pattern, within};

/// Sends the pattern back and forth until it is told to stop. Returns the number of bytes.
async fn keep_talking(
    mut dialer: Connection,
    mut listener: Connection,
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> usize {
    let mut done = 0;
    let mut buffer = vec![0; 10_000];
    while stop.try_recv().is_err() {
        let sent = pattern(done, buffer.len());
        dialer.write_all(&sent).await.expect("writable");
        dialer.flush().await.expect("writable");
        listener.read_exact(&mut buffer).await.expect("readable");
        assert!(buffer == sent, "a wrong byte after {done}");
        listener.write_all(&buffer).await.expect("writable");
        listener.flush().await.expect("writable");
        dialer.read_exact(&mut buffer).await.expect("readable");
        assert!(buffer == sent, "a wrong byte after {done}");
        done += buffer.len();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    done
}

async fn goes_away(is_wiped: bool) {
    let mut nats = Nats::start().await;
    let nodes = Nodes::start(&nats, &[]).await;
    let (here, own) = nodes.listening(0).await;
    let (mut there, addr) = nodes.listening(1).await;
    let (mut near, near_addr) = nodes.listening(0).await;
    nodes.know(&[0, 1, 2], 3).await;
    let remote = reach(&here, &addr).await;
    let remote = (remote, there.accept().await.0);
    let local = reach(&here, &near_addr).await;
    let local = (local, near.accept().await.0);
    let (stop_remote, stopped) = tokio::sync::oneshot::channel();
    let remote = tokio::spawn(keep_talking(remote.0, remote.1, stopped));
    let (stop_local, stopped) = tokio::sync::oneshot::channel();
    let local = tokio::spawn(keep_talking(local.0, local.1, stopped));
    let start = Instant::now();
    nats.kill().await;
    if is_wiped {
        nats.wipe();
    }
    // A peer that joins during the outage is known at its own node, and can reach the peers of other nodes as before.
    let (mut new, new_addr) = nodes.listening(0).await;
    let (_second, _) = nodes.listening(2).await;
    talk(&here, &mut new, &new_addr).await;
    talk(&new, &mut there, &addr).await;
    // One peer leaves during the outage.
    drop(near);
    tokio::time::sleep(bound("STAR_OUTAGE_SECONDS", 3).saturating_sub(start.elapsed())).await;
    nats.restart().await;
    let back = Instant::now();
    nodes.know(&[0, 1, 2], 4).await;
    let took = back.elapsed();
    assert!(took <= bound("STAR_HEAL_SECONDS", 60), "{took:?}");
    talk(&there, &mut new, &new_addr).await;
    for (stop, task) in [(stop_remote, remote), (stop_local, local)] {
        stop.send(()).expect("it goes on");
        let done = within("the end", task).await.expect("no error");
        assert!(done > 0);
    }
    // The nodes still watch the directory: they see a later peer, too.
    let (mut late, late_addr) = nodes.listening(2).await;
    talk(&here, &mut late, &late_addr).await;
    drop(own);
}

#[tokio::test]
async fn the_directory_may_go_away_and_come_back() {
    goes_away(false).await;
}

#[tokio::test]
async fn the_directory_may_come_back_with_nothing_in_it() {
    goes_away(true).await;
}

#[tokio::test]
async fn of_three_servers_each_may_be_lost_in_turn() {
    let mut nats = Nats::start_three().await;
    let urls: Vec<String> = nats.iter().map(Nats::url).collect();
    let nodes = Nodes::start_at(&urls, &["--cluster-replicas=3"]).await;
    let (here, _) = nodes.listening(0).await;
    let (mut there, addr) = nodes.listening(1).await;
    nodes.know(&[0, 1, 2], 2).await;
    let remote = reach(&here, &addr).await;
    let remote = (remote, there.accept().await.0);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let remote = tokio::spawn(keep_talking(remote.0, remote.1, stopped));
    for server in &mut nats {
        // One of them is the leader of the bucket's stream.
        server.kill().await;
        let (mut new, new_addr) = nodes.listening(2).await;
        talk(&here, &mut new, &new_addr).await;
        nodes.know(&[0, 1, 2], 3).await;
        drop(new);
        nodes.know(&[0, 1, 2], 2).await;
        server.restart().await;
        tokio::time::sleep(bound("STAR_LEADER_SECONDS", 2)).await;
        for node in 0..3 {
            assert_eq!(nodes.figure(node, "rendezvous_cluster_nodes").await, 2);
        }
    }
    stop.send(()).expect("it goes on");
    let done = within("the end", remote).await.expect("no error");
    assert!(done > 0);
    // No node has cut a trunk.
    for node in 0..3 {
        assert_eq!(
            nodes
                .figure(node, "rendezvous_cluster_trunk_cuts_total")
                .await,
            0
        );
    }
}
