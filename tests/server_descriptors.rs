//! A process without free file descriptors. Its server does not know the limit. This test must be the only one in its
//! process.
#![cfg(unix)]

#[path = "support/client.rs"]
mod client;

use std::{net::Ipv4Addr, os::fd::AsRawFd as _};

use libp2p_websocket_star::rendezvous::{Refused, Server};
use rlimit::Resource;
use tokio::net::TcpSocket;

use self::client::{Client, Eio, server, soon};

/// Returns a socket bound to a loopback address.
fn socket(host: u8) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a descriptor");
    let ip = Ipv4Addr::new(127, 0, 0, host);
    socket.bind((ip, 0).into()).expect("a loopback address");
    socket
}

async fn until_there_are(server: &Server, connections: usize) {
    soon("all are in", async {
        while server.snapshot().connections < connections {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn where_no_descriptor_is_left_whoever_has_most_makes_room_for_another() {
    let server = server().await;
    let mut many = Vec::new();
    for _ in 0..20 {
        let connecting = socket(2).connect(server.local_addr());
        many.push(soon("a connection", connecting).await.expect("connected"));
    }
    until_there_are(&server, many.len()).await;
    let sockets = [socket(3), socket(4)];
    // The system always gives out the lowest free descriptor next.
    let next = socket(5).as_raw_fd() as u64;
    let (_, hard) = Resource::NOFILE.get().expect("a limit");
    Resource::NOFILE.set(next, hard).expect("a lower limit");
    let mut clients = Vec::new();
    for socket in sockets {
        clients.push(
            Client::upgrade_on(&server, Eio::V3, socket)
                .await
                .greeted()
                .await,
        );
    }
    let snapshot = server.snapshot();
    let ended = snapshot.refusals.get(Refused::ConnectionGaveWay) as usize;
    // The system needs a free descriptor even to report that no connection waits.
    assert!((2..=3).contains(&ended), "{ended}");
    assert_eq!(snapshot.links, 2);
    assert_eq!(snapshot.connections, many.len() + 2 - ended);
}
