//! `wss`: the npm rendezvous behind a proxy that terminates TLS, with certificates of a private root.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use libp2p_websocket_star::{
    Config,
    error::{Error, LinkError},
};
use rcgen::date_time_ymd;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, CertificateError},
};

use crate::support::{
    ed25519, hasty,
    js::{Peer, Rendezvous, RendezvousOptions},
    raw::{Raw, check_echo, echo},
    root::{Root, params},
    scripted::Scripted,
    within,
};

const LEN: usize = 4 << 20;

/// A proxy that terminates TLS for a server on a loopback port. It stops when this is dropped.
struct Proxy {
    port: u16,
    names: Arc<Mutex<Vec<Option<String>>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(acceptor: TlsAcceptor, backend: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let names = Arc::new(Mutex::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, acceptor, backend, Arc::clone(&names)));
        Self {
            port,
            names,
            _tasks: tasks,
        }
    }

    fn addr(&self, host: &str, ws: &str) -> String {
        format!("/{host}/tcp/{}/{ws}/p2p-websocket-star", self.port)
    }

    fn by_name(&self) -> String {
        self.addr("dns4/localhost", "wss")
    }

    fn by_ip(&self) -> String {
        self.addr("ip4/127.0.0.1", "wss")
    }

    /// Returns the server names that clients gave in their handshakes.
    fn names(&self) -> Vec<Option<String>> {
        self.names.lock().expect("no panic").clone()
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    backend: u16,
    names: Arc<Mutex<Vec<Option<String>>>>,
) {
    let mut links = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let (acceptor, names) = (acceptor.clone(), Arc::clone(&names));
        links.spawn(async move {
            // A client that does not trust the certificate hangs up.
            let Ok(mut tls) = acceptor.accept(tcp).await else {
                return;
            };
            let name = tls.get_ref().1.server_name().map(str::to_owned);
            names.lock().expect("no panic").push(name);
            let backend = SocketAddr::from((Ipv4Addr::LOCALHOST, backend));
            let mut plain = TcpStream::connect(backend)
                .await
                .expect("the rendezvous listens");
            // Either side may close without notice.
            let _ = copy_bidirectional(&mut tls, &mut plain).await;
        });
    }
}

async fn npm() -> Rendezvous {
    Rendezvous::start(RendezvousOptions::default()).await
}

/// Has two nodes listen at `addr`, and send a few MiB in both directions.
async fn echo_at(addr: &str, config: Config) -> Multiaddr {
    let mut listener = Raw::with(&ed25519(), config.clone());
    let dialer = Raw::with(&ed25519(), config);
    let (_, to) = listener.listen(addr).await;
    let answer = async { echo(listener.accept().await.0).await.expect("no reset") };
    let dial = async { check_echo(dialer.dial(&to.to_string()).await, LEN, 65_536).await };
    let (copied, ()) = futures::future::join(answer, dial).await;
    assert_eq!(copied, LEN as u64);
    to
}

#[tokio::test]
async fn wss_by_dns_name_shows_the_server_its_name() {
    let (root, star) = (Root::new(), npm().await);
    let proxy = Proxy::start(root.for_names(&["localhost"]), star.port()).await;
    for config in [root.trusted(), root.trusted().with_web_roots(false)] {
        echo_at(&proxy.by_name(), config).await;
    }
    assert_eq!(proxy.names(), vec![Some("localhost".to_owned()); 4]);
}

#[tokio::test]
async fn wss_by_ip_shows_no_name() {
    let (root, star) = (Root::new(), npm().await);
    let proxy = Proxy::start(root.for_names(&["127.0.0.1"]), star.port()).await;
    echo_at(&proxy.by_ip(), root.trusted()).await;
    assert_eq!(proxy.names(), vec![None; 2]);
}

#[tokio::test]
async fn tls_ws_is_another_way_to_write_wss() {
    let (root, star) = (Root::new(), npm().await);
    let acceptor = root.certify(&params(&["localhost"]), &[&rustls::version::TLS12]);
    let proxy = Proxy::start(acceptor, star.port()).await;
    let to = echo_at(&proxy.addr("dns/localhost", "tls/ws"), root.trusted()).await;
    assert!(
        to.to_string()
            .starts_with(&proxy.addr("dns/localhost", "wss")),
        "{to}"
    );
}

#[tokio::test]
async fn a_javascript_peer_is_reached_over_wss() {
    let (root, star) = (Root::new(), npm().await);
    let proxy = Proxy::start(root.for_names(&["localhost"]), star.port()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("root.pem");
    std::fs::write(&file, root.certificate.pem()).expect("writable");
    let js = Peer::trusting(&file);
    let key = serde_json::json!({"keyType": "ed25519"});
    let to = js.try_listen(&proxy.by_name(), key).await.expect("joined");
    let mut node = Raw::with(&ed25519(), root.trusted());
    let (_, own) = node.listen(&proxy.by_name()).await;
    check_echo(node.dial(&to).await, LEN, 65_536).await;
    let own = own.to_string().replace("/p2p/", "/ipfs/");
    let answer = async { echo(node.accept().await.0).await.expect("no reset") };
    futures::future::join(js.echo(&own, LEN as u64), answer).await;
}

/// Returns the errors of a dial and of a listener at `addr`.
async fn link_errors(addr: &str, config: Config) -> [LinkError; 2] {
    let mut node = Raw::with(&ed25519(), config);
    let dialled = node
        .try_dial(&format!("{addr}/p2p/{}", PeerId::random()))
        .await;
    node.listen_on(addr).expect("a good address");
    let errors = [dialled.expect_err("an error"), node.listener_error().await];
    errors.map(|error| {
        assert!(error.to_string().starts_with("wss://"), "{error}");
        match error {
            Error::Link { error, .. } => error,
            other => panic!("{other:?}"),
        }
    })
}

async fn certificate_errors(addr: &str, config: Config) -> [CertificateError; 2] {
    link_errors(addr, config).await.map(|error| match error {
        LinkError::Tls(error) | LinkError::TlsWithoutName(error) => {
            match error.get_ref().downcast_ref() {
                Some(rustls::Error::InvalidCertificate(error)) => error.clone(),
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_refused() {
    let server = Scripted::start().await;
    let acceptor = Root::new().for_names(&["localhost", "127.0.0.1"]);
    let proxy = Proxy::start(acceptor, server.port()).await;
    let another = Root::new().trusted();
    for (addr, config) in [(proxy.by_name(), hasty()), (proxy.by_ip(), another)] {
        for error in certificate_errors(&addr, config).await {
            assert_eq!(error, CertificateError::UnknownIssuer);
        }
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let (server, root) = (Scripted::start().await, Root::new());
    let acceptor = root.for_names(&["other.example", "127.0.0.2"]);
    let proxy = Proxy::start(acceptor, server.port()).await;
    for addr in [proxy.by_name(), proxy.by_ip()] {
        for error in certificate_errors(&addr, root.trusted()).await {
            let is = matches!(error, CertificateError::NotValidForNameContext { .. });
            assert!(is, "{error:?}");
        }
    }
    for error in link_errors(&proxy.by_ip(), root.trusted()).await {
        assert!(matches!(error, LinkError::TlsWithoutName(_)), "{error:?}");
        let story = "The address has no server name, perhaps because a DNS transport has resolved it: listen there by \
             name, add the behaviour of this crate to the swarm, or dial /tls/sni/<name>/ws";
        assert!(error.to_string().ends_with(story), "{error}");
    }
}

/// The name for TLS may differ from the address that is dialled.
#[tokio::test]
async fn a_server_at_an_ip_address_is_verified_by_the_name_of_sni() {
    let (star, root) = (npm().await, Root::new());
    let proxy = Proxy::start(root.for_names(&["star.example"]), star.port()).await;
    let addr = proxy.by_ip().replace("/wss", "/tls/sni/star.example/ws");
    let joined = echo_at(&addr, root.trusted()).await;
    assert!(joined.to_string().starts_with(&addr), "{joined}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let (server, root) = (Scripted::start().await, Root::new());
    let mut params = params(&["localhost"]);
    params.not_after = date_time_ymd(2020, 1, 1);
    let acceptor = root.certify(&params, rustls::ALL_VERSIONS);
    let proxy = Proxy::start(acceptor, server.port()).await;
    for error in certificate_errors(&proxy.by_name(), root.trusted()).await {
        assert!(
            matches!(error, CertificateError::ExpiredContext { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_plain_server_at_a_wss_address_is_an_error_of_tls() {
    let star = npm().await;
    let addr = star.addr().replace("/ws/", "/wss/");
    for error in link_errors(&addr, hasty()).await {
        let is = matches!(&error, LinkError::NotTls(error)
            if matches!(error.get_ref().downcast_ref(), Some(rustls::Error::InvalidMessage(_))));
        assert!(is, "{error:?}");
        let story = "the server does not speak TLS on this port: use /ws instead of /wss, or the port for wss (";
        assert!(error.to_string().starts_with(story), "{error}");
    }
}

#[tokio::test]
async fn a_tls_server_at_a_ws_address_is_no_websocket_server() {
    let (server, root) = (Scripted::start().await, Root::new());
    let proxy = Proxy::start(root.for_names(&["localhost"]), server.port()).await;
    let node = Raw::with(&ed25519(), hasty());
    let addr = proxy.addr("dns4/localhost", "ws");
    match node
        .try_dial(&format!("{addr}/p2p/{}", PeerId::random()))
        .await
    {
        Err(Error::Link {
            error: LinkError::Upgrade(error),
            ..
        }) => assert_eq!(
            error.to_string(),
            "the server speaks TLS on this port: use /wss instead of /ws"
        ),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_tls_handshake_that_stops_is_given_up_in_time() {
    let server = Scripted::start().await;
    let config = hasty().with_connect_timeout(Duration::from_secs(1));
    let node = Raw::with(&ed25519(), config);
    let to = server.somebody().replace("/ws/", "/wss/");
    let dial = tokio::spawn(node.start_dial(&to));
    drop(server.tcp().await);
    match within("a dial", dial).await.expect("no panic") {
        Err(Error::Link {
            error: LinkError::TlsHandshake(_),
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    let dial = tokio::spawn(node.start_dial(&to));
    let _silent = server.tcp().await;
    match within("a dial", dial).await.expect("no panic") {
        Err(Error::Link {
            error: LinkError::TimedOut { stage, .. },
            ..
        }) => {
            assert_eq!(stage, "the TLS handshake");
        }
        other => panic!("{other:?}"),
    }
}
