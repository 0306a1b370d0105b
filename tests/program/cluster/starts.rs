//! Reasons why a node of a cluster does not start. Each is reported in one helpful line.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use libp2p_websocket_star::rendezvous::cluster::{
    Change, Directory as _, DirectoryError, NatsConfig, NatsDirectory,
};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use super::{
    nats::Nats,
    nodes::{Certificates, Nodes},
};
use crate::support::{
    binary::{command, failure},
    within,
};

/// Returns the line that a node prints when it cannot start.
async fn refused(flags: &[String]) -> String {
    let mut command = command();
    command
        .args(["--host", "127.0.0.1", "--port", "0"])
        .args(flags);
    let (code, stderr) = failure(&mut command).await;
    assert_eq!(code, Some(2), "{stderr}");
    let line = stderr.strip_prefix("websocket-star-rendezvous: ");
    let line = line.unwrap_or_else(|| panic!("{stderr}"));
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    line.trim_end().to_owned()
}

#[tokio::test]
async fn whoever_cannot_be_a_node_is_told_why_in_one_line() {
    let nats = Nats::start().await;
    let certificates = Certificates::new(&["node-0".to_owned(), "node-1".to_owned()]);
    let cluster = format!("--cluster={}", nats.url());
    let flags = || [certificates.flags("node-0"), vec![cluster.clone()]].concat();
    let without = |name: &str| {
        let mut flags = flags();
        flags.retain(|flag| !flag.starts_with(name));
        flags
    };
    let said = refused(&without("--cluster-cert")).await;
    assert_eq!(
        said,
        "a setting of the cluster is missing: add --cluster-cert FILE (or CLUSTER_CERT)"
    );
    let said = refused(&without("--cluster=")).await;
    assert_eq!(
        said,
        "--node-id needs a cluster: add --cluster URL (or CLUSTER)"
    );
    // It has the certificate of another node.
    let mut other = without("--node-id");
    other.push("--node-id=node-1".to_owned());
    let said = refused(&other).await;
    assert!(said.contains("not for the name `node-1`"), "{said}");
    let mut absent = without("--cluster-ca");
    absent.push("--cluster-ca=/nowhere/ca.pem".to_owned());
    let said = refused(&absent).await;
    assert!(said.contains("cannot read /nowhere/ca.pem"), "{said}");
    let said = refused(&[flags(), vec!["--disable-crypto-challenge".to_owned()]].concat()).await;
    assert!(
        said.contains("a cluster needs the challenge: without it, peers do not prove their joins"),
        "{said}"
    );
}

#[tokio::test]
async fn an_engine_that_is_not_there_or_too_old_is_one_line() {
    let certificates = Certificates::new(&["node-0".to_owned()]);
    let with = |url: String| {
        [
            certificates.flags("node-0"),
            vec![format!("--cluster={url}")],
        ]
        .concat()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    // A server that says nothing.
    let said = refused(&with(format!("nats://{addr}"))).await;
    assert!(
        said.starts_with(&format!(
            "cannot use NATS at nats://{addr} as the directory: "
        )),
        "{said}"
    );
    let old = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let (mut second, _) = listener.accept().await.expect("accepted");
        drop(stream.shutdown().await);
        let info = "INFO {\"server_id\":\"X\",\"version\":\"2.9.10\",\"proto\":1,\"max_payload\":1048576,\"headers\":true,\"jetstream\":true}\r\n";
        second.write_all(info.as_bytes()).await.expect("sent");
        second.write_all(b"PONG\r\n").await.expect("sent");
        std::future::pending::<()>().await;
    });
    let said = refused(&with(format!("nats://{addr}"))).await;
    assert!(
        said.contains("nats-server 2.9.10 is too old: 2.11 or newer is needed"),
        "{said}"
    );
    old.abort();
    // A server that is gone.
    let said = within("the end", async {
        loop {
            let said = refused(&with(format!("nats://{addr}"))).await;
            if said.contains("refused") {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(said.await.contains("the directory cannot be reached"));
    // The message does not show the password.
    let said = refused(&with(format!("nats://user:secret@{addr}"))).await;
    assert!(!said.contains("secret"), "{said}");
    let nats = Nats::start_with(vec!["--user=a".to_owned(), "--pass=b".to_owned()]).await;
    let said = refused(&with(nats.url())).await;
    assert!(said.to_lowercase().contains("authorization"), "{said}");
}

/// Writes a configuration with the permissions that the guide recommends.
fn permissions(dir: &std::path::Path) -> String {
    let user = |name: &str| {
        let publish = [
            format!("$KV.websocket-star.nodes.{name}.>"),
            format!("$KV.websocket-star.peers.{name}.>"),
            "$JS.API.INFO".to_owned(),
            "$JS.API.STREAM.INFO.KV_websocket-star".to_owned(),
            "$JS.API.STREAM.CREATE.KV_websocket-star".to_owned(),
            "$JS.API.CONSUMER.CREATE.KV_websocket-star".to_owned(),
            "$JS.API.CONSUMER.CREATE.KV_websocket-star.>".to_owned(),
            "$JS.API.CONSUMER.DELETE.KV_websocket-star.>".to_owned(),
            "$JS.FC.>".to_owned(),
        ];
        let permissions = json!({ "publish": publish, "subscribe": ["_INBOX.>"] });
        json!({ "user": name, "password": name, "permissions": permissions })
    };
    let path = dir.join("nats.conf");
    let config = json!({ "authorization": { "users": [user("node-0"), user("node-1")] } });
    std::fs::write(&path, config.to_string()).expect("written");
    path.display().to_string()
}

#[tokio::test]
async fn a_node_writes_below_its_own_prefix_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let nats = Nats::start_with(vec!["-c".to_owned(), permissions(dir.path())]).await;
    let connect = async |user: &str| {
        let url = nats
            .url()
            .replace("nats://", &format!("nats://{user}:{user}@"));
        let connected = NatsDirectory::connect(NatsConfig::new([url])).await;
        connected.expect("let in")
    };
    let (zero, one) = (connect("node-0").await, connect("node-1").await);
    let value = Bytes::from_static(b"x");
    for kind in ["nodes", "peers"] {
        let own = format!("{kind}.node-0.1.00");
        zero.put(own, value.clone(), None).await.expect("its own");
        let other = format!("{kind}.node-1.1.00");
        let refused = within("an answer", zero.put(other.clone(), value.clone(), None)).await;
        assert!(matches!(
            refused,
            Err(DirectoryError::Unreachable(_) | DirectoryError::Refused(_))
        ));
        let refused = within("an answer", zero.delete(other)).await;
        assert!(refused.is_err());
    }
    // It cannot empty the bucket with a roll-up, either, although it may write this subject.
    let url = nats.url().replace("nats://", "nats://node-0:node-0@");
    let options = async_nats::ConnectOptions::with_user_and_password(
        "node-0".to_owned(),
        "node-0".to_owned(),
    );
    let client = options.connect(&url).await.expect("let in");
    let context = async_nats::jetstream::new(client);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Rollup", "all");
    let subject = "$KV.websocket-star.peers.node-0.1.00";
    let sent = context
        .publish_with_headers(subject, headers, value.clone())
        .await;
    sent.expect("sent").await.expect_err("no rollup");
    let mut changes = one.watch().await.expect("watched");
    let mut told = Vec::new();
    loop {
        match within("a change", changes.next())
            .await
            .expect("goes on")
            .expect("no error")
        {
            Change::Put { key, .. } => told.push(key),
            Change::Current => break,
            other => panic!("{other:?}"),
        }
    }
    told.sort();
    assert_eq!(told, ["nodes.node-0.1.00", "peers.node-0.1.00"]);
}

#[tokio::test]
async fn a_node_that_comes_back_takes_away_what_it_had_left_behind() {
    let nats = Nats::start().await;
    let nodes = Nodes::start(&nats, &[]).await;
    let (_peer, _) = nodes.listening(1).await;
    nodes.know(&[0, 1, 2], 1).await;
    nodes.nodes[1].signal("KILL").await;
    let directory = NatsDirectory::connect(NatsConfig::new([nats.url()])).await;
    let directory = directory.expect("connected");
    let mut changes = directory.watch().await.expect("watched");
    let mut next = async || {
        within("a change", changes.next())
            .await
            .expect("goes on")
            .expect("no error")
    };
    let left = loop {
        match next().await {
            Change::Put { key, .. } if key.starts_with("peers.node-1.") => break key,
            Change::Current => panic!("it is not there"),
            _ => {}
        }
    };
    let mut flags = nodes.flags("node-1");
    flags.push(format!("--cluster={}", nats.url()));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let _again = crate::support::binary::Binary::start(&flags).await;
    loop {
        if let Change::Deleted { key } = next().await
            && key == left
        {
            break;
        }
    }
}
