//! Lists of peers and networks in files.

use std::time::{Duration, Instant};

use futures::future::join;
use libp2p::core::transport::TransportEvent::{ListenerError, NewAddress};
use serde_json::json;

use super::{List, closed, metric, node, npm, refusals, refused};
use crate::support::{
    binary::{Binary, command, failure},
    js::{Peer, wire},
    raw::{Raw, check_echo, echo},
};

/// Until whoever is not allowed any more must have been cut off.
const SOON: Duration = Duration::from_secs(1);

fn flags<'a>(flag: &'a str, list: &'a str) -> [&'a str; 2] {
    [flag, list]
}

#[tokio::test]
async fn only_those_on_the_list_are_let_in_npms_and_ours() {
    let ((known, of_known), (stranger, _)) = join(npm(), npm()).await;
    let (mut ours, of_ours) = node();
    let (mut other, _) = node();
    let peer: libp2p::PeerId = of_ours.parse().expect("an id");
    let cid = [&[1, 0x72][..], &peer.to_bytes()].concat();
    let list = List::new(&[
        "# who works here".to_owned(),
        format!("{of_known} # by npm"),
        format!("f{}", hex::encode(cid)),
    ]);
    let star = Binary::start(&flags("--allow-peers", &list.path())).await;
    let ed25519 = json!({"keyType": "ed25519"});
    let to = known.try_listen(&star.addr(), ed25519.clone()).await;
    let to = to.expect("on the list");
    let no = "Not allowed: you are on no allow list";
    let error = stranger.try_listen(&star.addr(), ed25519).await;
    let error = error.expect_err("on no list");
    assert!(error.contains(no), "{error}");
    let (_, own) = ours.listen(&star.addr()).await;
    assert_eq!(refused(&mut other, &star.addr()).await, no);

    check_echo(ours.dial(&to).await, 100_000, 10_000).await;
    let answer = async { echo(ours.accept().await.0).await.expect("no reset") };
    join(known.echo(&wire(&own), 100_000), answer).await;
    // Nobody has come back.
    assert_eq!(refusals(&star, "not_allowed").await, 2);
    assert_eq!(metric(&star, "rendezvous_peers").await, 2);
}

/// How long it takes until an npm client and a node of ours are cut off by `change`, at a rendezvous with these flags.
async fn cut_off_by(
    arguments: &[&str],
    npm: &Peer,
    node: &mut Raw,
    change: impl AsyncFnOnce(&Binary),
) {
    let mut star = Binary::start(arguments).await;
    let ed25519 = json!({"keyType": "ed25519"});
    npm.try_listen(&star.addr(), ed25519).await.expect("let in");
    node.listen(&star.addr()).await;
    change(&star).await;
    let changed = Instant::now();
    let npm_is_gone = async {
        // It has closed another link by itself before.
        let is_cut_off = |event: &serde_json::Value| {
            event["event"] == "disconnected" && event["reason"] == "transport close"
        };
        npm.expect_where("that it is cut off", is_cut_off).await;
        changed.elapsed()
    };
    let node_is_gone = async {
        loop {
            match node.event().await {
                ListenerError { error, .. } => {
                    let told = error.to_string();
                    assert!(
                        told.ends_with("you are not allowed here any more"),
                        "{told}"
                    );
                    return changed.elapsed();
                }
                NewAddress { .. } => panic!("it was let in again"),
                _ => {}
            }
        }
    };
    let (npm_took, node_took) = join(npm_is_gone, node_is_gone).await;
    assert!(
        npm_took < SOON && node_took < SOON,
        "{npm_took:?} {node_took:?}"
    );
    // Ours comes back once, and never again.
    assert!(closed(node).await.starts_with("Not allowed: "));
    star.logged("the access lists were read anew").await;
    assert_eq!(refusals(&star, "no_longer_allowed").await, 2);
}

#[tokio::test]
async fn whoever_is_put_on_a_deny_list_is_cut_off_within_a_second() {
    let (npm, of_npm) = npm().await;
    let (mut node, of_node) = node();
    let list = List::new(&[]);
    let flags = ["--deny-peers", &list.path()];
    cut_off_by(&flags, &npm, &mut node, async |_| {
        list.write(&[of_npm, of_node]);
    })
    .await;
}

#[tokio::test]
async fn whoever_is_taken_off_the_allow_list_is_cut_off_within_a_second() {
    let (npm, of_npm) = npm().await;
    let (mut node, of_node) = node();
    let list = List::new(&[of_npm, of_node]);
    let flags = ["--allow-peers", &list.path()];
    cut_off_by(&flags, &npm, &mut node, async |_| list.write(&[])).await;
}

#[tokio::test]
async fn a_network_is_cut_off_at_once_on_a_signal() {
    let (npm, _) = npm().await;
    let (mut node, _) = node();
    let list = List::new(&["192.0.2.0/24".to_owned()]);
    let flags = ["--deny-networks", &list.path()];
    cut_off_by(&flags, &npm, &mut node, async |star: &Binary| {
        list.write(&["192.0.2.0/24".to_owned(), "127.0.0.0/8".to_owned()]);
        star.signal("HUP").await;
    })
    .await;
}

#[tokio::test]
async fn a_list_that_makes_no_sense_changes_nothing() {
    let (mut known, of_known) = node();
    let (mut stranger, of_stranger) = node();
    let list = List::new(std::slice::from_ref(&of_known));
    let mut star = Binary::start(&flags("--allow-peers", &list.path())).await;
    known.listen(&star.addr()).await;
    list.write(&[of_stranger.clone(), "nonsense".to_owned()]);
    let line = star.logged("the access lists stay as they were").await;
    assert!(
        line.contains("list, line 2: this is not a peer id"),
        "{line}"
    );
    refused(&mut stranger, &star.addr()).await;
    std::fs::remove_file(list.path()).expect("it was there");
    let line = star.logged("the access lists stay as they were").await;
    assert!(line.contains("cannot read"), "{line}");
    assert_eq!(metric(&star, "rendezvous_peers").await, 1);
    list.write(&[of_known, of_stranger]);
    star.logged("the access lists were read anew").await;
    stranger.listen(&star.addr()).await;
    assert_eq!(metric(&star, "rendezvous_peers").await, 2);
}

#[tokio::test]
async fn a_network_on_the_list_is_enough() {
    let list = List::new(&["::1".to_owned(), "127.0.0.1".to_owned()]);
    let star = Binary::start(&flags("--allow-networks", &list.path())).await;
    node().0.listen(&star.addr()).await;
    let list = List::new(&["10.0.0.0/8".to_owned()]);
    let star = Binary::start(&flags("--allow-networks", &list.path())).await;
    refused(&mut node().0, &star.addr()).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_a_reason_not_to_start() {
    let good = List::new(&["10.0.0.0/8".to_owned()]).path();
    let list = List::new(&[
        "# nothing".to_owned(),
        String::new(),
        "no such thing".to_owned(),
    ]);
    let bad = list.path();
    let folder = text_of(list.folder.path());
    for (arguments, expected) in [
        (
            ["--allow-peers", &bad],
            "list, line 3: this is not a peer id",
        ),
        (
            ["--deny-peers", &bad],
            "list, line 3: this is not a peer id",
        ),
        (
            ["--allow-networks", &bad],
            "line 3: this is not an IP address",
        ),
        (
            ["--deny-networks", &bad],
            "line 3: this is not an IP address",
        ),
        (["--token-file", &bad], "line 3: this is not a token"),
        (
            ["--token-file", "/nowhere/tokens"],
            "cannot read /nowhere/tokens: No such file",
        ),
        (["--deny-peers", &folder], "it is not a file"),
        (["--deny-peers", &good], "cannot read"),
    ] {
        let mut command = command();
        command.args(["--host", "127.0.0.1", "--port", "0"]);
        let (code, stderr) = failure(command.args(arguments)).await;
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.contains(expected), "{arguments:?}: {stderr}");
        assert!(!last.contains("no such thing"), "{last}");
    }
}

fn text_of(path: &std::path::Path) -> String {
    crate::operations::certificates::text(path)
}
