//! Names in addresses, and which of them reach the log.

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Refused, Server};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::{
    client::{Client, config, server},
    traced::traced,
};

/// Logs everything on this thread. A test runs on its thread only.
fn log() -> (NamedTempFile, tracing::subscriber::DefaultGuard) {
    let log = NamedTempFile::new().expect("a file");
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.reopen().expect("the file"))
        .finish();
    let guard = traced(subscriber);
    (log, guard)
}

/// Returns the lines of the log. Every line must begin with a time.
fn lines(log: &NamedTempFile) -> Vec<String> {
    let log = std::fs::read_to_string(log).expect("UTF-8");
    let lines: Vec<_> = log.lines().map(str::to_owned).collect();
    for line in &lines {
        assert!(
            line.starts_with("20") && !line.starts_with("2031"),
            "{line}"
        );
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    lines
}

fn address(base: &str, key: &Keypair) -> String {
    let peer = key.public().to_peer_id();
    format!("{base}/tcp/80/ws/p2p-websocket-star/ipfs/{peer}")
}

async fn join(client: &mut Client, address: &str, key: &Keypair) -> serde_json::Value {
    let public = hex::encode(key.public().encode_protobuf());
    client.request(json!(["ss-join", address, public])).await
}

#[tokio::test]
async fn an_address_with_a_name_that_is_none_is_not_joined_and_not_logged() {
    let (log, _guard) = log();
    let lenient = config().with_strict_multiaddr(false);
    let lenient = Server::bind(lenient).await.expect("a free port");
    let long = format!("/dns4/{}", "a".repeat(64));
    let forged = "\r\n2031-01-01T00:00:00Z  INFO forged";
    for server in [server().await, lenient] {
        let mut client = Client::connect(&server).await;
        let key = Keypair::generate_ed25519();
        let mut refused = 0;
        for base in [
            format!("/dns4/a{forged}"),
            format!("/dns/a{forged}/tcp/80/tls/sni/b"),
            "/dns6/a\u{1b}[2Jb".to_owned(),
            "/dnsaddr/a b".to_owned(),
            "/dns4/a..b".to_owned(),
            "/dns4/a\u{202e}b".to_owned(),
            "/dns4/a:80".to_owned(),
            long.clone(),
        ] {
            let answer = join(&mut client, &address(&base, &key), &key).await;
            assert_eq!(answer, json!(["Invalid multiaddr"]), "{base:?}");
            refused += 1;
        }
        let sni = format!("/ip4/127.0.0.1/tcp/80/tls/sni/a{forged}/ws");
        let unix = format!("/unix/a{forged}");
        for odd in [sni, unix] {
            let answer = join(&mut client, &odd, &key).await;
            assert_eq!(answer, json!(["Invalid multiaddr"]), "{odd:?}");
            refused += 1;
        }
        let all = server.snapshot().refusals;
        let counted = all.iter().find(|(r, _)| *r == Refused::InvalidMultiaddr);
        assert_eq!(counted.map(|(_, count)| count), Some(refused));

        for base in ["/dns4/_star.example.", "/dns/bücher.example"] {
            let answer = join(&mut client, &address(base, &key), &key).await;
            assert!(answer[1].is_string(), "{base}: {answer}");
        }
        server.shutdown().await;
    }
    let lines = lines(&log);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("a request is refused"))
    );
}
