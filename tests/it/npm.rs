//! The transport against the published JavaScript rendezvous and client.

use libp2p::identity::Keypair;
use libp2p_websocket_star::Config;
use serde_json::json;

use crate::support::{
    js::{Peer, Rendezvous, RendezvousOptions},
    raw::{Raw, check_echo, echo},
};

async fn rendezvous() -> Rendezvous {
    Rendezvous::start(RendezvousOptions::default()).await
}

#[tokio::test]
async fn rust_joins_with_every_key_type() {
    let star = rendezvous().await;
    for key in [
        Keypair::generate_ed25519(),
        Keypair::generate_secp256k1(),
        rsa_2048(),
    ] {
        let mut node = Raw::with(&key, Config::default());
        let (_, addr) = node.listen(&star.addr()).await;
        let peer = key.public().to_peer_id();
        assert_eq!(addr.to_string(), format!("{}/p2p/{peer}", star.addr()));
    }
}

/// A key as the JavaScript peers have it, made by OpenSSL.
fn rsa_2048() -> Keypair {
    let mut der = include_bytes!("support/rsa-2048.pk8").to_vec();
    Keypair::rsa_from_pkcs8(&mut der).expect("a PKCS#8 RSA key")
}

#[tokio::test]
async fn a_javascript_peer_dials_rust_and_gets_every_byte_back() {
    let star = rendezvous().await;
    let (mut rust, js) = (Raw::new(), Peer::start());
    let (_, to) = rust.listen(&star.addr()).await;
    let from = js.listen(&star.addr()).await;
    let to = to.to_string().replace("/p2p/", "/ipfs/");
    for (bytes, chunk) in [
        (1, 1),
        (65_536, 65_536),
        (1_000_000, 999_000),
        (64 << 20, 65_536),
    ] {
        let dial = async { js.dial(&to, json!({"bytes": bytes, "chunk": chunk})).await };
        let answer = async {
            let (connection, send_back) = rust.accept().await;
            assert_eq!(send_back.to_string(), from.replace("/ipfs/", "/p2p/"));
            echo(connection).await.expect("no reset")
        };
        let (dialled, copied) = futures::future::join(dial, answer).await;
        assert_eq!((&dialled["ok"], copied), (&json!(true), bytes), "{dialled}");
    }
}

#[tokio::test]
async fn rust_dials_a_javascript_peer_and_gets_every_byte_back() {
    let star = rendezvous().await;
    let (rust, js) = (Raw::new(), Peer::start());
    let to = js.listen(&star.addr()).await;
    for (bytes, chunk) in [
        (0, 1),
        (1, 1),
        (65_536, 1000),
        (1_000_000, 1_000_000),
        (64 << 20, 65_536),
    ] {
        check_echo(rust.dial(&to).await, bytes, chunk).await;
    }
}
