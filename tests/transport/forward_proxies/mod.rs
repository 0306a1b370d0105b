//! Nodes leave their network through the proxies that Debian has, and through proxies that misbehave.

mod scripted;

use std::{collections::BTreeMap, net::SocketAddr, process::Stdio, time::Duration};

use libp2p::core::transport::TransportEvent;
use libp2p_websocket_star::{
    Config,
    error::{Error, LinkError, ProxyError},
};

use self::scripted::{Does, Scripted};
use crate::support::{
    address,
    certificates::Certificate,
    ed25519, embedded,
    forward_proxy::{Kind, NAME, Proxy, USER},
    hasty,
    js::{Rendezvous, RendezvousOptions},
    raw::{Raw, check_echo, echo},
    root::Root,
    within,
};

/// The same credentials in a URL.
const CREDENTIALS: &str = "user:s%65cret";
const LEN: usize = 1 << 20;
/// If this variable is set, the test process is a node whose environment names its proxy. The value is the address
/// where it listens.
const UNDER_PROXY: &str = "STAR_UNDER_PROXY";

fn through(url: &str) -> Config {
    hasty().with_proxy(url).expect("a proxy")
}

/// Has two nodes listen through a proxy, and one dial the other.
async fn peers_meet(config: &Config, star: &str) -> (Raw, Raw) {
    let (mut one, mut other) = (
        Raw::with(&ed25519(), config.clone()),
        Raw::with(&ed25519(), config.clone()),
    );
    one.listen(star).await;
    let (_, to) = other.listen(star).await;
    let dialled = one.dial(&to.to_string()).await;
    let answer = async { echo(other.accept().await.0).await.expect("no reset") };
    let ((), echoed) = futures::future::join(check_echo(dialled, LEN, 65_536), answer).await;
    assert_eq!(echoed, LEN as u64);
    (one, other)
}

/// Returns the error of a node that cannot listen there with this configuration.
async fn refused(config: Config, star: &str) -> LinkError {
    let mut node = Raw::with(&ed25519(), config);
    node.listen_on(star).expect("a good address");
    match node.listener_error().await {
        Error::Link { error, .. } => error,
        error => panic!("{error}"),
    }
}

/// Returns the proxy's error of a node that cannot listen there.
async fn refused_by_proxy(url: &str, star: &str) -> ProxyError {
    match refused(through(url), star).await {
        LinkError::Proxy { error, proxy } => {
            assert!(!proxy.contains(USER), "{proxy}");
            error
        }
        error => panic!("{error}"),
    }
}

fn by_name(host: &str, port: u16, ws: &str) -> String {
    format!("/dns4/{host}/tcp/{port}/{ws}/p2p-websocket-star")
}

#[tokio::test]
async fn peers_meet_through_each_kind_of_proxy_and_lose_the_link_with_it() {
    let npm = Rendezvous::start(RendezvousOptions::default()).await;
    for kind in [Kind::Squid, Kind::Tinyproxy, Kind::Microsocks] {
        let mut proxy = Proxy::start(kind).await;
        let (mut one, _other) = peers_meet(&through(&proxy.url()), &npm.addr()).await;
        proxy.kill().await;
        // The link cannot be opened again without the proxy.
        loop {
            if let TransportEvent::ListenerError { error, .. } = one.event().await
                && error.to_string().contains(&proxy.url())
            {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_proxy_asks_for_a_user_name_and_a_password() {
    let server = embedded().await;
    let star = address(&server);
    for kind in [Kind::Squid, Kind::Tinyproxy, Kind::Microsocks] {
        let proxy = Proxy::with_password(kind).await;
        peers_meet(&through(&proxy.url_with(CREDENTIALS)), &star).await;
        let error = refused_by_proxy(&proxy.url(), &star).await;
        let asks = matches!(error, ProxyError::Credentials { given: false });
        assert!(asks, "{kind:?}: {error}");
        let error = refused_by_proxy(&proxy.url_with("user:wrong"), &star).await;
        let asks = matches!(error, ProxyError::Credentials { given: true });
        assert!(asks, "{kind:?}: {error}");
    }
}

#[tokio::test]
async fn what_a_proxy_answers_is_told() {
    let server = embedded().await;
    let star = address(&server);
    let refusing = Proxy::start(Kind::SquidRefusing).await;
    let error = refused_by_proxy(&refusing.url(), &star).await;
    assert!(
        matches!(error, ProxyError::Refused { status: 403, .. }),
        "{error}"
    );
    // Nothing listens at the target.
    let nobody = by_name("localhost", 1, "ws");
    let squid = Proxy::start(Kind::Squid).await;
    let error = refused_by_proxy(&squid.url(), &nobody).await;
    assert!(
        matches!(error, ProxyError::Refused { status: 500.., .. }),
        "{error}"
    );
    let tinyproxy = Proxy::start(Kind::Tinyproxy).await;
    let error = refused_by_proxy(&tinyproxy.url(), &nobody).await;
    assert!(
        matches!(error, ProxyError::Refused { status: 500.., .. }),
        "{error}"
    );
    let microsocks = Proxy::start(Kind::Microsocks).await;
    let error = refused_by_proxy(&microsocks.url(), &nobody).await;
    let ProxyError::Socks(words) = &error else {
        panic!("{error}");
    };
    assert_eq!(words, "connection refused");
    // The proxy is not of the kind that the URL says.
    let socks = microsocks.url().replace("socks5", "http");
    let error = refused_by_proxy(&socks, &star).await;
    assert!(
        matches!(
            error,
            ProxyError::NoProxy(_) | ProxyError::HungUp | ProxyError::Io(_)
        ),
        "{error}"
    );
    let http = squid.url().replace("http", "socks5");
    let hasty = through(&http).with_connect_timeout(Duration::from_secs(1));
    let error = refused(hasty, &star).await;
    // The proxy waits for the end of a line.
    assert!(matches!(error, LinkError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn names_of_rendezvous_are_looked_up_by_the_proxy_alone() {
    let server = embedded().await;
    let port = server.local_addr().port();
    let star = by_name(NAME, port, "ws");
    let alone = refused(hasty(), &star).await;
    assert!(matches!(alone, LinkError::Resolve { .. }), "{alone}");
    let squid = Proxy::start(Kind::Squid).await;
    peers_meet(&through(&squid.url()), &star).await;
    for scheme in ["socks5", "socks5h"] {
        let mut socks = Scripted::start(Does::Socks(server.local_addr())).await;
        peers_meet(&through(&format!("{scheme}://{}", socks.addr())), &star).await;
        assert_eq!(socks.asked().await, [5, 1, 0]);
        let expected = [
            &[5, 1, 0, 3, NAME.len() as u8],
            NAME.as_bytes(),
            &port.to_be_bytes(),
        ];
        assert_eq!(socks.asked().await, expected.concat());
    }
}

#[tokio::test]
async fn a_proxy_is_spoken_with_over_tls_if_its_certificate_is_trusted() {
    let server = embedded().await;
    let certificate = Certificate::new();
    let proxy = Proxy::certified(Kind::SquidOverTls, &certificate).await;
    // The certificate is for 127.0.0.1 and for its name.
    let url = proxy.url();
    let error = refused_by_proxy(&url, &address(&server)).await;
    assert!(matches!(error, ProxyError::Tls(_)), "{error}");
    let trusting = through(&url).with_root_certificate(&certificate.der);
    peers_meet(&trusting.expect("a certificate"), &address(&server)).await;
    // The proxy does not use TLS, although the URL says so.
    let plain = Proxy::start(Kind::Squid).await;
    let error = refused_by_proxy(&plain.url().replace("http", "https"), &address(&server)).await;
    assert!(matches!(error, ProxyError::Tls(_)), "{error}");
}

#[tokio::test]
async fn tls_goes_through_a_proxy_that_passes_it_on_and_through_one_that_inspects_it() {
    use libp2p_websocket_star::rendezvous::{self, Server, TlsConfig};
    let certificate = Certificate::new();
    let tls = TlsConfig::from_pem(certificate.pem.as_bytes(), certificate.key_pem.as_bytes());
    let config = rendezvous::Config::default().with_tls(tls.expect("a certificate"));
    let server = Server::bind(config).await.expect("a free port");
    let star = by_name("localhost", server.local_addr().port(), "wss");
    let trusting = |url: &str, root: &[u8]| {
        through(url)
            .with_root_certificate(root)
            .expect("a certificate")
    };
    for kind in [Kind::Squid, Kind::Tinyproxy, Kind::Microsocks] {
        let proxy = Proxy::start(kind).await;
        peers_meet(&trusting(&proxy.url(), &certificate.der), &star).await;
    }
    let over_tls = Proxy::certified(Kind::SquidOverTls, &certificate).await;
    peers_meet(&trusting(&over_tls.url(), &certificate.der), &star).await;
    let authority = Root::for_proxy();
    let inspecting = Proxy::certified(Kind::SquidInspecting, &authority).await;
    peers_meet(&trusting(&inspecting.url(), &authority.der), &star).await;
    let error = refused(trusting(&inspecting.url(), &certificate.der), &star).await;
    assert!(matches!(error, LinkError::Tls(_)), "{error}");
}

/// Checks the error for each wrong answer of a proxy.
#[tokio::test]
async fn a_proxy_that_misbehaves_is_a_clear_error_in_bounded_time() {
    let head = "HTTP/1.1 200 OK\r\n";
    let endless = [head.as_bytes(), &b"a: b\r\n".repeat(2000)].concat();
    let long_reason = format!("HTTP/1.1 599 {}\r\n\r\n", "x".repeat(300));
    let http: Vec<(&str, Vec<u8>)> = vec![
        ("it closed the connection without an answer", vec![]),
        (
            "it does not answer like a proxy of this kind: hello",
            b"hello".to_vec(),
        ),
        (
            "it does not answer like a proxy of this kind: SSH-2.0-x",
            b"SSH-2.0-x\r\n".to_vec(),
        ),
        (
            "it does not answer like a proxy of this kind: HTTP/1.1 20",
            b"HTTP/1.1 20".to_vec(),
        ),
        (
            "it does not answer like a proxy of this kind: ",
            vec![0xff; 9000],
        ),
        (
            "it does not answer like a proxy of this kind: HTTP/1.1 200 OK",
            endless,
        ),
        (
            "it answers with HTTP status 502: Bad Gateway",
            b"HTTP/1.0 502 Bad Gateway\r\n\r\n".to_vec(),
        ),
        (
            "it answers with HTTP status 301",
            b"HTTP/1.1 301\r\nLocation: /\r\n\r\n".to_vec(),
        ),
        (
            "it answers with HTTP status 599: xxx",
            long_reason.into_bytes(),
        ),
        (
            "it asks for a user name",
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n".to_vec(),
        ),
    ];
    let nobody = by_name("star.example", 80, "ws");
    for (expected, answer) in http {
        let answers = if answer.is_empty() {
            vec![]
        } else {
            vec![answer]
        };
        let proxy = Scripted::start(Does::Answer(answers)).await;
        let error = refused_by_proxy(&format!("http://{}", proxy.addr()), &nobody).await;
        let shown = error.to_string();
        assert!(shown.starts_with(expected), "{expected}: {shown}");
        assert!(shown.len() < 600, "{shown}");
    }
    let greeted = vec![5, 0];
    let socks: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("it closed the connection without an answer", vec![]),
        (
            "it does not answer like a proxy of this kind: HTTP/1.1 400",
            vec![b"HTTP/1.1 400 Bad\r\n\r\n".to_vec()],
        ),
        (
            "it does not answer like a proxy of this kind: ",
            vec![vec![4, 0]],
        ),
        ("it asks for a user name", vec![vec![5, 0xff]]),
        (
            "it does not answer like a proxy of this kind: ",
            vec![vec![5, 2]],
        ),
        (
            "it closed the connection without an answer",
            vec![greeted.clone()],
        ),
        (
            "it does not answer like a proxy of this kind: ",
            vec![greeted.clone(), vec![5, 9, 0, 1, 0, 0, 0, 0, 0, 0]],
        ),
        (
            "it does not answer like a proxy of this kind: ",
            vec![greeted.clone(), vec![5, 0, 0, 9, 0, 0, 0, 0, 0, 0]],
        ),
        (
            "it answers: connection not allowed",
            vec![greeted.clone(), vec![5, 2, 0, 1, 0, 0, 0, 0, 0, 0]],
        ),
        (
            "it answers: host unreachable",
            vec![greeted, vec![5, 4, 0, 3, 1, b'a', 0, 0]],
        ),
    ];
    for (expected, answers) in socks {
        let proxy = Scripted::start(Does::Answer(answers)).await;
        let error = refused_by_proxy(&format!("socks5://{}", proxy.addr()), &nobody).await;
        let shown = error.to_string();
        assert!(shown.starts_with(expected), "{expected}: {shown}");
    }
    for (scheme, said) in [
        ("http", vec![]),
        ("http", vec![head.into()]),
        ("socks5", vec![vec![5]]),
    ] {
        let proxy = Scripted::start(Does::Hang(said)).await;
        let config = through(&format!("{scheme}://{}", proxy.addr()));
        let config = config.with_connect_timeout(Duration::from_millis(200));
        let error = refused(config, &nobody).await;
        let LinkError::TimedOut { stage, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(stage, "the proxy's answer");
    }
}

#[tokio::test]
async fn a_proxy_is_no_way_to_the_nodes_own_network_nor_for_a_token() {
    let server = embedded().await;
    let port = server.local_addr().port();
    let proxy = Proxy::start(Kind::Squid).await;
    let config = Config::default().with_proxy(proxy.url()).expect("a proxy");
    let node = Raw::with(&ed25519(), config.clone());
    let peer = ed25519().public().to_peer_id();
    for star in [
        address(&server),
        by_name("localhost", port, "ws"),
        by_name("LOCALHOST.", port, "ws"),
        // Many resolvers take these names for addresses.
        by_name("127.0.0.1", port, "ws"),
        by_name("169.254.169.254", port, "ws"),
        by_name("127.1", port, "ws"),
        by_name("0x7f000001", port, "ws"),
    ] {
        let error = node.try_dial(&format!("{star}/p2p/{peer}")).await;
        let error = error.expect_err("not public");
        let is_refused = matches!(
            &error,
            Error::Link {
                error: LinkError::NotPublic(_),
                ..
            }
        );
        assert!(is_refused, "{star}: {error}");
    }
    let star = address(&server);
    let config = config.with_token(star.parse().expect("an address"), "a-long-secret");
    let error = refused(config.expect("over loopback"), &star).await;
    let is_kept = matches!(
        &error,
        LinkError::Proxy {
            error: ProxyError::Token,
            ..
        }
    );
    assert!(is_kept, "{error}");
}

/// Runs this test again in a process with these variables. There it listens through the proxy that they name, if any.
/// Returns whether it has joined.
async fn under(variables: BTreeMap<&str, String>, star: &str) -> bool {
    let mut test = tokio::process::Command::new(std::env::current_exe().expect("a test"));
    test.args([
        "--exact",
        "forward_proxies::the_environment_names_proxies_and_who_needs_none",
    ]);
    for name in [
        "HTTPS_PROXY",
        "https_proxy",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
    ] {
        test.env_remove(name);
    }
    test.envs(variables).env(UNDER_PROXY, star);
    let test = test
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let ended = within("a node that has joined", test.kill_on_drop(true).status()).await;
    ended.expect("it ran").success()
}

#[tokio::test]
async fn the_environment_names_proxies_and_who_needs_none() {
    if let Ok(star) = std::env::var(UNDER_PROXY) {
        let config = hasty().with_proxy_from_env().expect("proxies");
        let mut node = Raw::with(&ed25519(), config);
        node.listen_on(&star).expect("a good address");
        let event = node.event().await;
        let is_joined = matches!(event, TransportEvent::NewAddress { .. });
        assert!(is_joined, "{event:?}");
        return;
    }
    let server = embedded().await;
    let star = address(&server);
    let squid = Proxy::start(Kind::Squid).await;
    // Nothing listens at this address.
    let closed: SocketAddr = ([127, 0, 0, 1], 1).into();
    let closed = format!("http://{closed}");
    let set = |variables: &[(&'static str, &str)]| {
        let variables = variables.iter();
        variables
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect()
    };
    let only_squid_knows = by_name(NAME, server.local_addr().port(), "ws");
    assert!(under(set(&[("ALL_PROXY", &squid.url())]), &only_squid_knows).await);
    assert!(
        under(
            set(&[("http_proxy", &squid.url()), ("ALL_PROXY", &closed)]),
            &star
        )
        .await
    );
    assert!(!under(set(&[("ALL_PROXY", &closed)]), &star).await);
    assert!(!under(set(&[("ALL_PROXY", "socks9://a")]), &star).await);
    assert!(
        under(
            set(&[("ALL_PROXY", &closed), ("NO_PROXY", "127.0.0.0/8")]),
            &star
        )
        .await
    );
    assert!(under(set(&[("HTTPS_PROXY", &closed)]), &star).await);
    assert!(under(set(&[]), &star).await);
}
