//! Lists of peers and networks in files.

use std::time::Instant;

use futures::future::join;
use serde_json::json;

use super::{
    List, closed, counted, cut_off, for_now, id, metric, node, npm, refusals, refused_for_now,
};
use crate::support::{
    binary::{Binary, command, failure},
    certificates::text,
    ed25519, hasty,
    js::Peer,
    raw::{Raw, echo_both_ways},
};

const UNLISTED: &str = "Not allowed now, again in 60 s: you are not on an allow list";

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
    let star = Binary::start(&["--allow-peers", &list.path()]).await;
    let ed25519 = json!({"keyType": "ed25519"});
    let to = known.try_listen(&star.addr(), ed25519.clone()).await;
    let to = to.expect("on the list");
    let error = stranger.try_listen(&star.addr(), ed25519).await;
    let error = error.expect_err("on no list");
    assert!(error.contains(UNLISTED), "{error}");
    let (_, own) = ours.listen(&star.addr()).await;
    assert_eq!(refused_for_now(&mut other, &star.addr()).await, UNLISTED);

    echo_both_ways(&mut ours, &own, &known, &to, 100_000, 10_000).await;
    // None of the refused peers has tried again.
    assert_eq!(refusals(&star, "not_allowed_now").await, 2);
    assert_eq!(metric(&star, "rendezvous_peers").await, 2);
    assert_eq!(counted(&star, "allowed", "peers").await, 2);
    assert_eq!(counted(&star, "refused", "unlisted").await, 2);
}

/// Waits until `change` gets an npm client and a node of ours disconnected, at a rendezvous with these flags.
async fn cut_off_by(
    arguments: &[&str],
    npm: &Peer,
    node: &mut Raw,
    change: impl AsyncFnOnce(&Binary),
) -> Binary {
    let mut star = Binary::start(arguments).await;
    let ed25519 = json!({"keyType": "ed25519"});
    npm.try_listen(&star.addr(), ed25519).await.expect("let in");
    node.listen(&star.addr()).await;
    change(&star).await;
    let npm_is_gone = async {
        // The npm client itself had closed another link before; this condition ignores that event.
        let is_cut_off = |event: &serde_json::Value| {
            event["event"] == "disconnected" && event["reason"] == "transport close"
        };
        npm.expect_where("that it is cut off", is_cut_off).await;
    };
    join(npm_is_gone, cut_off(node)).await;
    star.logged("the access lists are reloaded").await;
    assert_eq!(refusals(&star, "no_longer_allowed").await, 2);
    star
}

#[tokio::test]
async fn whoever_is_put_on_a_deny_list_is_cut_off_and_does_not_come_back() {
    let (npm, of_npm) = npm().await;
    let (mut node, of_node) = node();
    let list = List::new(&[]);
    let flags = ["--deny-peers", &list.path()];
    let star = cut_off_by(&flags, &npm, &mut node, async |_| {
        list.write(&[of_npm, of_node]);
    })
    .await;
    // The node tries once more, and then never again.
    let words = closed(&mut node).await;
    assert_eq!(words, "Not allowed: your peer id is on the deny list");
    assert!(counted(&star, "refused", "peers").await >= 1);
}

#[tokio::test]
async fn whoever_is_taken_off_the_allow_list_is_cut_off_and_comes_back_later() {
    let (npm, of_npm) = npm().await;
    let (mut node, of_node) = node();
    let list = List::new(&[of_npm, of_node]);
    let flags = ["--allow-peers", &list.path()];
    let star = cut_off_by(&flags, &npm, &mut node, async |_| list.write(&[])).await;
    assert_eq!(for_now(&mut node).await, UNLISTED);
    drop(star);
}

#[tokio::test]
async fn a_network_is_cut_off_on_a_signal() {
    let (npm, _) = npm().await;
    let (mut node, _) = node();
    let list = List::new(&["192.0.2.0/24".to_owned()]);
    let flags = ["--deny-networks", &list.path()];
    let star = cut_off_by(&flags, &npm, &mut node, async |star: &Binary| {
        list.write(&["192.0.2.0/24".to_owned(), "127.0.0.0/8".to_owned()]);
        star.signal("HUP").await;
    })
    .await;
    let words = closed(&mut node).await;
    assert_eq!(words, "Not allowed: your network is on the deny list");
    drop(star);
}

#[tokio::test]
async fn a_list_that_is_read_half_written_keeps_nobody_out_for_good() {
    let key = ed25519();
    let list = List::new(&[id(&key)]);
    let mut star = Binary::start(&["--allow-peers", &list.path()]).await;
    let mut node = Raw::with(&key, hasty());
    node.listen(&star.addr()).await;
    // A shell writes a file like this: it first truncates the file, and writes the content later.
    std::fs::write(list.path(), "").expect("written");
    star.logged("the access lists are reloaded").await;
    cut_off(&mut node).await;
    assert_eq!(for_now(&mut node).await, UNLISTED);
    std::fs::write(list.path(), id(&key)).expect("written");
    star.logged("the access lists are reloaded").await;
    Raw::with(&key, hasty()).listen(&star.addr()).await;
}

#[tokio::test]
async fn a_signal_to_stop_is_heard_while_lists_are_read() {
    // The list is so long that reading it takes some seconds.
    let line = libp2p::PeerId::random().to_base58();
    let list = List::new(&vec![line; 300_000]);
    let mut command = command();
    command
        .args(["--host", "127.0.0.1", "--port", "0"])
        .args(["--deny-peers", &list.path()])
        .env("RUST_LOG", "info,websocket_star_rendezvous=debug");
    let began = Instant::now();
    let mut star = Binary::spawn(&mut command).await;
    let reading = began.elapsed();
    star.signal("HUP").await;
    star.logged("reading the access lists").await;
    let stopped = Instant::now();
    star.signal("TERM").await;
    let (status, _) = star.ended().await;
    assert!(status.success());
    let took = stopped.elapsed();
    assert!(took < reading / 2, "{took:?} of {reading:?}");
}

#[tokio::test]
async fn a_list_that_makes_no_sense_changes_nothing() {
    let (mut known, of_known) = node();
    let key = ed25519();
    let list = List::new(std::slice::from_ref(&of_known));
    let mut star = Binary::start(&["--allow-peers", &list.path()]).await;
    known.listen(&star.addr()).await;
    list.write(&[id(&key), "nonsense".to_owned()]);
    let line = star
        .logged("cannot reload the access lists; the old ones stay in use")
        .await;
    assert!(
        line.contains("list, line 2: this is not a peer id"),
        "{line}"
    );
    let failures = "rendezvous_access_failed_reloads_total";
    assert_eq!(metric(&star, failures).await, 1);
    refused_for_now(&mut Raw::with(&key, hasty()), &star.addr()).await;
    std::fs::remove_file(list.path()).expect("it was there");
    let line = star
        .logged("cannot reload the access lists; the old ones stay in use")
        .await;
    assert!(line.contains("cannot read"), "{line}");
    assert_eq!(metric(&star, "rendezvous_peers").await, 1);
    list.write(&[of_known, id(&key)]);
    star.logged("the access lists are reloaded").await;
    assert!(metric(&star, failures).await >= 2);
    Raw::with(&key, hasty()).listen(&star.addr()).await;
}

#[tokio::test]
async fn a_network_on_the_list_is_enough() {
    let list = List::new(&["::1".to_owned(), "127.0.0.1".to_owned()]);
    let star = Binary::start(&["--allow-networks", &list.path()]).await;
    node().0.listen(&star.addr()).await;
    let list = List::new(&["10.0.0.0/8".to_owned()]);
    let star = Binary::start(&["--allow-networks", &list.path()]).await;
    refused_for_now(&mut node().0, &star.addr()).await;
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
    let wide = List::new(&["10.1.2.3/8".to_owned()]);
    let too_wide = wide.path();
    let folder = tempfile::tempdir().expect("a folder");
    let no_file = text(folder.path());
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
            ["--allow-networks", &too_wide],
            "line 1: this address is not the first of its network",
        ),
        (
            ["--token-file", "/nowhere/tokens"],
            "cannot read /nowhere/tokens: No such file",
        ),
        (["--deny-peers", &no_file], "it is not a file"),
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
