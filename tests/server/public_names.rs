//! The names under which peers may join.

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Refused, Server};
use serde_json::{Value, json};

use crate::client::{Client, address, config};

#[tokio::test]
async fn an_address_with_another_name_than_the_public_ones_is_not_joined() {
    let names = ["Star.test", "127.0.0.1"].map(|name| name.parse().expect("a name"));
    let config = config().with_public_names(names);
    let server = Server::bind(config).await.expect("a free port");
    let key = Keypair::generate_ed25519();
    let public = hex::encode(key.public().encode_protobuf());
    let at = |base: &str| address(&key).replace("/ip4/127.0.0.1/tcp/9090/ws", base);

    let mut client = Client::connect(&server).await;
    let foreign = [
        "/ip4/169.254.169.254/tcp/80/ws",
        "/ip4/127.0.0.2/tcp/9090/ws",
        "/dns4/inside.test/tcp/443/wss",
        "/dns4/star.test.evil/tcp/443/wss",
    ];
    for base in foreign {
        let join = json!(["ss-join", at(base), public]);
        let refused = client.request(join).await;
        assert_eq!(refused, json!(["Invalid multiaddr"]), "{base}");
    }
    let refusals = server.snapshot().refusals;
    let counted = refusals
        .iter()
        .find(|(reason, _)| *reason == Refused::InvalidMultiaddr);
    assert_eq!(counted.map(|(_, count)| count), Some(foreign.len() as u64));

    for base in ["/dns4/star.test/tcp/443/wss", "/dns/STAR.test/tcp/80/ws"] {
        let nonce = client.request(json!(["ss-join", at(base), public])).await;
        assert_eq!(nonce[0], Value::Null, "{base}: {nonce}");
    }
    assert_eq!(client.join(&key).await, json!([]));
    assert_eq!(server.snapshot().peers, [address(&key)]);

    let port = server.local_addr().port();
    let named = ["/dns/star.test", "/ip4/127.0.0.1"];
    let named = named.map(|host| format!("{host}/tcp/{port}/ws/p2p-websocket-star"));
    let told = server.addresses();
    assert_eq!(
        told.iter().map(ToString::to_string).collect::<Vec<_>>(),
        named
    );
}
