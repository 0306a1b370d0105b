//! A process that has no descriptors left.

use std::process::Stdio;

use futures::future::join;
use tokio::{net::TcpStream, process::Command};

use crate::support::{
    binary::{Binary, command, http},
    raw::{Raw, check_echo, echo},
    within,
};

/// The binary with 40 descriptors.
async fn started() -> Binary {
    let binary = command();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -n 40; exec \"$0\" --host 127.0.0.1 --port 0"])
        .arg(binary.as_std().get_program())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Binary::spawn(&mut shell).await
}

/// More connections than there are descriptors.
async fn crowd(star: &Binary) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..60 {
        // The system takes them, whether the process does or not.
        let connection = TcpStream::connect(star.local_addr()).await;
        crowd.push(connection.expect("a place in the backlog"));
    }
    crowd
}

async fn expect_health(star: &Binary) {
    let answer = http(star.local_addr(), "GET", "/health", "x").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_descriptors_are_waited_out_although_the_log_is_gone() {
    let mut star = started().await;
    let (mut listener, mut dialer) = (Raw::new(), Raw::new());
    let (_, to) = listener.listen(&star.addr()).await;
    dialer.listen(&star.addr()).await;
    star.break_log();
    for _ in 0..2 {
        let crowd = crowd(&star).await;
        // Who is connected does not notice.
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
    let mut star = started().await;
    let crowd = crowd(&star).await;
    let first = star.logged("cannot accept a connection").await;
    assert!(first.contains("left_out=0"), "{first}");
    let second = star.logged("cannot accept a connection").await;
    assert!(!second.contains("left_out=0"), "{second}");
    drop(crowd);
    expect_health(&star).await;
}
