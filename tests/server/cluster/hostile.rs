//! A node with a valid certificate that breaks the rules.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{Request, Response, StatusCode};
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{
    Config, Limits, Server,
    cluster::{Change, Cluster, Directory as _, MemoryDirectory},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use super::{
    authority::{Authority, Certified},
    nodes::{Nodes, trunk_tls},
};
use crate::client::{Client, config, dial, soon};

/// Two honest nodes, and what a third, hostile node has.
struct Scene {
    nodes: Nodes,
    authority: Authority,
    directory: MemoryDirectory,
}

impl Scene {
    async fn start() -> Self {
        Self::with(config()).await
    }

    async fn with(config: Config) -> Self {
        let (authority, directory) = (Authority::new(), MemoryDirectory::new());
        let mut servers = Vec::new();
        for name in ["node-0", "node-1"] {
            let id = name.parse().expect("a name");
            let cluster = Cluster::new(id, directory.clone(), trunk_tls(&authority, name));
            let server = Server::bind(config.clone().with_cluster(cluster)).await;
            servers.push(server.expect("free ports"));
        }
        Self {
            nodes: Nodes { servers },
            authority,
            directory,
        }
    }

    /// Returns the records of the directory below a prefix.
    async fn records(&self, prefix: &str) -> Vec<(String, Value)> {
        let mut changes = self.directory.watch().await.expect("watched");
        let mut records = Vec::new();
        while let Some(Ok(Change::Put { key, value })) = changes.next().await {
            if key.starts_with(prefix) {
                records.push((key, serde_json::from_slice(&value).expect("JSON")));
            }
        }
        records
    }

    async fn put(&self, key: &str, value: &Value) {
        let value = Bytes::from(value.to_string());
        self.directory
            .put(key.to_owned(), value, None)
            .await
            .expect("written");
    }

    /// Returns the number of records that a node has rejected.
    fn bad_records(&self, node: usize) -> u64 {
        let snapshot = self.nodes.servers[node].snapshot();
        snapshot.cluster.expect("a node").bad_records
    }

    /// Returns the address at which a node accepts trunks.
    async fn trunk_of(&self, node: &str) -> SocketAddr {
        let records = self.records(&format!("nodes.{node}.")).await;
        let (_, record) = records.first().expect("a lease");
        record["t"]
            .as_str()
            .expect("an address")
            .parse()
            .expect("one")
    }

    /// Opens a trunk to a node, with a new certificate of `evil`.
    async fn trunk(&self, node: &str) -> SendRequest<Bytes> {
        self.trunk_with(&self.authority.certify("evil"), node).await
    }

    async fn trunk_with(&self, shown: &Certified, node: &str) -> SendRequest<Bytes> {
        let Certified { certificate, key } = shown;
        let mut roots = RootCertStore::empty();
        let pem = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).expect("PEM");
        roots.add(pem(self.authority.pem())).expect("an authority");
        let provider = Arc::new(crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![pem(certificate)],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key"),
            );
        let mut tls = tls.expect("a certificate");
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.trunk_of(node).await)
            .await
            .expect("it listens");
        let name = ServerName::try_from(node.to_owned()).expect("a name");
        let stream = TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await;
        let (requests, connection) = h2::client::handshake(stream.expect("let in"))
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        requests
    }
}

fn request(path: &str, node: &str) -> Request<()> {
    let request = Request::post(format!("https://node{path}"))
        .header("star-node", node)
        .header("star-client", "192.0.2.1")
        // A later version may send further headers.
        .header("star-something-new", "1");
    request.body(()).expect("a request")
}

/// A stream on a trunk, as one of `evil`'s clients.
struct Guest {
    send: SendStream<Bytes>,
    receive: RecvStream,
    read: Vec<u8>,
}

async fn ask(
    requests: &SendRequest<Bytes>,
    request: Request<()>,
) -> (Response<RecvStream>, SendStream<Bytes>) {
    let mut requests = requests.clone().ready().await.expect("open");
    let (response, send) = requests.send_request(request, false).expect("sent");
    (soon("an answer", response).await.expect("an answer"), send)
}

impl Guest {
    async fn open(requests: &SendRequest<Bytes>) -> Self {
        let (response, send) = ask(requests, request("/trunk/1/link", "evil")).await;
        assert_eq!(response.status(), StatusCode::OK);
        Self {
            send,
            receive: response.into_body(),
            read: Vec::new(),
        }
    }

    fn say(&mut self, text: &str) {
        let mut frame = vec![0x81];
        match text.len() {
            len @ 0..126 => frame.push(len as u8),
            len => {
                frame.push(126);
                frame.extend((len as u16).to_be_bytes());
            }
        }
        frame.extend(text.as_bytes());
        self.send.send_data(frame.into(), false).expect("open");
    }

    /// Returns the next frame, of less than 64 KiB.
    async fn hear(&mut self) -> String {
        loop {
            let len = match self.read[..] {
                [_, len @ 0..126, ..] => Some((2, usize::from(len))),
                [_, 126, high, low, ..] => Some((4, usize::from(u16::from_be_bytes([high, low])))),
                _ => None,
            };
            if let Some((header, len)) = len.filter(|(header, len)| self.read.len() >= header + len)
            {
                let frame: Vec<u8> = self.read.drain(..header + len).skip(header).collect();
                return String::from_utf8(frame).expect("UTF-8");
            }
            let data = soon("a frame", self.receive.data())
                .await
                .expect("open")
                .expect("open");
            self.receive
                .flow_control()
                .release_capacity(data.len())
                .expect("released");
            self.read.extend(data);
        }
    }
}

#[tokio::test]
async fn it_cannot_take_a_peer_with_a_record_that_is_not_its_own() {
    let scene = Scene::start().await;
    let (mut here, mut there) = (scene.nodes.joined(0).await, scene.nodes.joined(1).await);
    scene.nodes.know(2).await;
    let records = scene.records("peers.node-1.").await;
    let [(key, stolen)] = &records[..] else {
        panic!("{records:?}");
    };
    let slot = key.rsplit('.').next().expect("a slot");
    let own = format!("peers.evil.1.{slot}");
    // It is a node, and claims to have the peer: with the proof of another node's record, without the signature, with
    // a different key, and with no proof.
    scene
        .put(
            "nodes.evil.1",
            &json!({"v": 1, "r": 1, "t": "127.0.0.1:1", "n": 1}),
        )
        .await;
    let mut without = stolen.clone();
    without["s"] = json!("");
    let other = Keypair::generate_ed25519().public().encode_protobuf();
    let mut another = stolen.clone();
    another["k"] = json!(base64::Engine::encode(
        &base64::prelude::BASE64_STANDARD_NO_PAD,
        other
    ));
    for (n, record) in [
        stolen.clone(),
        without,
        another,
        json!({"r": 1}),
        json!("x"),
    ]
    .iter()
    .enumerate()
    {
        scene.put(&own, record).await;
        soon("it is looked at", async {
            while scene.bad_records(0) <= n as u64 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    // It also writes the record under another slot, and below the prefix of another node, which NATS would not allow.
    scene
        .put("peers.evil.1.00112233445566778899aabbccddeeff", stolen)
        .await;
    scene.put(&format!("peers.node-0.1.{slot}"), stolen).await;
    dial(&mut here, &mut there, "d").await;
    here.item("d.dialer", b"mine").await;
    there.expect_item("d.dialer", b"mine").await;
}

#[tokio::test]
async fn it_cannot_dial_as_a_peer_that_is_elsewhere_nor_reach_into_streams_of_others() {
    let scene = Scene::start().await;
    let (mut here, mut there) = (scene.nodes.joined(0).await, scene.nodes.joined(1).await);
    scene.nodes.know(2).await;
    dial(&mut here, &mut there, "open").await;
    let requests = scene.trunk("node-0").await;
    // It cannot use the name of another node, nor a version that does not exist.
    let (response, _) = ask(&requests, request("/trunk/1/link", "node-1")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let (response, _) = ask(&requests, request("/trunk/2/link", "evil")).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let mut guest = Guest::open(&requests).await;
    let records = scene.records("peers.node-1.").await;
    let (_, stolen) = records.first().expect("a record");
    let event = json!(["ss-join", there.address, stolen.to_string()]);
    guest.say(&format!("420{event}"));
    assert_eq!(
        guest.hear().await,
        "430[\"Not authorized for this address\"]"
    );
    let event = json!(["ss-dial", there.address, here.address, "x"]);
    guest.say(&format!("421{event}"));
    assert_eq!(
        guest.hear().await,
        "431[\"Not authorized for this address\"]"
    );
    // The dial ids of one link are separate from those of others, so none of these events reaches anybody.
    for text in [
        "42[\"socket.io-pull-stream.error.open.dialer\",true]",
        "42[\"socket.io-pull-stream.error.open.listener\",\"x\"]",
        "42[\"socket.io-pull-stream.accept.open.listener\"]",
    ] {
        guest.say(text);
    }
    here.item("open.dialer", b"one").await;
    there.expect_item("open.dialer", b"one").await;
    there.item("open.listener", b"two").await;
    here.expect_item("open.listener", b"two").await;
    // If a node disconnects the namespace of a link, the link is closed.
    guest.say("41");
    let ended = soon("the end", async {
        while guest.receive.data().await.is_some_and(|data| data.is_ok()) {}
    });
    ended.await;
    let mut late: Client = scene.nodes.joined(0).await;
    dial(&mut late, &mut there, "y").await;
}

#[tokio::test]
async fn it_has_half_of_the_links_however_many_trunks_it_opens() {
    let limits = Limits::default().with_max_links(6);
    let scene = Scene::with(config().with_limits(limits)).await;
    scene.nodes.know(0).await;
    let shown = scene.authority.certify("evil");
    let first = scene.trunk_with(&shown, "node-0").await;
    let second = scene.trunk_with(&shown, "node-0").await;
    let one = Guest::open(&first).await;
    let _others = [Guest::open(&first).await, Guest::open(&second).await];
    for trunk in [&first, &second] {
        let (refused, _) = ask(trunk, request("/trunk/1/link", "evil")).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let words = &refused.headers()["star-refusal"];
        assert!(words.as_bytes().starts_with(b"the node has"), "{words:?}");
    }
    drop(one);
    soon("its place is free", async {
        while ask(&second, request("/trunk/1/link", "evil"))
            .await
            .0
            .status()
            != StatusCode::OK
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_of_a_later_version_is_one_if_it_says_so() {
    let scene = Scene::start().await;
    scene.nodes.know(0).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let addr = listener.local_addr().expect("an address").to_string();
    let too_new = json!({"v": 3, "r": 2, "t": addr, "n": 1, "new": [1]});
    scene.put("nodes.later.1", &too_new).await;
    soon("it is looked at", async {
        while scene.bad_records(0) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(
        scene.nodes.servers[0]
            .snapshot()
            .cluster
            .expect("a node")
            .nodes,
        1
    );
    let newer = json!({"v": 2, "r": 1, "t": addr, "n": 2, "new": [1]});
    scene.put("nodes.later.1", &newer).await;
    soon("a trunk to it", listener.accept())
        .await
        .expect("accepted");
}
