//! TLS: accepted certificates, the answer to clients that do not speak TLS, and a new certificate while links are
//! open.

use std::time::Duration;

use futures::future::join;
use libp2p_websocket_star::{
    Config, Connection, Error,
    rendezvous::{self, Server, TlsConfig, TlsError},
};
use p12_keystore::EncryptionAlgorithm;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::support::{
    address,
    binary::{Binary, http},
    certificates::{Certificate, Folder, text},
    ed25519,
    raw::{Raw, check_echo, echo},
    within,
};

/// Returns a node that trusts only this certificate.
fn trusting(certificate: &Certificate) -> Raw {
    let config = Config::default()
        .with_allow_local_rendezvous(true)
        .with_root_certificate(&certificate.der)
        .expect("a certificate");
    Raw::with(&ed25519(), config)
}

/// Connects two nodes through the rendezvous at `addr`.
async fn connected(certificate: &Certificate, addr: &str) -> (Pair, [Raw; 2]) {
    let (mut listener, dialer) = (trusting(certificate), trusting(certificate));
    let (_, to) = listener.listen(addr).await;
    let dialled = dialer.dial(&to.to_string()).await;
    let (accepted, _) = listener.accept().await;
    (Pair { dialled, accepted }, [listener, dialer])
}

struct Pair {
    dialled: Connection,
    accepted: Connection,
}

impl Pair {
    async fn check(self) {
        let (_, echoed) = join(
            check_echo(self.dialled, 300_000, 10_000),
            echo(self.accepted),
        )
        .await;
        assert_eq!(echoed.expect("no reset"), 300_000);
    }
}

/// Returns whether a node that trusts only `certificate` can join.
pub(super) async fn is_trusted(certificate: &Certificate, addr: &str) -> bool {
    let mut node = trusting(certificate);
    node.listen_on(addr).expect("a good address");
    loop {
        use libp2p::core::transport::TransportEvent::{ListenerError, NewAddress};
        match node.event().await {
            NewAddress { .. } => return true,
            ListenerError { error, .. } => {
                assert!(matches!(error, Error::Link { .. }), "{error}");
                return false;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn peers_meet_by_wss_with_a_certificate_in_pem_or_pfx() {
    let certificate = Certificate::new();
    let folder = Folder::with(&certificate);
    let pfx = |name: &str, algorithm| {
        let path = folder.write(name, certificate.pfx("secret", algorithm));
        ["--pfx", &text(&path), "--passphrase", "secret"].map(str::to_owned)
    };
    for flags in [
        folder.flags(),
        pfx("new.pfx", EncryptionAlgorithm::PbeWithHmacSha256AndAes256),
        pfx(
            "old.p12",
            EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc,
        ),
        pfx("older.p12", EncryptionAlgorithm::PbeWithShaAnd40BitRc4Cbc),
    ] {
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let star = Binary::start(&flags).await;
        let (pair, _nodes) = connected(&certificate, &star.addr()).await;
        pair.check().await;
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_links_and_does_not_disturb_open_ones() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let folder = Folder::with(&old);
    let flags = folder.flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let mut star = Binary::start(&flags).await;
    let (pair, _nodes) = connected(&old, &star.addr()).await;
    let (transfer, _more_nodes) = connected(&old, &star.addr()).await;
    let transfer = tokio::spawn(transfer.check());

    folder.put(&Certificate::valid(2001, 2002));
    star.signal("HUP").await;
    let line = star
        .logged("cannot reload the certificate; the old one stays in use")
        .await;
    assert!(line.contains("the certificate expired at 2002"), "{line}");
    assert!(is_trusted(&old, &star.addr()).await);

    folder.put(&new);
    star.signal("HUP").await;
    star.logged("certificate replaced").await;
    assert!(is_trusted(&new, &star.addr()).await);
    assert!(!is_trusted(&old, &star.addr()).await);

    within("a transfer", transfer).await.expect("no panic");
    pair.check().await;
}

#[tokio::test]
async fn changed_files_are_noticed_without_a_signal() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let folder = Folder::with(&old);
    let mut flags: Vec<_> = folder.flags().to_vec();
    flags.extend(["--cert-check-interval", "20ms"].map(str::to_owned));
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let mut star = Binary::start(&flags).await;
    assert!(is_trusted(&old, &star.addr()).await);
    folder.put(&new);
    // Between the two writes, the binary may find a key that does not belong to the certificate.
    star.logged("certificate replaced").await;
    assert!(is_trusted(&new, &star.addr()).await);
}

#[tokio::test]
async fn an_embedded_server_reloads_too_and_keeps_what_is_better() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let tls = |certificate: &Certificate| {
        TlsConfig::from_pem(certificate.pem.as_bytes(), certificate.key_pem.as_bytes())
    };
    let config = rendezvous::Config::default().with_tls(tls(&old).expect("fine"));
    let star = Server::bind(config).await.expect("a free port");
    assert!(address(&star).contains("/wss/"));
    assert!(is_trusted(&old, &address(&star)).await);
    let expired = tls(&Certificate::valid(2001, 2002)).expect("well-formed");
    let refused = star.reload_tls(expired).expect_err("expired");
    assert!(matches!(refused, TlsError::Expired(_)), "{refused}");
    assert!(is_trusted(&old, &address(&star)).await);
    star.reload_tls(tls(&new).expect("fine")).expect("valid");
    assert!(is_trusted(&new, &address(&star)).await);

    let plain = Server::bind(rendezvous::Config::default())
        .await
        .expect("a free port");
    let refused = plain.reload_tls(tls(&new).expect("fine"));
    assert!(matches!(refused, Err(TlsError::NotInUse)));
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_answered_in_words() {
    let folder = Folder::with(&Certificate::new());
    let flags = folder.flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let star = Binary::start(&flags).await;
    for path in ["/", "/health", "/socket.io/?EIO=3&transport=websocket"] {
        let answer = http(star.local_addr(), "GET", path, "star.example").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(
            answer.contains("This port speaks TLS: use https:// and wss://"),
            "{answer}"
        );
    }
    let node = Raw::new();
    node.listen_on(&star.addr().replace("/wss/", "/ws/"))
        .expect("a good address");
    let mut node = node;
    let error = node.listener_error().await;
    assert!(
        error.to_string().contains("WebSocket upgrade failed"),
        "{error}"
    );
}

#[tokio::test]
async fn whoever_does_not_finish_the_handshake_is_cut_off() {
    let certificate = Certificate::new();
    let tls = TlsConfig::from_pem(certificate.pem.as_bytes(), certificate.key_pem.as_bytes());
    let limits = rendezvous::Limits::default().with_handshake_timeout(Duration::from_millis(50));
    let config = rendezvous::Config::default()
        .with_tls(tls.expect("fine"))
        .with_limits(limits);
    let star = Server::bind(config).await.expect("a free port");
    for start in [
        &b""[..],
        b"\x16",
        b"\x16\x03\x01\x02",
        b"G",
        b"GET / HTTP/1.1\r\n",
    ] {
        use tokio::io::AsyncWriteExt as _;
        let mut stream = TcpStream::connect(star.local_addr())
            .await
            .expect("it listens");
        stream.write_all(start).await.expect("sent");
        let mut rest = Vec::new();
        let end = within("the end", stream.read_to_end(&mut rest)).await;
        assert!(end.is_err() || rest.is_empty(), "{rest:?}");
    }
}
