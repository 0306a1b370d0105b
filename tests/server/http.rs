//! Limits for connections that are not links: their age, their request rate, and the time of a request.

use std::time::Duration;

use libp2p_websocket_star::rendezvous::{Limits, Network, Refused, Server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::client::{Client, config, soon};

const ALWAYS: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(300);
const HEALTH: &[u8] = b"HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n";

/// Returns limits that allow everything except what a test is about.
fn patient() -> Limits {
    Limits::default()
        .with_handshake_timeout(ALWAYS)
        .with_max_http_age(ALWAYS)
        .with_max_http_requests(usize::MAX)
        .with_http_rate(u32::MAX, u32::MAX)
}

async fn limited(limits: Limits) -> Server {
    let config = config().with_limits(limits);
    Server::bind(config).await.expect("a free port")
}

async fn connect(server: &Server) -> TcpStream {
    connect_from(1, server).await
}

/// Connects from a loopback address.
async fn connect_from(host: u8, server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let bound = socket.bind(([127, 0, 0, host], 0).into());
    bound.expect("a loopback address");
    let stream = soon("a connection", socket.connect(server.local_addr())).await;
    stream.expect("connected")
}

/// Sends a request, and returns the head of the answer, or `None` at the end of the connection.
async fn ask(stream: &mut TcpStream) -> Option<String> {
    ask_with(stream, HEALTH).await
}

async fn ask_with(stream: &mut TcpStream, request: &[u8]) -> Option<String> {
    stream.write_all(request).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("an answer", stream.read_u8()).await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_connection_that_asks_again_and_again_ends_at_its_age_and_a_link_does_not() {
    let server = limited(patient().with_max_http_age(SHORT)).await;
    let mut link = Client::joined(&server).await;
    let mut stream = connect(&server).await;
    let mut answers = 0;
    soon("the end", async {
        while ask(&mut stream).await.is_some() {
            answers += 1;
        }
    })
    .await;
    assert!(answers > 1, "{answers}");
    let mut silent = connect(&server).await;
    ended(&mut silent).await;
    link.request(serde_json::json!(["ss-leave", ""])).await;
}

#[tokio::test]
async fn the_last_answer_of_a_connection_says_so() {
    let server = limited(patient().with_max_http_requests(3)).await;
    let mut stream = connect(&server).await;
    for last in [false, false, true] {
        let head = ask(&mut stream).await.expect("an answer");
        assert_eq!(head.contains("connection: close"), last, "{head}");
    }
    ended(&mut stream).await;
    Client::joined(&server).await;
}

#[tokio::test]
async fn each_request_of_a_connection_arrives_in_time_or_ends_it() {
    let server = limited(patient().with_handshake_timeout(SHORT)).await;
    let mut idle = connect(&server).await;
    ask(&mut idle).await.expect("an answer");
    let mut half = connect(&server).await;
    ask(&mut half).await.expect("an answer");
    half.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
    ended(&mut idle).await;
    ended(&mut half).await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_ends_the_connection() {
    let server = limited(patient().with_handshake_timeout(SHORT)).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a size");
    let stream = socket.connect(server.local_addr()).await;
    let mut stream = stream.expect("connected");
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    soon("the end", async {
        while stream.write_all(&request).await.is_ok() {}
    })
    .await;
    soon("its place", async {
        while server.snapshot().connections > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_on_whatever_connection_and_others_are_not() {
    let server = limited(patient().with_http_rate(1, 3)).await;
    let mut kept = [connect(&server).await, connect(&server).await];
    let mut answered = 0;
    let refused = loop {
        let answer = ask(&mut kept[answered % 2]).await.expect("an answer");
        if !answer.starts_with("HTTP/1.1 200 ") {
            break answer.to_lowercase();
        }
        answered += 1;
        assert!(answered < 50, "as often as it likes");
    };
    // Some seconds may have passed in the meantime.
    assert!((3..10).contains(&answered), "{answered}");
    assert!(refused.starts_with("http/1.1 429 "), "{refused}");
    assert!(refused.contains("connection: close"), "{refused}");
    ended(&mut kept[answered % 2]).await;
    assert_eq!(server.snapshot().refusals.get(Refused::RequestRate), 1);
    let other = ask(&mut connect_from(2, &server).await).await;
    assert!(other.expect("an answer").starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn requests_through_a_proxy_count_for_whom_it_names() {
    let proxy: Network = "127.0.0.2".parse().expect("an address");
    let config = config().with_limits(patient().with_http_rate(1, 3));
    let server = Server::bind(config.with_trusted_proxies([proxy])).await;
    let server = server.expect("a free port");
    let mut answers = Vec::new();
    for client in [1, 1, 1, 1, 1, 1, 1, 1, 1, 2] {
        let named = format!("\r\nX-Forwarded-For: 192.0.2.{client}\r\n\r\n");
        let request = [&HEALTH[..HEALTH.len() - 4], named.as_bytes()].concat();
        let mut stream = connect_from(2, &server).await;
        let answer = ask_with(&mut stream, &request).await.expect("an answer");
        answers.push(answer[9..12].to_owned());
    }
    assert_eq!(answers[..3], ["200"; 3]);
    assert!(answers.iter().any(|answer| answer == "429"), "{answers:?}");
    assert_eq!(answers[9], "200");
}
