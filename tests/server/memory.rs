//! One memory budget for all links. The origin that holds most gives way, and the others are not affected.

use futures::SinkExt as _;
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Limits, Refused, Server};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_websockets::{MaybeTlsStream, Message};

use crate::client::{Client, Eio, config, dial, dialled, link, socket, soon};

const MIB: usize = 1024 * 1024;
const MEMORY: usize = 12 * MIB;
/// The bytes that links may have read without having reported them to the budget yet.
const IN_HAND: u64 = 64 * 1024;

async fn server() -> Server {
    let limits = Limits::default().with_max_memory(MEMORY);
    let config = config().with_limits(limits);
    Server::bind(config).await.expect("a free port")
}

/// Returns the TCP stream of a link, to write frames without the WebSocket client.
fn stream(client: &mut Client) -> &mut TcpStream {
    match client.socket.get_mut() {
        MaybeTlsStream::Plain(stream) => stream,
        #[allow(unreachable_patterns, reason = "depends on features of others")]
        _ => panic!("no TLS here"),
    }
}

/// Sends a binary message of 900,000 bytes in frames of that length, except for its last byte. The length must divide
/// 900,000.
async fn begin_message(client: &mut Client, frame: usize) {
    let (mut left, mut opcode) = (900_000, 2_u8);
    while left > 0 {
        let len = frame.min(left);
        left -= len;
        let fin = if left == 0 { 0x80 } else { 0 };
        let mut bytes = vec![fin | opcode, 0x80 | 127];
        bytes.extend((len as u64).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.resize(bytes.len() + len - usize::from(left == 0), 4);
        // A link that was closed takes no more.
        let _ = soon("send", stream(client).write_all(&bytes)).await;
        opcode = 0;
    }
}

/// Sends so many unfinished messages from one address that they would take twice the available memory.
async fn unfinished_messages_of_one_address_end_its_links(frame: usize) {
    let server = server().await;
    let (mut dialer, mut listener) = dialled(&server).await;
    let mut greedy = Vec::new();
    for n in 0..2 * MEMORY / 900_000 {
        let mut client = link(&server, 2).await;
        begin_message(&mut client, frame).await;
        greedy.push(client);
        let data = vec![n as u8; 100_000];
        dialer.item("d.dialer", &data).await;
        listener.expect_item("d.dialer", &data).await;
        let held = server.snapshot().memory_bytes;
        assert!(held <= MEMORY as u64 + IN_HAND, "{held}");
    }
    soon("some to be closed", async {
        while server.snapshot().refusals.get(Refused::Memory) < 9 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let closed = server.snapshot().refusals.get(Refused::Memory) as usize;
    assert!(closed < greedy.len(), "there is room for some");
    // The honest links are still open, and there is room for others.
    dialer.item("d.dialer", b"on").await;
    listener.expect_item("d.dialer", b"on").await;
    Client::joined(&server).await;
    drop(greedy);
    soon("all to be given back", async {
        while server.snapshot().links > 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(server.snapshot().memory_bytes < MIB as u64);
}

#[tokio::test]
async fn unfinished_messages_in_one_frame_end_the_links_of_their_address() {
    unfinished_messages_of_one_address_end_its_links(900_000).await;
}

#[tokio::test]
async fn unfinished_messages_in_many_frames_end_the_links_of_their_address() {
    unfinished_messages_of_one_address_end_its_links(75_000).await;
}

#[tokio::test]
async fn the_link_that_gives_way_hears_why() {
    let limits = Limits::default().with_max_memory(MIB / 2);
    let config = config().with_limits(limits);
    let server = Server::bind(config).await.expect("a free port");
    let mut client = link(&server, 2).await;
    begin_message(&mut client, 900_000).await;
    let (code, reason) = client.closed().await.expect("a reason");
    assert_eq!(u16::from(code), 1008);
    assert!(reason.contains("memory"), "{reason}");
    assert_eq!(server.snapshot().refusals.get(Refused::Memory), 1);
}

/// Data that is queued for a link counts for that link's own origin, not for the senders.
#[tokio::test]
async fn links_that_do_not_read_give_way_and_those_who_send_to_them_do_not() {
    let server = server().await;
    let mut tasks = Vec::new();
    let mut deaf = Vec::new();
    for n in 0..20 {
        let mut sender = Client::joined(&server).await;
        let slow = socket(2);
        slow.set_recv_buffer_size(4096).expect("a size");
        let mut receiver = Client::upgrade_on(&server, Eio::V3, slow).await;
        receiver = receiver.greeted().await;
        receiver.join(&Keypair::generate_ed25519()).await;
        dial(&mut sender, &mut receiver, &format!("d{n}")).await;
        deaf.push(receiver);
        tasks.push(tokio::spawn(async move {
            let data = vec![7; 60_000];
            for _ in 0..60 {
                sender.item(&format!("d{n}.dialer"), &data).await;
            }
            sender
        }));
    }
    soon("some to be closed", async {
        while server.snapshot().refusals.get(Refused::Memory) < 5 {
            assert!(server.snapshot().memory_bytes <= MEMORY as u64 + IN_HAND);
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(deaf);
    let mut senders = Vec::new();
    for sender in tasks {
        let mut sender = soon("all to be sent", sender).await.expect("it is open");
        sender.send("421[\"no such event\"]").await;
        loop {
            let text = sender.text().await;
            if text.starts_with("431[\"Unknown request") {
                break;
            }
        }
        senders.push(sender);
    }
    assert_eq!(server.snapshot().links, senders.len());
}

#[tokio::test]
async fn dials_count_as_memory_of_their_dialer_who_gives_way_for_them() {
    const DIAL: u64 = 2 * 1024;
    let limits = Limits::default().with_max_memory(512 * 1024);
    let server = Server::bind(config().with_limits(limits)).await;
    let server = server.expect("a free port");
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    for n in 0..100_u64 {
        dial(&mut dialer, &mut listener, &format!("d{n}")).await;
        assert!(server.snapshot().memory_bytes >= (n + 1) * DIAL);
    }
    for n in 100..300 {
        let offer = json!(["ss-dial", dialer.address, listener.address, format!("d{n}")]);
        let text = format!("42{}{offer}", 1000 + n);
        if dialer.socket.send(Message::text(text)).await.is_err() {
            break;
        }
    }
    let (code, reason) = dialer.closed().await.expect("a reason");
    assert_eq!(u16::from(code), 1008);
    assert!(reason.contains("memory"), "{reason}");
    soon("the dials are gone", async {
        while server.snapshot().memory_bytes > 100 * DIAL {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(server.snapshot().links, 1);
}
