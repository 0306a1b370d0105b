//! A process that runs out of file descriptors.

use std::process::Stdio;

use futures::future::join;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpSocket, TcpStream},
    process::Command,
};

use crate::support::{
    binary::{Binary, command},
    raw::{Raw, check_echo, echo},
    within,
};

/// Flags that keep idle connections open.
const PATIENT: &str = "--handshake-timeout 1h --max-http-age 1h";

/// Starts the binary with that many descriptors.
async fn started(descriptors: usize) -> Binary {
    let binary = command();
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!(
            "ulimit -n {descriptors}; exec \"$0\" --host 127.0.0.1 --port 0 {PATIENT}"
        ))
        .arg(binary.as_std().get_program())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Binary::spawn(&mut shell).await
}

/// Opens more connections than there are descriptors.
async fn crowd(star: &Binary) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..60 {
        // Some are reset at once.
        crowd.extend(TcpStream::connect(star.local_addr()).await);
    }
    crowd
}

/// Sends a request from a loopback address. Returns the first line of the answer, and the connection.
async fn ask(star: &Binary, host: u8, request: &str) -> std::io::Result<(String, TcpStream)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, host], 0).into())?;
    let mut stream = BufReader::new(socket.connect(star.local_addr()).await?);
    let request = format!("{request}\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok((line, stream.into_inner()))
}

/// Waits until the places of closed connections are free again.
async fn expect_health(star: &Binary) {
    let health = async {
        loop {
            let answer = ask(star, 1, "GET /health HTTP/1.1").await;
            if answer.is_ok_and(|(line, _)| line.starts_with("HTTP/1.1 200 ")) {
                return;
            }
        }
    };
    within("an answer", health).await;
}

#[tokio::test]
async fn connections_beyond_the_descriptors_disturb_nobody_although_the_log_is_gone() {
    let mut star = started(40).await;
    let (mut listener, mut dialer) = (Raw::new(), Raw::new());
    let (_, to) = listener.listen(&star.addr()).await;
    dialer.listen(&star.addr()).await;
    star.break_log();
    for _ in 0..2 {
        let crowd = crowd(&star).await;
        // Peers that are connected do not notice.
        let dialled = within("a dial", dialer.dial(&to.to_string())).await;
        let (accepted, _) = listener.accept().await;
        let (_, echoed) = join(check_echo(dialled, 100_000, 10_000), echo(accepted)).await;
        assert_eq!(echoed.expect("no reset"), 100_000);
        drop(crowd);
        expect_health(&star).await;
    }
    star.signal("TERM").await;
    assert_eq!(star.ended().await.0.code(), Some(0));
}

#[tokio::test]
async fn connections_beyond_the_descriptors_are_told_once_a_second_with_their_number() {
    let mut star = started(40).await;
    let told = "a connection is refused";
    let first = crowd_until(&mut star, told).await;
    assert!(first.contains("left_out=0"), "{first}");
    let second = crowd_until(&mut star, told).await;
    assert!(!second.contains("left_out=0"), "{second}");
    expect_health(&star).await;
}

/// Opens more connections than there are descriptors, again and again, until this text is logged. Returns the line.
async fn crowd_until(star: &mut Binary, text: &str) -> String {
    let addr = star.local_addr();
    let crowd = async {
        loop {
            let mut crowd = Vec::new();
            for _ in 0..60 {
                crowd.push(TcpStream::connect(addr).await);
            }
        }
    };
    tokio::select! {
        line = star.logged(text) => line,
        () = crowd => unreachable!("it goes on and on"),
    }
}

#[tokio::test]
async fn whoever_takes_all_descriptors_keeps_no_other_from_a_link() {
    let mut star = started(60).await;
    let told = star.logged("only 28 connections are possible").await;
    assert!(
        told.contains("WARN") && told.contains("--max-links"),
        "{told}"
    );
    let mut crowd = Vec::new();
    for _ in 0..100 {
        // Some are refused.
        let asked = ask(&star, 2, "HEAD /health HTTP/1.1");
        crowd.extend(within("an answer or a reset", asked).await);
    }
    let link = "GET /socket.io/?EIO=3&transport=websocket HTTP/1.1\r\nUpgrade: websocket\r\n\
                Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
    let mut links = Vec::new();
    for _ in 0..10 {
        let (answer, link) = within("an answer", ask(&star, 3, link))
            .await
            .expect("a share");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        links.push(link);
    }
}
