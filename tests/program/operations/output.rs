//! Standard output and standard error in every state. None of them may stop the service.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, PipeReader},
    net::SocketAddr,
    process::Stdio,
};

use tokio::process::Child;

use super::tls::is_trusted;
use crate::support::{
    binary::{Binary, command, http},
    certificates::{Certificate, Folder},
    within,
};

/// Flags that make the binary accept any number of connections from one address.
const EVERY_CONNECTION: [&str; 2] = ["--connection-burst", "100000"];

/// Fills a pipe, and the queue of lines before it, with a log that has a line for each of these requests.
async fn fill_log(addr: SocketAddr) {
    for _ in 0..3000 {
        let answer = http(addr, "NO METHOD", "/", "x").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}

/// Replaces the certificate of a running binary, which then writes a line to its log.
async fn renew(star: &Binary, folder: &Folder) {
    let new = Certificate::new();
    assert!(!is_trusted(&new, &star.addr()).await);
    folder.put(&new);
    star.signal("HUP").await;
    let renewed = async { while !is_trusted(&new, &star.addr()).await {} };
    within("the new certificate", renewed).await;
}

#[tokio::test]
async fn a_log_whose_reader_is_gone_does_not_stop_the_service() {
    let folder = Folder::with(&Certificate::new());
    let flags = folder.flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let mut star = Binary::start(&flags).await;
    star.break_log();
    renew(&star, &folder).await;
    // Once more: the first line may have broken the log.
    renew(&star, &folder).await;
    star.signal("TERM").await;
    let (status, last) = star.ended().await;
    assert_eq!(
        (status.code(), &*last),
        (Some(0), "Rendezvous server stopped")
    );
}

#[tokio::test]
async fn a_log_on_a_full_disk_does_not_stop_the_service() {
    let folder = Folder::with(&Certificate::new());
    let full = File::options().write(true).open("/dev/full");
    let mut command = command();
    command
        .args(["--host", "127.0.0.1", "--port", "0"])
        .args(folder.flags())
        .env("RUST_LOG", "trace")
        .stderr(Stdio::from(full.expect("Linux has it")));
    let star = Binary::spawn(&mut command).await;
    renew(&star, &folder).await;
    star.signal("TERM").await;
    assert_eq!(star.ended().await.0.code(), Some(0));
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_stop_the_service_and_tells_what_it_lost() {
    let mut command = command();
    command
        .args(["--host", "127.0.0.1", "--port", "0"])
        .args(EVERY_CONNECTION)
        .env("RUST_LOG", "trace");
    let mut star = Binary::spawn(&mut command).await;
    fill_log(star.local_addr()).await;
    star.logged("lines could not be written and are lost").await;
    star.signal("TERM").await;
    assert_eq!(star.ended().await.0.code(), Some(0));
}

/// Waits until the binary listens. Nothing of its later output is read.
fn listens(output: PipeReader) -> (String, PipeReader) {
    let mut lines = BufReader::with_capacity(1, output);
    loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).expect("UTF-8"), 0, "it ended");
        if let Some(addr) = line.strip_prefix("Listening on: http://") {
            return (addr.trim().to_owned(), lines.into_inner());
        }
    }
}

#[tokio::test]
async fn outputs_that_nobody_reads_do_not_keep_the_process_from_ending() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = command();
    command
        .args(["--host", "127.0.0.1", "--port", "0"])
        .args(EVERY_CONNECTION)
        .env("RUST_LOG", "trace")
        .stdout(writer.try_clone().expect("a descriptor"))
        .stderr(writer);
    let mut child: Child = command.spawn().expect("the binary runs");
    drop(command);
    let (addr, _unread) = tokio::task::spawn_blocking(move || listens(reader))
        .await
        .expect("it listens");
    let addr = addr.parse().expect("an address");
    fill_log(addr).await;
    let pid = child.id().expect("it runs").to_string();
    let kill = tokio::process::Command::new("kill")
        .args(["-s", "TERM", &pid])
        .status();
    assert!(kill.await.expect("kill runs").success());
    let status = within("the end", child.wait()).await.expect("a status");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn with_outputs_that_are_gone_the_exit_status_still_tells() {
    for (flag, code) in [
        ("--help", 0),
        ("--version", 0),
        ("--no-such-flag", 2),
        ("--host=256.0.0.1", 2),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = command();
        command
            .arg(flag)
            .stdout(writer.try_clone().expect("a descriptor"))
            .stderr(writer);
        let status = within("the end", command.status()).await;
        assert_eq!(status.expect("a status").code(), Some(code), "{flag}");
    }
}
