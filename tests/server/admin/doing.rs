//! The operator's actions, and clients that may not act.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p_identity::{Keypair, PeerId};
use libp2p_websocket_star::rendezvous::{Limits, Refused, Server, Tenant};
use serde_json::{Value, json};

use super::{FORM, OWN, Operator, TOKEN, admin, ask, serving, serving_with};
use crate::client::{Client, Eio, address, config};

fn id(key: &Keypair) -> PeerId {
    key.public().to_peer_id()
}

async fn joined(server: &Server, key: &Keypair) -> Client {
    let mut client = Client::connect(server).await;
    client.join(key).await;
    client
}

/// Joins, and returns the answer.
async fn try_to_join(server: &Server, key: &Keypair) -> Value {
    let mut client = Client::connect(server).await;
    let ack = client.prove(key).await;
    client.answer(ack).await
}

#[tokio::test]
async fn a_peer_is_disconnected_and_may_come_back() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let key = Keypair::generate_ed25519();
    let (mut client, mut other) = (joined(&server, &key).await, Client::joined(&server).await);
    let fields = format!("peer={}&id=12D3&after=%2Fip4", id(&key));
    let answer = operator.post("/admin/disconnect", &fields).await;
    let back = Some("/admin?id=12d3&after=/ip4#news");
    assert_eq!((answer.status(), answer.header("location")), (303, back));
    let (code, reason) = client.closed().await.expect("a reason");
    assert_eq!(
        (u16::from(code), reason.as_str()),
        (1008, "disconnected: by the operator")
    );
    let cookie = [("Cookie", operator.cookie.as_str())];
    let head = ask(&server, "HEAD /admin", &cookie, "").await;
    assert_eq!((head.status(), head.body.as_str()), (200, ""));
    let expected = format!(
        "Disconnected {}: 1 link was closed. The peer may come back.",
        id(&key)
    );
    assert_eq!(operator.news().await, expected);
    let page = operator.get("/admin").await;
    assert!(!page.body.contains("id=\"news\""), "it is told once");
    assert_eq!(server.snapshot().refusals.get(Refused::Disconnected), 1);
    joined(&server, &key).await;
    other.request(json!(["ss-leave", ""])).await;
}

#[tokio::test]
async fn whoever_is_banned_is_cut_off_and_stays_out_until_that_is_taken_back() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let key = Keypair::generate_ed25519();
    let mut client = joined(&server, &key).await;
    let answer = operator
        .post("/admin/ban", &format!("peer=+{}+", id(&key)))
        .await;
    assert_eq!(
        (answer.status(), answer.header("location")),
        (303, Some("/admin#news"))
    );
    client.closed().await.expect("a reason");
    let expected = format!(
        "Banned {}: 1 link was closed. This holds until the server stops.",
        id(&key)
    );
    assert_eq!(operator.news().await, expected);
    let banned = json!(["Not allowed: you are banned"]);
    assert_eq!(try_to_join(&server, &key).await, banned);
    joined(&server, &Keypair::generate_ed25519()).await;
    let page = operator.get("/admin").await.body;
    assert!(
        page.contains(&format!("aria-label=\"Unban {}\"", id(&key))),
        "{page}"
    );
    let page = operator.get("/admin?id=x").await.body;
    assert!(
        page.contains("No banned peer has an id that begins like this."),
        "{page}"
    );

    let fields = format!("peer={}", id(&key));
    operator.post("/admin/unban", &fields).await;
    let expected = format!("Unbanned {}. This holds until the server stops.", id(&key));
    assert_eq!(operator.news().await, expected);
    joined(&server, &key).await;
    operator.post("/admin/unban", &fields).await;
    assert_eq!(
        operator.news().await,
        format!("{} was not banned.", id(&key))
    );
}

#[tokio::test]
async fn who_was_banned_before_is_banned_from_the_start_and_changes_are_kept() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let (before, later) = (Keypair::generate_secp256k1(), Keypair::generate_ed25519());
    let keep = {
        let kept = kept.clone();
        move |banned: &[PeerId]| {
            if banned.is_empty() {
                return Err(io::Error::other("no <b>room</b>"));
            }
            *kept.lock().expect("no panic") = banned.to_vec();
            Ok(())
        }
    };
    // The peer is banned by the id that old clients derive from its key.
    let hashed = libp2p_websocket_star::rendezvous::Join::new(id(&before), [127, 0, 0, 1].into());
    let hashed = hashed.peer_ids().last().expect("two ids");
    let config = config().with_admin(admin().with_bans([hashed], keep));
    let server = Server::bind(config).await.expect("a free port");
    let operator = Operator::of(&server).await;
    let banned = json!(["Not allowed: you are banned"]);
    assert_eq!(try_to_join(&server, &before).await, banned);
    operator
        .post("/admin/ban", &format!("peer={}", id(&later)))
        .await;
    let news = operator.news().await;
    assert!(
        news.ends_with("0 links were closed. This also holds after a restart."),
        "{news}"
    );
    let mut expected = [hashed, id(&later)];
    expected.sort();
    assert_eq!(*kept.lock().expect("no panic"), expected);
    for peer in expected {
        operator.post("/admin/unban", &format!("peer={peer}")).await;
    }
    let news = operator.news().await;
    let expected = "because it could not be saved: no &lt;b&gt;room&lt;/b&gt;.";
    assert!(news.ends_with(expected), "{news}");
    let page = operator.get("/admin").await.body;
    assert!(page.contains("The bans could not be saved."), "{page}");
}

#[tokio::test]
async fn bans_hold_at_once_while_the_disk_hangs() {
    let keep = |_: &[PeerId]| {
        loop {
            std::thread::park();
        }
    };
    let config = config().with_admin(admin().with_bans([], keep));
    let limits = Limits::default().with_shutdown_timeout(Duration::from_millis(200));
    let server = Server::bind(config.with_limits(limits)).await;
    let server = server.expect("a free port");
    let operator = Operator::of(&server).await;
    let keys = [Keypair::generate_ed25519(), Keypair::generate_ed25519()];
    for key in &keys {
        let mut client = joined(&server, key).await;
        let fields = format!("peer={}", id(key));
        let banning = operator.post("/admin/ban", &fields);
        let cut_off = client.closed();
        let (answer, reason) = futures::future::join(banning, cut_off).await;
        assert_eq!(answer.status(), 303, "{answer:?}");
        reason.expect("a reason");
        let news = operator.news().await;
        assert!(news.contains("It is still being saved"), "{news}");
        let banned = json!(["Not allowed: you are banned"]);
        assert_eq!(try_to_join(&server, key).await, banned);
    }
    let page = operator.get("/admin").await.body;
    assert!(!page.contains("The bans could not be saved."), "{page}");
    // The shutdown does not wait for the disk longer than for links.
    crate::client::soon("the end", server.shutdown()).await;
}

#[tokio::test]
async fn only_a_form_of_the_page_does_anything() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let key = Keypair::generate_ed25519();
    let mut client = joined(&server, &key).await;
    let peer = format!("peer={}", id(&key));
    let whole = format!("form={}&{peer}", operator.form);
    let another = format!("form={}&{peer}", Operator::of(&server).await.form);
    let empty = format!("form=&{peer}");
    let refused: [(&[(&str, &str)], &str); 9] = [
        (&[], &whole),
        (&[("Origin", "http://b:1")], &whole),
        (&[("Origin", "http://a:2")], &whole),
        (&[("Origin", "null")], &whole),
        (
            &[("Sec-Fetch-Site", "same-site"), ("Origin", "http://a:1")],
            &whole,
        ),
        (&[("Sec-Fetch-Site", "cross-site")], &whole),
        (&[OWN], &peer),
        (&[OWN], &empty),
        (&[OWN], &another),
    ];
    for path in [
        "/admin/disconnect",
        "/admin/ban",
        "/admin/unban",
        "/admin/logout",
    ] {
        for (headers, body) in &refused {
            let answer = operator.post_with(path, headers, body).await;
            assert_eq!(answer.status(), 403, "{path} {headers:?} {body}");
        }
    }
    client.request(json!(["ss-leave", ""])).await;
    let mut client = joined(&server, &key).await;
    // A browser that sends no header but this one.
    let headers = [("Origin", "http://A:1")];
    let answer = operator
        .post_with("/admin/disconnect", &headers, &whole)
        .await;
    assert_eq!(answer.status(), 303);
    client.closed().await.expect("a reason");
    // Another site's page cannot log a browser in, either.
    let body = format!("token={}", TOKEN.replace('+', "%2B"));
    for headers in [&[FORM][..], &[FORM, ("Origin", "http://b:1")]] {
        let answer = ask(&server, "POST /admin/login", headers, &body).await;
        assert_eq!(answer.status(), 403, "{headers:?}");
    }
}

#[tokio::test]
async fn scripts_do_it_with_the_token_and_pages_of_others_do_not() {
    let server = serving().await;
    let key = Keypair::generate_ed25519();
    let mut client = joined(&server, &key).await;
    let bearer = format!("bearer {TOKEN}");
    let own = [FORM, ("Authorization", bearer.as_str())];
    let peer = format!("peer={}", id(&key));
    for more in [("Origin", "http://b:1"), ("Sec-Fetch-Site", "cross-site")] {
        let headers = [&own[..], &[more]].concat();
        let answer = ask(&server, "POST /admin/ban", &headers, &peer).await;
        assert_eq!(answer.status(), 403);
    }
    client.request(json!(["ss-leave", ""])).await;
    let mut client = joined(&server, &key).await;
    let answer = ask(&server, "POST /admin/ban", &own, &peer).await;
    let expected = format!(
        "Banned {}: 1 link was closed. This holds until the server stops.\n",
        id(&key)
    );
    assert_eq!((answer.status(), answer.body), (200, expected));
    client.closed().await.expect("a reason");
    let answer = ask(&server, "POST /admin/ban", &own, "peer=nonsense").await;
    assert_eq!(answer.status(), 400);
    assert!(
        answer.body.starts_with("That is not a peer id"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_page_is_about_all_tenants_and_a_ban_holds_in_all() {
    let tenants = ["blue=blue.example", "red=red.example"];
    let tenants = tenants.map(|tenant| tenant.parse::<Tenant>().expect("a tenant"));
    let config = config().with_tenants(tenants).expect("two names");
    let server = serving_with(config).await;
    let operator = Operator::of(&server).await;
    let key = Keypair::generate_ed25519();
    let mut clients = Vec::new();
    for host in ["blue.example", "red.example", "other.example"] {
        let client = Client::upgrade_for(host, server.local_addr(), Eio::V3).await;
        let mut client = client.greeted().await;
        let address = address(&key).replace("/ip4/127.0.0.1", &format!("/dns4/{host}"));
        let ack = client.prove_as(&key, address).await;
        assert_eq!(client.answer(ack).await[0], Value::Null, "{host}");
        clients.push(client);
    }
    let page = operator.get("/admin").await.body;
    assert!(page.contains("<dt>Peers</dt><dd>3</dd>"), "{page}");
    let shown: Vec<_> = page.split(", tenant ").skip(1).collect();
    for (row, tenant) in shown.iter().zip(["default", "blue", "red"]) {
        assert!(row.starts_with(&format!("{tenant}<")), "{row}");
    }
    assert_eq!(shown.len(), 3);
    let next = operator
        .get("/admin?tenant=blue&after=%2Fdns4%2Fz")
        .await
        .body;
    assert_eq!(next.matches(", tenant ").count(), 1, "{next}");
    operator
        .post("/admin/ban", &format!("peer={}", id(&key)))
        .await;
    let expected = format!("Banned {}: 3 links were closed.", id(&key));
    assert!(operator.news().await.starts_with(&expected));
    for mut client in clients {
        client.closed().await.expect("a reason");
    }
}
