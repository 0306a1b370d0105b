//! The page updates itself by a stream of events. Only a few may listen, each only as long as its session lasts.

use std::time::Duration;

use libp2p_websocket_star::rendezvous::{Limits, Server};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::{Operator, TOKEN, ask, serving, serving_with};
use crate::client::{Client, config, soon, until};

/// A stream of events.
struct Events(BufReader<TcpStream>);

impl Events {
    async fn of(server: &Server, header: (&str, &str)) -> (u16, Self) {
        let stream = TcpStream::connect(server.local_addr()).await;
        let mut stream = stream.expect("connected");
        let (name, value) = header;
        let request = format!("GET /admin/events HTTP/1.1\r\nHost: a:1\r\n{name}: {value}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut events = Self(BufReader::new(stream));
        let status = events.line().await.expect("an answer");
        let status = status[9..12].parse().expect("a status");
        (status, events)
    }

    /// Returns the next line, or `None` at the end.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match soon("a line", self.0.read_line(&mut line)).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }

    /// Returns the data of the next event of that name.
    async fn next(&mut self, name: &str) -> Option<String> {
        let event = format!("event: {name}");
        while self.line().await? != event {}
        let data = self.line().await?;
        Some(data.strip_prefix("data:").expect("data").trim().to_owned())
    }

    async fn until(&mut self, name: &str, words: &str) {
        soon(words, async {
            while !self.next(name).await.expect("it goes on").contains(words) {}
        })
        .await;
    }
}

async fn listen(operator: &Operator<'_>) -> Events {
    let (status, events) = Events::of(operator.server, ("Cookie", &operator.cookie)).await;
    assert_eq!(status, 200);
    events
}

#[tokio::test]
async fn what_changes_is_told_at_once_and_each_second() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let mut events = listen(&operator).await;
    let first = events.next("figures").await.expect("at once");
    assert!(first.contains("<dt>Peers</dt><dd>0</dd>"), "{first}");
    let pictures = events.next("pictures").await.expect("at once");
    assert_eq!(pictures.matches("<svg ").count(), 4, "{pictures}");
    assert!(!first.contains(TOKEN) && !first.contains(&operator.form));
    let _client = Client::joined(&server).await;
    events.until("figures", "<dt>Peers</dt><dd>1</dd>").await;
    events
        .until("pictures", "Peers in the last hour: 1 now, 1 at most")
        .await;
}

#[tokio::test]
async fn a_stream_ends_with_its_session_and_no_sooner() {
    let limits = Limits::default().with_max_http_age(Duration::from_millis(300));
    let server = serving_with(config().with_limits(limits)).await;
    let (one, other) = (Operator::of(&server).await, Operator::of(&server).await);
    let (mut ends, mut goes_on) = (listen(&one).await, listen(&other).await);
    // The stream is older than other connections may become.
    for _ in 0..3 {
        ends.next("figures").await.expect("it goes on");
    }
    one.post("/admin/logout", "").await;
    assert_eq!(ends.next("over").await.as_deref(), Some(""));
    let mut rest = String::new();
    soon("the end", ends.0.read_to_string(&mut rest))
        .await
        .expect("UTF-8");
    assert!(!rest.contains("event: "), "{rest}");
    for _ in 0..2 {
        goes_on.next("figures").await.expect("it goes on");
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_server() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let mut events = listen(&operator).await;
    events.next("figures").await.expect("it goes on");
    let began = std::time::Instant::now();
    soon("the end", server.shutdown()).await;
    // The stream did not end because the time limit for links was reached.
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    while events.line().await.is_some() {}
}

#[tokio::test]
async fn so_many_listen_and_a_place_that_is_free_is_anothers() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let mut listening = Vec::new();
    for _ in 0..8 {
        listening.push(listen(&operator).await);
    }
    let refused = operator.get("/admin/events").await;
    assert_eq!(
        (refused.status(), refused.header("retry-after")),
        (503, Some("1"))
    );
    assert!(
        operator
            .get("/admin")
            .await
            .body
            .contains("Relayed per second")
    );
    drop(listening.pop());
    soon("a place", async {
        loop {
            let (status, _) = Events::of(&server, ("Cookie", &operator.cookie)).await;
            if status == 200 {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_takes_nothing_is_dropped() {
    let limits = Limits::default().with_handshake_timeout(Duration::from_millis(500));
    let server = serving_with(config().with_limits(limits)).await;
    let request =
        format!("GET /admin/events HTTP/1.1\r\nHost: a:1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let mut stuck = Vec::new();
    for _ in 0..8 {
        // With a duplex stream, no kernel buffer accepts the data.
        let (mut theirs, ours) = tokio::io::duplex(4096);
        let remote = ([127, 0, 0, 1], 1).into();
        let served = server.serve_connection(ours, remote).await;
        served.expect("a place");
        theirs.write_all(request.as_bytes()).await.expect("room");
        let head = crate::client::status(&mut theirs).await;
        assert!(head.contains(" 200 "), "{head}");
        stuck.push(theirs);
    }
    until("their end", || server.snapshot().connections == 0).await;
    let bearer = format!("Bearer {TOKEN}");
    let (status, _) = Events::of(&server, ("Authorization", &bearer)).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_listener_that_goes_gives_its_connection_back() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    drop(listen(&operator).await);
    until("its place", || server.snapshot().connections == 0).await;
    let answer = ask(&server, "GET /admin", &[], "").await;
    assert_eq!(answer.status(), 200);
}
