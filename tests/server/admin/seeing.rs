//! What the page shows to the operator only.

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Config, Network};

use super::{FORM, OWN, Operator, TOKEN, ask, ask_from, serving, serving_with, try_to_log_in};
use crate::client::{Client, Eio, address, config, dial, http, server};

const ALL: [&str; 7] = [
    "GET /admin/peers",
    "GET /admin/events",
    "POST /admin/disconnect",
    "POST /admin/ban",
    "POST /admin/unban",
    "POST /admin/logout",
    "GET /admin/peers?id=12",
];

#[tokio::test]
async fn there_is_no_page_unless_it_is_asked_for() {
    let server = server().await;
    for path in ["/admin", "/admin/", "/admin/login", "/admin/events"] {
        let answer = ask(&server, &format!("GET {path}"), &[], "").await;
        assert_eq!(
            (answer.status(), answer.body.as_str()),
            (404, "Not found\n")
        );
    }
}

#[tokio::test]
async fn a_stranger_sees_where_to_log_in_and_nothing_else() {
    let server = serving().await;
    let client = Client::joined(&server).await;
    let wrong = [("Cookie", "star_admin=0123456789abcdef")];
    for headers in [&[][..], &wrong] {
        let page = ask(&server, "GET /admin", headers, "").await;
        assert_eq!(page.status(), 200);
        assert!(
            page.body
                .contains("<form method=\"post\" action=\"/admin/login\">")
        );
        let (_, id) = client.address.rsplit_once('/').expect("an id");
        assert!(
            !page.body.contains(id) && !page.body.contains("Relayed"),
            "{page:?}"
        );
        for request in ALL {
            let headers = [headers, &[FORM, OWN]].concat();
            let answer = ask(&server, request, &headers, "form=&peer=x").await;
            assert_eq!(
                (answer.status(), answer.header("www-authenticate")),
                (401, Some("bearer"))
            );
            assert_eq!(answer.body, "Send the token, or log in\n");
        }
    }
    let head = ask(&server, "HEAD /admin", &[], "").await;
    assert_eq!((head.status(), head.body.as_str()), (200, ""));
    for path in ["/admin/other", "/administrator", "/admin/login/"] {
        let answer = ask(&server, &format!("GET {path}"), &[], "").await;
        assert_eq!(answer.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn whoever_has_the_token_gets_a_session_in_a_cookie() {
    let server = serving().await;
    let answer = try_to_log_in(&server, 1, &format!(" {TOKEN} ")).await;
    assert_eq!(
        (answer.status(), answer.header("location")),
        (303, Some("/admin"))
    );
    let set = answer.header("set-cookie").expect("a cookie");
    let (id, flags) = set.split_once("; ").expect("flags");
    let id = id.strip_prefix("star_admin=").expect("its name");
    assert!(
        id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    assert_eq!(
        flags,
        "path=/admin; max-age=43200; httponly; samesite=strict"
    );
    let operator = Operator::of(&server).await;
    let page = operator.get("/admin").await;
    assert!(page.body.contains("Relayed per second"), "{page:?}");
    assert!(!page.body.contains(TOKEN) && !page.body.contains(&operator.cookie));

    let out = operator.post("/admin/logout", "").await;
    assert_eq!(
        (out.status(), out.header("location")),
        (303, Some("/admin"))
    );
    let cleared = "star_admin=; path=/admin; max-age=0; httponly; samesite=strict";
    assert_eq!(out.header("set-cookie"), Some(cleared));
    let page = operator.get("/admin").await;
    assert!(page.body.contains("/admin/login"), "{page:?}");
    // The other session goes on.
    let cookie = answer.cookie();
    let page = ask(&server, "GET /admin", &[("Cookie", &cookie)], "").await;
    assert!(page.body.contains("/admin/logout"), "{page:?}");
}

#[tokio::test]
async fn a_cookie_is_for_encrypted_requests_where_a_trusted_proxy_says_that_it_was_one() {
    let proxy: Network = "127.0.0.2".parse().expect("an address");
    let server = serving_with(config().with_trusted_proxies([proxy])).await;
    let to = server.local_addr();
    let body = format!("token={}", TOKEN.replace('+', "%2B"));
    for (host, scheme, client, is_secure, is_warned) in [
        (2, "https", "192.0.2.1", true, false),
        (2, "http", "192.0.2.1", false, true),
        (2, "http", "127.0.0.1", false, false),
        // No other host is believed, and this host itself may be a proxy.
        (3, "https", "192.0.2.1", false, true),
    ] {
        let via = [("X-Forwarded-Proto", scheme), ("X-Forwarded-For", client)];
        let headers = [&via[..], &[FORM, ("Origin", "https://a:1")]].concat();
        let answer = ask_from(host, to, "POST /admin/login", &headers, &body).await;
        let set = answer
            .header("set-cookie")
            .unwrap_or_else(|| panic!("{answer:?}"));
        let flags = match is_secure {
            true => "path=/; max-age=43200; httponly; samesite=strict; secure",
            false => "path=/admin; max-age=43200; httponly; samesite=strict",
        };
        assert!(set.ends_with(&format!("; {flags}")), "{set}");
        let name = match is_secure {
            true => "__Host-star_admin=",
            false => "star_admin=",
        };
        // The cookie's name has capitals, and names of cookies are case-sensitive.
        let id = answer
            .cookie()
            .to_lowercase()
            .replace(&name.to_lowercase(), "");
        assert_eq!(id.len(), 64, "{set}");
        let cookie = format!("{name}{id}");
        let cookie = [&via[..], &[("Cookie", &cookie)]].concat();
        for headers in [&via[..], &cookie] {
            let page = ask_from(host, to, "GET /admin", headers, "").await;
            let is_shown = page.body.contains("Not encrypted.");
            assert_eq!(is_shown, is_warned, "{host} {scheme} {client}");
        }
    }
}

#[tokio::test]
async fn every_answer_keeps_to_itself() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let bearer = format!("Bearer {TOKEN}");
    let answers = [
        ask(&server, "GET /admin", &[], "").await,
        operator.get("/admin").await,
        operator.get("/admin/peers").await,
        operator.post("/admin/ban", "peer=x").await,
        ask(&server, "GET /admin", &[("Authorization", &bearer)], "").await,
        ask(&server, "GET /admin/events", &[], "").await,
        ask(&server, "GET /admin/other", &[("Origin", "https://b")], "").await,
        ask(
            &server,
            "OPTIONS /admin/ban",
            &[("Origin", "https://b")],
            "",
        )
        .await,
        ask(&server, "PUT /admin", &[], "").await,
        try_to_log_in(&server, 1, "wrong").await,
    ];
    for answer in &answers {
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "deny"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}: {answer:?}");
        }
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
        let rest = "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
        assert!(policy.ends_with(rest), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!answer.head.contains("access-control"), "{answer:?}");
        assert!(!answer.body.contains("://"), "from elsewhere: {answer:?}");
    }
    for (answer, allowed) in [(&answers[7], "post"), (&answers[8], "get, head")] {
        assert_eq!(
            (answer.status(), answer.header("allow")),
            (405, Some(allowed))
        );
    }
}

#[tokio::test]
async fn a_page_of_another_site_is_shown_nothing() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let get = async |path: &str, site: &str, mode: &str| {
        let cookie = ("Cookie", operator.cookie.as_str());
        let headers = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), cookie];
        ask(&server, &format!("GET {path}"), &headers, "")
            .await
            .status()
    };
    // Another port of the same machine counts as the same site, and its pages send the cookie.
    for site in ["same-site", "cross-site"] {
        for path in ["/admin", "/admin/peers", "/admin/events"] {
            assert_eq!(get(path, site, "cors").await, 403, "{path}");
            assert_eq!(get(path, site, "no-cors").await, 403, "{path}");
        }
        assert_eq!(get("/admin", site, "navigate").await, 200);
        assert_eq!(get("/admin/peers", site, "navigate").await, 403);
    }
    assert_eq!(get("/admin/peers", "same-origin", "cors").await, 200);
    assert_eq!(get("/admin", "none", "navigate").await, 200);
}

#[tokio::test]
async fn the_page_shows_what_the_rendezvous_does() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined_as(&server, Eio::V4).await;
    dial(&mut dialer, &mut listener, "d").await;
    dialer.item("d.dialer", &[7; 3000]).await;
    listener.expect_item("d.dialer", &[7; 3000]).await;
    let page = operator.get("/admin").await.body;
    for figure in [
        "<dt>Peers</dt><dd>2</dd>",
        "<dt>Links</dt><dd>2</dd>",
        "<dt>Dials</dt><dd>1</dd>",
        "<dt>Relayed in total</dt><dd>2.93 KiB</dd>",
        "<td role=\"cell\" class=\"number\" data-label=\"Sent today\">2.93 KiB</td>",
        "aria-label=\"Bytes per second in the last hour: ",
    ] {
        assert!(page.contains(figure), "{figure} in {page}");
    }
    for client in [&dialer, &listener] {
        let (_, id) = client.address.rsplit_once('/').expect("an id");
        let ban = format!("value=\"{id}\" aria-label=\"Ban {id}\" formaction=\"/admin/ban\"");
        assert!(
            page.contains(&client.address) && page.contains(&ban),
            "{page}"
        );
    }
    dialer.request(serde_json::json!(["no such request"])).await;
    let page = operator.get("/admin").await.body;
    let refused = "<th scope=\"row\" role=\"rowheader\">unknown request</th><td role=\"cell\" class=\"number\" data-label=\"How often\">1</td>";
    assert!(page.contains(refused), "{page}");
}

#[tokio::test]
async fn what_a_peer_says_is_text() {
    let server = serving_with(config().with_strict_multiaddr(false).with_challenge(false)).await;
    let operator = Operator::of(&server).await;
    let mut client = Client::connect(&server).await;
    let id = Keypair::generate_ed25519().public().to_peer_id();
    let rogue = format!("/unix/<script>\"'&amp;/ws/ipfs/{id}");
    let joined = client
        .request(serde_json::json!(["ss-join", rogue, ""]))
        .await;
    assert_eq!(joined[0], serde_json::Value::Null, "{joined}");
    for path in ["/admin", "/admin/peers"] {
        let page = operator.get(path).await.body;
        assert!(
            page.contains("/unix/&lt;script&gt;&quot;'&amp;amp;/ws/ipfs/"),
            "{page}"
        );
        assert!(!page.contains("/unix/<"), "{page}");
    }
    let page = operator
        .get("/admin?id=%3Cb%3E%22&after=%3Cb%3E")
        .await
        .body;
    assert!(
        page.contains("value=\"&lt;b&gt;&quot;\"") && !page.contains("<b>"),
        "{page}"
    );
    assert!(page.contains("Peers do not prove their keys."), "{page}");
}

#[tokio::test]
async fn peers_are_shown_a_hundred_at_a_time_and_found_by_the_beginning_of_their_ids() {
    let server = serving().await;
    let operator = Operator::of(&server).await;
    let (mut clients, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let mut client = Client::connect(&server).await;
        for _ in 0..15 {
            let key = Keypair::generate_ed25519();
            client.join(&key).await;
            ids.push(address(&key).rsplit_once('/').expect("an id").1.to_owned());
        }
        clients.push(client);
    }
    ids.sort();
    let (mut shown, mut path) = (Vec::new(), "/admin".to_owned());
    loop {
        let page = operator.get(&path).await.body;
        let rows = page.split("aria-label=\"Disconnect ").skip(1);
        let rows: Vec<_> = rows
            .map(|row| row.split('"').next().expect("an id").to_owned())
            .collect();
        assert!(rows.len() <= 100);
        shown.extend(rows);
        let links = page.split("<a class=\"button\" href=\"").skip(1);
        let next = links.filter(|link| link.contains("\">Next page<")).last();
        let Some(next) = next else { break };
        path = next
            .split('"')
            .next()
            .expect("a path")
            .replace("&amp;", "&");
    }
    assert_eq!(shown, ids);
    for (search, expected) in [
        (&ids[7][..], 1),
        (&ids[7][2..], 0),
        ("12D3KooW", 100),
        ("Qm", 0),
    ] {
        let page = operator.get(&format!("/admin?id={search}")).await.body;
        let rows = page.matches("aria-label=\"Disconnect ").count();
        assert_eq!(rows, expected, "{search}");
    }
}

#[tokio::test]
async fn scripts_show_the_token_and_get_no_session() {
    let server = serving().await;
    let bearer = format!("Bearer {TOKEN}");
    let page = ask(&server, "GET /admin", &[("Authorization", &bearer)], "").await;
    assert!(page.body.contains("Relayed per second"), "{page:?}");
    assert!(page.header("set-cookie").is_none() && !page.body.contains("/admin/logout"));
    let wrong = ask(&server, "GET /admin", &[("Authorization", "Bearer x")], "").await;
    assert_eq!(
        (wrong.status(), wrong.body.as_str()),
        (401, "That is not the token.\n")
    );
    // A proxy may ask for such credentials itself. The rendezvous ignores them.
    let basic = ask(
        &server,
        "GET /admin",
        &[("Authorization", "Basic eDp5")],
        "",
    )
    .await;
    assert!(basic.status() == 200 && basic.body.contains("/admin/login"));
}

#[tokio::test]
async fn an_application_has_no_such_page_where_it_mounts_the_rendezvous() {
    let (_rendezvous, addr) =
        crate::mounted::mounted(Config::default().with_admin(super::admin())).await;
    let answer = http(addr, "GET /admin HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}
