//! The operator's page of the binary: its token, and the peers that are banned there.
//!
//! `STAR_BAN_SECONDS` sets the time in seconds within which a banned peer must be disconnected. `.ci/long` sets it
//! for a machine that is otherwise idle.

use std::{
    fs::{self, File},
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use super::{closed, id, node, npm, refused};
use crate::{
    proxies::over_tls,
    support::{
        binary::{Binary, command, failure},
        certificates::{Certificate, Folder, text},
        ed25519, hasty, head,
        raw::Raw,
        within,
    },
};

const SECRET: &str = "an-operators+secret/token==";

fn token_file(folder: &Folder) -> String {
    let path = folder.path("token");
    fs::write(&path, format!("# of the operator\n{SECRET}\n")).expect("written");
    text(&path)
}

/// Returns a command that starts the binary on a free port with these arguments.
fn on_a_free_port(arguments: &[&str]) -> Command {
    let mut command = command();
    command.args(["--host", "127.0.0.1", "--port", "0"]);
    command.args(arguments);
    command
}

/// Sends an action to the operator's page like an operator's script does, and returns the answer.
async fn operate(addr: SocketAddr, token: &str, action: &str, peer: &str) -> String {
    let body = format!("peer={peer}");
    let request = format!(
        "POST /admin/{action} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    ask(addr, &request).await
}

async fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // The connection may be reset after the answer.
    let _ = within("an answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).expect("UTF-8")
}

#[tokio::test]
async fn an_npm_client_and_ours_are_banned_and_stay_out_after_a_restart() {
    let (npm, of_npm) = npm().await;
    let (mut ours, of_ours) = node();
    let folder = Folder::new();
    let (token, bans) = (token_file(&folder), text(&folder.path("bans")));
    let flags = ["--admin-token-file", &token, "--admin-ban-file", &bans];
    let star = Binary::start(&flags).await;
    let ed25519_key = json!({"keyType": "ed25519"});
    npm.try_listen(&star.addr(), ed25519_key.clone())
        .await
        .expect("let in");
    ours.listen(&star.addr()).await;

    let began = Instant::now();
    let answer = operate(star.local_addr(), SECRET, "ban", &of_npm).await;
    let is_cut_off = |event: &serde_json::Value| {
        event["event"] == "disconnected" && event["reason"] == "transport close"
    };
    npm.expect_where("that it is cut off", is_cut_off).await;
    let took = began.elapsed();
    println!("an npm client was banned and cut off within {took:?}");
    let bound = std::env::var("STAR_BAN_SECONDS").unwrap_or("10".to_owned());
    let bound = bound.parse().expect("a number of seconds");
    assert!(took < Duration::from_secs(bound), "{took:?}");
    let told = "1 link was closed. This also holds after a restart.\n";
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(told),
        "{answer}"
    );
    operate(star.local_addr(), SECRET, "ban", &of_ours).await;
    let words = closed(&mut ours).await;
    assert_eq!(words, "Not allowed: you are banned");
    let listed = fs::read_to_string(&bans).expect("it was written");
    assert!(
        listed.contains(&of_npm) && listed.contains(&of_ours),
        "{listed}"
    );
    star.signal("TERM").await;
    star.ended().await;

    let star = Binary::start(&flags).await;
    let error = npm.try_listen(&star.addr(), ed25519_key.clone()).await;
    let error = error.expect_err("banned");
    assert!(error.contains("Not allowed: you are banned"), "{error}");
    Raw::with(&ed25519(), hasty()).listen(&star.addr()).await;
    operate(star.local_addr(), SECRET, "unban", &of_npm).await;
    npm.try_listen(&star.addr(), ed25519_key)
        .await
        .expect("let in again");
    // The ban file has the format of a deny list.
    let star = Binary::start(&["--deny-peers", &bans]).await;
    let listed = fs::read_to_string(&bans).expect("there");
    assert!(
        !listed.contains(&of_npm) && listed.contains(&of_ours),
        "{listed}"
    );
    Raw::with(&ed25519(), hasty()).listen(&star.addr()).await;
}

#[tokio::test]
async fn who_is_banned_need_not_be_on_an_allow_list_and_who_is_on_it_may_be_banned() {
    let key = ed25519();
    let folder = Folder::new();
    let token = token_file(&folder);
    fs::write(folder.path("allowed"), id(&key)).expect("written");
    let allowed = text(&folder.path("allowed"));
    let flags = ["--admin-token-file", &token, "--allow-peers", &allowed];
    let star = Binary::start(&flags).await;
    let mut known = Raw::with(&key, hasty());
    known.listen(&star.addr()).await;
    let answer = operate(star.local_addr(), SECRET, "ban", &id(&key)).await;
    assert!(
        answer.ends_with("This holds until the server stops.\n"),
        "{answer}"
    );
    assert_eq!(closed(&mut known).await, "Not allowed: you are banned");
    // A reload of the lists does not lift the ban.
    star.signal("HUP").await;
    let again = refused(&mut Raw::with(&key, hasty()), &star.addr()).await;
    assert_eq!(again, "Not allowed: you are banned");
}

#[tokio::test]
async fn the_token_comes_from_a_file_or_from_the_environment_and_is_in_no_log() {
    let folder = Folder::new();
    let (file, log) = (token_file(&folder), folder.path("log"));
    let of_environment = "another+secret/of~the-environment";
    let wrong = "a+wrong/token~that-somebody-tries";
    for (arguments, right) in [
        (&["--admin-token-file", &file][..], SECRET),
        (&[], of_environment),
    ] {
        let mut command = on_a_free_port(arguments);
        command
            .env("ADMIN_TOKEN", of_environment)
            .env("RUST_LOG", "trace")
            .stderr(File::create(&log).expect("a file"));
        let star = Binary::spawn(&mut command).await;
        let peer = id(&ed25519());
        for token in [SECRET, of_environment, wrong] {
            let answer = operate(star.local_addr(), token, "ban", &peer).await;
            let expected = if token == right { "200" } else { "401" };
            assert_eq!(&answer[9..12], expected, "{answer}");
        }
        star.signal("TERM").await;
        star.ended().await;
        let log = fs::read_to_string(&log).expect("UTF-8");
        assert!(log.contains("the operator has banned a peer"), "{log}");
        assert!(
            !log.contains("is not encrypted"),
            "it is on this machine: {log}"
        );
        for secret in [SECRET, of_environment, wrong] {
            assert!(!log.contains(secret), "{log}");
        }
    }
    let star = Binary::start(&[]).await;
    let answer = operate(star.local_addr(), SECRET, "ban", "x").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn without_encryption_the_log_warns_and_with_it_cookies_are_for_that_only() {
    let certificate = Certificate::new();
    let folder = Folder::with(&certificate);
    let token = token_file(&folder);
    let mut command = command();
    command.args([
        "--host",
        "0.0.0.0",
        "--port",
        "0",
        "--admin-token-file",
        &token,
    ]);
    let mut star = Binary::spawn(&mut command).await;
    star.logged("the operator's page is not encrypted").await;

    let (cert, key) = (
        text(&folder.path("cert.pem")),
        text(&folder.path("key.pem")),
    );
    let flags = ["--admin-token-file", &token, "--cert", &cert, "--key", &key];
    let star = Binary::start(&flags).await;
    let stream = TcpStream::connect(star.local_addr()).await;
    let mut stream = over_tls(stream.expect("it listens"), &certificate).await;
    let body = format!("token={}", SECRET.replace('+', "%2B"));
    let request = format!(
        "POST /admin/login HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\norigin: https://localhost\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let login = head(&mut stream).await.to_lowercase();
    let flags = "; path=/; max-age=43200; httponly; samesite=strict; secure\r\n";
    assert!(
        login.starts_with("http/1.1 303 ")
            && login.contains("\r\nset-cookie: __host-star_admin=")
            && login.contains(flags),
        "{login}"
    );
}

#[tokio::test]
async fn a_token_or_a_file_that_cannot_be_used_is_a_reason_not_to_start() {
    let folder = Folder::new();
    let good = token_file(&folder);
    let write = |name: &str, content: &str| {
        fs::write(folder.path(name), content).expect("written");
        text(&folder.path(name))
    };
    let (short, two) = (
        write("short", "secret"),
        write("two", "first-secret-token\nsecond"),
    );
    let nonsense = write("nonsense", "no such peer");
    for (arguments, token, expected) in [
        (
            &["--admin-token-file", "/nowhere/token"][..],
            "",
            "cannot read /nowhere/token",
        ),
        (
            &["--admin-token-file", &short],
            "",
            "must have at least 16 characters",
        ),
        (
            &["--admin-token-file", &two],
            "",
            "must contain exactly one token",
        ),
        (&[], "secret", "must have at least 16 characters"),
        (
            &[],
            "two secret words, or three",
            "ADMIN_TOKEN cannot be used: a token must have",
        ),
        (
            &["--admin-ban-file", &nonsense],
            "",
            "--admin-ban-file needs the operator's page",
        ),
        (
            &["--admin-token-file", &good, "--admin-ban-file", &nonsense],
            "",
            "nonsense, line 1: this is not a peer id",
        ),
        (
            &[
                "--admin-token-file",
                &good,
                "--admin-ban-file",
                "/nowhere/bans",
            ],
            "",
            "cannot write /nowhere/bans: No such file",
        ),
    ] {
        let mut command = on_a_free_port(arguments);
        let (code, stderr) = failure(command.env("ADMIN_TOKEN", token)).await;
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.contains(expected), "{arguments:?}: {stderr}");
        assert!(
            !last.contains("secret") && !last.contains("such peer"),
            "{last}"
        );
    }
}
