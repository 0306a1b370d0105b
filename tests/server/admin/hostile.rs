//! Requests of strangers, and their effects.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p_websocket_star::rendezvous::{Limits, Rendezvous, Server};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tracing_subscriber::fmt::MakeWriter;

use super::{FORM, OWN, Operator, TOKEN, ask, serving, serving_with, try_to_log_in};
use crate::{
    client::{Client, config, soon, status},
    traced::traced,
};

/// The head of a request to log in.
const LOGIN: &str = "POST /admin/login HTTP/1.1\r\nHost: a:1\r\nSec-Fetch-Site: same-origin\r\n\
                     Content-Type: application/x-www-form-urlencoded\r\n";

/// Sends this text, and returns the stream.
async fn send(server: &Server, text: &[u8]) -> TcpStream {
    let stream = TcpStream::connect(server.local_addr()).await;
    let mut stream = stream.expect("connected");
    stream.write_all(text).await.expect("sent");
    stream
}

#[tokio::test]
async fn a_form_is_short_and_is_one() {
    let server = serving().await;
    let long = format!("token={}", "x".repeat(8 * 1024));
    for (headers, body, expected) in [
        (&[FORM, OWN][..], long.as_str(), 413),
        (&[OWN], "token=x", 415),
        (&[OWN, ("Content-Type", "text/plain")], "token=x", 415),
        (
            &[OWN, ("Content-Type", "multipart/form-data; boundary=x")],
            "token=x",
            415,
        ),
        (
            &[
                OWN,
                (
                    "Content-Type",
                    "application/X-www-form-urlencoded; charset=utf-8",
                ),
            ],
            "",
            401,
        ),
        (&[FORM, OWN], "token=%ff", 401),
        (&[FORM, OWN], "&&=&token", 401),
    ] {
        let answer = ask(&server, "POST /admin/login", headers, body).await;
        assert_eq!(answer.status(), expected, "{headers:?}");
    }
    let huge = format!("{LOGIN}Content-Length: 1000000000000\r\n\r\n");
    let mut stream = send(&server, huge.as_bytes()).await;
    assert!(status(&mut stream).await.contains(" 413 "));
    // A form without a length.
    let chunks = "1000\r\n".to_owned() + &"x".repeat(4096) + "\r\n";
    let endless = format!(
        "{LOGIN}Transfer-Encoding: chunked\r\n\r\n{}",
        chunks.repeat(3)
    );
    let mut stream = send(&server, endless.as_bytes()).await;
    assert!(status(&mut stream).await.contains(" 413 "));
    let bytes = [LOGIN.as_bytes(), b"Content-Length: 7\r\n\r\ntoken=\xff"].concat();
    let mut stream = send(&server, &bytes).await;
    assert!(status(&mut stream).await.contains(" 400 "));
}

#[tokio::test]
async fn a_form_comes_in_time_and_others_do_not_wait_for_it() {
    let limits = Limits::default().with_handshake_timeout(Duration::from_millis(500));
    let server = serving_with(config().with_limits(limits)).await;
    let slow = format!("{LOGIN}Content-Length: 100\r\n\r\ntoken=");
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(send(&server, slow.as_bytes()).await);
    }
    assert_eq!(try_to_log_in(&server, 1, TOKEN).await.status(), 303);
    Client::joined(&server).await;
    for mut stream in streams {
        assert!(status(&mut stream).await.contains(" 408 "));
    }
    soon("their places", async {
        while server.snapshot().connections > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn cookies_without_end_are_no_session_and_hide_none() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let many = "star_admin=x; ".repeat(1000);
    let answer = ask(&server, "GET /admin", &[("Cookie", &many)], "").await;
    assert!(answer.body.contains("/admin/login"), "{answer:?}");
    let among_others = format!("{}; {}", "a=b; ".repeat(1000), operator.cookie);
    let behind_another = format!("star_admin=x; {}", operator.cookie);
    for cookies in [among_others, behind_another] {
        let answer = ask(&server, "GET /admin", &[("Cookie", &cookies)], "").await;
        assert!(answer.body.contains("/admin/logout"), "{answer:?}");
    }
    let cookie = [("Cookie", "a=b")].repeat(90);
    let cookies = [&cookie[..], &[("Cookie", operator.cookie.as_str())]].concat();
    let answer = ask(&server, "GET /admin", &cookies, "").await;
    assert!(answer.body.contains("/admin/logout"), "{answer:?}");
}

/// A log in memory.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects the log of this thread until the returned guard is dropped.
    pub(super) fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(self.clone())
            .finish();
        traced(subscriber)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_secret_is_in_the_log_and_what_is_done_is() {
    let log = Log::default();
    let _guard = log.begin();
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let client = Client::joined(&server).await;
    let (_, id) = client.address.rsplit_once('/').expect("an id");
    let wrong = "another+token/that~is==wrong";
    try_to_log_in(&server, 1, wrong).await;
    for token in [TOKEN, wrong] {
        let bearer = format!("Bearer {token}");
        ask(&server, "GET /admin", &[("Authorization", &bearer)], "").await;
        // An operator may put the token there by mistake.
        let path = format!("GET /admin?token={token}");
        ask(&server, &path, &[], "").await;
    }
    operator
        .post("/admin/disconnect", &format!("peer={id}"))
        .await;
    operator.post("/admin/ban", &format!("peer={id}")).await;
    operator.post("/admin/unban", &format!("peer={id}")).await;
    let cookie = operator.cookie.clone();
    let form = operator.form.clone();
    server.shutdown().await;
    let log = log.text();
    for done in ["has disconnected", "has banned", "has unbanned"] {
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains(&format!("the operator {done} a peer")));
        let line = line.unwrap_or_else(|| panic!("{done} in {log}"));
        assert!(
            line.contains("INFO") && line.contains(&format!("peer={id}")),
            "{line}"
        );
        assert!(line.contains("client=127.0.0.1"), "{line}");
    }
    assert!(
        log.contains("the operator has logged in client=127.0.0.1"),
        "{log}"
    );
    assert!(
        log.contains("a wrong token for the operator's page"),
        "{log}"
    );
    let (_, cookie) = cookie.split_once('=').expect("a value");
    for secret in [TOKEN, wrong, cookie, &form] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn no_secret_of_a_session_is_in_what_is_shown_of_a_server() {
    let rendezvous = Rendezvous::start(config().with_admin(super::admin()));
    let server = serving().await;
    let operator = Operator::of(&server).await;
    // This puts a message into the session.
    operator.post("/admin/ban", "peer=nonsense").await;
    let (_, cookie) = operator.cookie.split_once('=').expect("a value");
    for shown in [
        format!("{server:?}"),
        format!("{server:#?}"),
        format!("{:?}", super::admin()),
        format!("{rendezvous:?}"),
        format!("{:?}", rendezvous.service()),
    ] {
        for secret in [TOKEN, cookie, &operator.form] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    let shown = format!("{server:?}");
    assert!(
        shown.contains("Panel { bans: Bans { peers: 0, is_kept: false, .. }, .. }"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_form_that_comes_when_its_session_is_over_does_nothing() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let client = Client::joined(&server).await;
    let (_, id) = client.address.rsplit_once('/').expect("an id");
    let body = format!("form={}&peer={id}", operator.form);
    let head = format!(
        "POST /admin/ban HTTP/1.1\r\nHost: a:1\r\nSec-Fetch-Site: same-origin\r\nCookie: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        operator.cookie,
        body.len()
    );
    // The session is looked up before the rest of the form arrives.
    let (first, rest) = body.split_at(5);
    let mut stream = send(&server, format!("{head}{first}").as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    operator.post("/admin/logout", "").await;
    stream.write_all(rest.as_bytes()).await.expect("sent");
    assert!(status(&mut stream).await.contains(" 401 "));
    assert_eq!(server.snapshot().links, 1);
}
