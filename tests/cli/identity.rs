//! The file that keeps a node's key.

use std::{fs, os::unix::fs::PermissionsExt as _};

use libp2p::identity::Keypair;

use crate::{
    star::run,
    support::certificates::{Folder, text},
};

#[tokio::test]
async fn a_new_identity_is_for_its_owner_only_and_stays_the_same() {
    let folder = Folder::new();
    let path = folder.path("key");
    let first = run(&["id", &text(&path)]).await;
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let mode = fs::metadata(&path).expect("made").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let again = run(&["id", &text(&path)]).await;
    assert_eq!(again.stdout, first.stdout);
    let key = fs::read(&path).expect("readable");
    let key = Keypair::from_protobuf_encoding(&key).expect("as libp2p writes it");
    assert_eq!(
        first.stdout.trim_end(),
        key.public().to_peer_id().to_string()
    );
}

#[tokio::test]
async fn an_identity_that_others_can_read_is_refused() {
    let folder = Folder::new();
    let key = Keypair::generate_ed25519().to_protobuf_encoding();
    let path = folder.write("key", key.expect("encoded"));
    for mode in [0o644, 0o640, 0o604] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        let refused = run(&["id", &text(&path)]).await;
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""));
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
        let expected = format!("(mode {mode:04o}): run chmod 600 on it");
        assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("ours");
    assert_eq!(run(&["id", &text(&path)]).await.code, Some(0));
}

#[tokio::test]
async fn a_file_that_is_no_identity_is_refused() {
    let folder = Folder::new();
    let path = folder.write("key", "nonsense");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
    let inner = folder.path("folder");
    fs::create_dir(&inner).expect("made");
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).expect("ours");
    for (path, expected) in [
        (text(&path), "is not a valid identity: "),
        (text(&inner), "cannot read the identity"),
        (
            "/nowhere/key".to_owned(),
            "cannot create the identity /nowhere/key: No such file",
        ),
    ] {
        let refused = run(&["id", &path]).await;
        assert_eq!(refused.code, Some(2));
        assert!(refused.stderr.starts_with("star: "), "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn a_link_that_leads_nowhere_is_no_place_for_an_identity() {
    let folder = Folder::new();
    let path = folder.path("key");
    std::os::unix::fs::symlink("/nowhere/key", &path).expect("a link");
    let refused = run(&["id", &text(&path)]).await;
    assert_eq!(refused.code, Some(2));
    let expected = "star: cannot create the identity ";
    assert!(refused.stderr.starts_with(expected), "{}", refused.stderr);
    let left = fs::read_dir(path.parent().expect("a folder"));
    assert_eq!(left.expect("a folder").count(), 1);
}

#[tokio::test]
async fn all_who_make_an_identity_at_once_have_the_same() {
    let folder = Folder::new();
    let path = text(&folder.path("key"));
    let ids = futures::future::join_all((0..8).map(|_| {
        let path = path.clone();
        async move { run(&["id", &path]).await }
    }));
    let ids = ids.await;
    for said in &ids {
        let expected = (Some(0), &ids[0].stdout);
        assert_eq!((said.code, &said.stdout), expected, "{said:?}");
    }
    let left = fs::read_dir(folder.path("key").parent().expect("a folder"));
    assert_eq!(left.expect("a folder").count(), 1);
}
