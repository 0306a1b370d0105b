//! The start of the binary: what works, and the message if it does not.

use p12_keystore::EncryptionAlgorithm;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::{
    binary::{Binary, command, failure, http},
    certificates::{Certificate, Folder, text},
    js::Peer,
    raw::Raw,
};

/// Returns the one line with which the binary refuses to start.
async fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = command();
    command
        .args(["--host", "127.0.0.1", "--port", "0"])
        .args(arguments);
    for (name, value) in variables {
        command.env(name, value);
    }
    let (code, stderr) = failure(&mut command).await;
    assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    let line = stderr
        .trim_end()
        .strip_prefix("websocket-star-rendezvous: ");
    line.unwrap_or_else(|| panic!("{stderr}")).to_owned()
}

#[tokio::test]
async fn javascript_peers_meet_at_the_binary() {
    let star = Binary::start(&[]).await;
    let (a, b) = (Peer::start(), Peer::start());
    a.listen(&star.addr()).await;
    let to = b.listen(&star.addr()).await;
    a.expect_where("the later peer", |event| event["addr"] == *to)
        .await;
    a.echo(&to, 1_000_000).await;
    b.mode("refuse", json!({"reason": "not today"})).await;
    assert_eq!(a.dial(&to, json!({})).await["error"], "not today");
}

#[tokio::test]
async fn the_npm_servers_variables_and_flags_mean_what_they_meant() {
    let mut from_variables = command();
    from_variables
        .envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("KEY", "")])
        .envs([
            ("DISABLE_METRICS", "0"),
            ("DISABLE_CRYPTO_CHALLENGE", "false"),
        ]);
    let star = Binary::spawn(&mut from_variables).await;
    let answer = http(star.local_addr(), "GET", "/metrics", "x").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let peer = Peer::start();
    let refused = peer.try_listen(&star.addr(), json!({})).await;
    assert!(refused.is_err(), "the challenge is on: {refused:?}");
    let allow = json!({"allowDisabledChallenge": true});
    let peer = Peer::start();
    peer.try_listen(&star.addr(), allow).await.expect("joined");

    let star = Binary::start(&["--disableMetrics"]).await;
    let answer = http(star.local_addr(), "GET", "/metrics", "x").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn peers_join_under_the_public_names_only() {
    let star = Binary::start(&["--public-name", "star.test", "--public-name=LocalHost"]).await;
    let mut node = Raw::new();
    let named = star.addr().replace("/ip4/127.0.0.1", "/dns4/localhost");
    node.listen(&named).await;
    node.listen_on(&star.addr()).expect("a good address");
    let error = node.listener_closed().await.to_string();
    assert!(error.ends_with("Invalid multiaddr"), "{error}");
}

#[tokio::test]
async fn a_flag_wins_over_its_variable() {
    let mut command = command();
    command
        .envs([
            ("HOST", "203.0.113.1"),
            ("PORT", "nonsense"),
            ("PFX", "/nowhere"),
        ])
        .args(["--host", "127.0.0.1", "--port", "0"]);
    let certificate = Certificate::new();
    let folder = Folder::with(&certificate);
    let star = Binary::spawn(command.args(folder.flags())).await;
    assert!(star.addr().contains("/wss/"));
}

#[tokio::test]
async fn what_is_wrong_with_the_command_line_is_said_in_one_line() {
    for (arguments, expected) in [
        (&["--bogus"][..], "'--bogus'"),
        (
            &["--port", "70000"],
            "\"70000\" is not a number from 0 to 65535",
        ),
        (
            &["--port", "http"],
            "\"http\" is not a number from 0 to 65535",
        ),
        (
            &["--max-links", "0"],
            "'--max-links <N>': must be a whole number, at least 1",
        ),
        (
            &["--max-queue", "1.5MiB"],
            "'--max-queue <SIZE>': must be a whole number of bytes",
        ),
        (
            &["--stall-timeout", "soon"],
            "'--stall-timeout <TIME>': must be a whole number of seconds",
        ),
        (
            &["--public-name", "wss://star.example"],
            "'--public-name <NAME>': must be a DNS name or an IP address",
        ),
        (&["--log", "xml"], "possible values: text, json"),
        (
            &["--host", "no.such.host.invalid"],
            "cannot resolve the host \"no.such.host.invalid\"",
        ),
        (&["--host", "203.0.113.1"], "cannot listen on 203.0.113.1:0"),
        (&["--key", "k.pem"], "add --cert FILE"),
        (&["--cert", "c.pem"], "add --key FILE"),
        (&["--pfx", "p", "--cert", "c"], "leave one of them out"),
        (&["--passphrase", "secret"], "add --pfx FILE"),
    ] {
        // Add a default host and port only if the arguments have none: clap may reject an option that is given twice,
        // with another message.
        let arguments: Vec<_> = arguments.to_vec();
        let mut command = command();
        if !arguments.contains(&"--host") {
            command.args(["--host", "127.0.0.1"]);
        }
        if !arguments.contains(&"--port") {
            command.args(["--port", "0"]);
        }
        let (code, stderr) = failure(command.args(&arguments)).await;
        assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_environment_is_said_in_one_line() {
    for (variables, expected) in [
        (&[("KEY", "k.pem")][..], "add --cert FILE (or CERT)"),
        (&[("CERT", "c.pem")], "add --key FILE (or KEY)"),
        (
            &[("PFX", "p"), ("CERT", "c")],
            "check PFX, CERT and KEY in the environment",
        ),
        (
            &[("PFX", "/nowhere/x.pfx")],
            "cannot read /nowhere/x.pfx: No such file",
        ),
        (&[("RUST_LOG", "a=b=c")], "RUST_LOG cannot be understood"),
    ] {
        let line = refusal(&[], variables).await;
        assert!(line.contains(expected), "{variables:?}: {line}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let mut command = command();
    let (code, stderr) = failure(command.args(["--host", "127.0.0.1", "--port", &port])).await;
    assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{stderr}");
    let expected = format!("cannot listen on 127.0.0.1:{port}: Address already in use");
    assert!(stderr.contains(&expected), "{stderr}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_refused_with_its_file_and_the_reason() {
    let good = Certificate::new();
    let folder = Folder::with(&good);
    let file = |name: &str, content: &str| text(&folder.write(name, content));
    let cert = text(&folder.path("cert.pem"));
    let key = text(&folder.path("key.pem"));
    let other_key = file("other.pem", &Certificate::new().key_pem);
    let empty = file("empty.pem", "");
    let encrypted = file(
        "encrypted.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let pem = [
        (
            &cert,
            &"/nowhere/key".to_owned(),
            "cannot read /nowhere/key: No such file",
        ),
        (
            &cert,
            &other_key,
            "the private key does not belong to the certificate",
        ),
        (&empty, &key, "no certificate in it"),
        (&cert, &empty, "no private key in it"),
        (&cert, &cert, "no private key in it"),
        (
            &cert,
            &encrypted,
            "the private key is encrypted: a passphrase is needed",
        ),
    ];
    for (cert, key, expected) in pem {
        let line = refusal(&["--cert", cert, "--key", key], &[]).await;
        assert!(line.contains(expected), "{line}");
    }
    let pfx = good.pfx("right", EncryptionAlgorithm::PbeWithHmacSha256AndAes256);
    let pfx = text(&folder.write("server.pfx", pfx));
    for (pfx, passphrase, expected) in [
        (&pfx, Some("wrong"), "is the passphrase right?"),
        (
            &pfx,
            None,
            "without its passphrase: add --passphrase (or PFX_PASSPHRASE)",
        ),
        (&cert, Some("right"), "the PFX file cannot be read"),
    ] {
        let mut arguments = vec!["--pfx", pfx];
        arguments.extend(passphrase.iter().flat_map(|text| ["--passphrase", *text]));
        let line = refusal(&arguments, &[]).await;
        assert!(line.contains(expected) && line.contains(pfx), "{line}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_now_is_refused_with_the_date() {
    for (from, to, expected) in [
        (
            2001,
            2002,
            "the certificate expired at 2002-01-01T00:00:00Z",
        ),
        (
            3001,
            3002,
            "the certificate is not valid before 3001-01-01T00:00:00Z",
        ),
    ] {
        let folder = Folder::with(&Certificate::valid(from, to));
        let flags = folder.flags();
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let line = refusal(&flags, &[]).await;
        assert!(line.contains(expected), "{line}");
    }
}

#[tokio::test]
async fn help_names_every_flag_and_variable_of_the_npm_server() {
    let output = command().arg("--help").output().await.expect("runs");
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    for name in [
        "--host",
        "--port",
        "--key",
        "--cert",
        "--pfx",
        "--passphrase",
        "--disable-crypto-challenge",
        "--disable-strict-multiaddr",
        "--disable-metrics",
        "PFX_PASSPHRASE",
        "DISABLE_CRYPTO_CHALLENGE",
        "DISABLE_STRICT_MULTIADDR",
        "DISABLE_METRICS",
    ] {
        assert!(help.contains(name), "{name}");
    }
}
