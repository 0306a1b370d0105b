//! JavaScript and Rust peers meet in an axum application that has the rendezvous beside its own routes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use axum::{
    Router,
    extract::ConnectInfo,
    routing::get,
    serve::{Listener, ListenerExt as _},
};
use libp2p_websocket_star::rendezvous::{Config, Rendezvous, prepare_socket};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::support::{
    binary::http,
    ed25519,
    js::Peer,
    raw::{Raw, echo_both_ways},
    root::Root,
    within,
};

const LEN: usize = 4 << 20;

fn application(rendezvous: &Rendezvous) -> Router {
    let star = rendezvous
        .service()
        .with_client_addr(|ConnectInfo(addr): &ConnectInfo<SocketAddr>| addr.ip());
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .fallback_service(star)
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    (listener, addr)
}

/// Has both listen, and each dial the other.
async fn meet(addr: &str, mut rust: Raw, js: Peer) {
    let key = json!({"keyType": "ed25519"});
    let theirs = js.try_listen(addr, key).await.expect("joined");
    let (_, ours) = rust.listen(addr).await;
    echo_both_ways(&mut rust, &ours, &js, &theirs, LEN, 65_536).await;
}

#[tokio::test]
async fn rust_and_javascript_peers_meet_in_an_application() {
    let rendezvous = Rendezvous::start(Config::default());
    let app = application(&rendezvous).into_make_service_with_connect_info::<SocketAddr>();
    let (listener, at) = listener().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    let addr = format!("/ip4/127.0.0.1/tcp/{}/ws/p2p-websocket-star", at.port());
    meet(&addr, Raw::new(), Peer::start()).await;
    let hello = http(at, "GET", "/hello", "star.example").await;
    assert!(hello.ends_with("\r\n\r\nhello"), "{hello}");
    within("the end", rendezvous.shutdown()).await;
}

/// A listener with TLS. It does one handshake at a time.
struct Secure {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, addr) = self.listener.accept().await.expect("a connection");
            prepare_socket(&stream);
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, addr);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[tokio::test]
async fn they_meet_over_the_tls_of_the_application() {
    let root = Root::new();
    let rendezvous = Rendezvous::start(Config::default());
    let app = application(&rendezvous).into_make_service_with_connect_info::<SocketAddr>();
    let (listener, at) = listener().await;
    let acceptor = root.for_names(&["localhost"]);
    // `tap_io` makes the client's address available to axum.
    let listener = Secure { listener, acceptor }.tap_io(|_| {});
    tokio::spawn(async move { axum::serve(listener, app).await });
    let addr = format!("/dns4/localhost/tcp/{}/wss/p2p-websocket-star", at.port());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("root.pem");
    std::fs::write(&file, root.certificate.pem()).expect("writable");
    let rust = Raw::with(&ed25519(), root.trusted());
    meet(&addr, rust, Peer::trusting(&file)).await;
    within("the end", rendezvous.shutdown()).await;
}
