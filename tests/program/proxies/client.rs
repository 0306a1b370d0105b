//! Clients at host addresses of their own, and their requests to a proxy.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer},
};

use super::process::Proxy;
use crate::support::{certificates::Certificate, head, within};

/// The token that a page shows in its query.
pub const SECRET: &str = "a-token-of-a-page";

fn ip(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, host)
}

/// Connects from a loopback address.
async fn connect(host: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((ip(host), 0).into()).expect("an address");
    let stream = within("a connection", socket.connect(to)).await;
    stream.expect("it listens")
}

/// A host whose nodes connect to the proxy from its address. It stops when this is dropped.
pub struct Host {
    host: u8,
    port: u16,
    _tasks: JoinSet<()>,
}

impl Host {
    pub async fn start(host: u8, proxy: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut inside, _) = listener.accept().await.expect("a connection");
                connections.spawn(async move {
                    let mut outside = connect(host, proxy).await;
                    // Either side may close without notice.
                    let _ = copy_bidirectional(&mut inside, &mut outside).await;
                });
            }
        });
        Self {
            host,
            port,
            _tasks: tasks,
        }
    }

    /// Returns the host's address as the proxy sees it.
    pub fn ip(&self) -> IpAddr {
        ip(self.host).into()
    }

    /// Returns the address at which the host's nodes listen.
    pub fn address(&self) -> String {
        format!("/dns4/localhost/tcp/{}/wss/p2p-websocket-star", self.port)
    }
}

/// Asks for a link from a host, with one more header. Returns the head of the answer, and the connection.
pub async fn link(
    host: u8,
    header: &str,
    proxy: &Proxy,
    trusted: &Certificate,
) -> (String, TlsStream<TcpStream>) {
    let request = format!(
        "GET /socket.io/?EIO=3&transport=websocket&token={SECRET} HTTP/1.1\r\n\
         Host: star.example\r\n{header}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    let mut stream = send(host, &request, proxy, trusted).await;
    (head(&mut stream).await, stream)
}

/// Returns the page as a browser on that host gets it.
pub async fn page(host: u8, proxy: &Proxy, trusted: &Certificate) -> String {
    let request = "GET / HTTP/1.1\r\nHost: star.example\r\nConnection: close\r\n\r\n";
    let mut stream = send(host, request, proxy, trusted).await;
    let mut answer = Vec::new();
    // It does not matter here whether TLS ends properly.
    let _ = within("a page", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a request over TLS.
async fn send(
    host: u8,
    request: &str,
    proxy: &Proxy,
    trusted: &Certificate,
) -> TlsStream<TcpStream> {
    let stream = connect(host, proxy.addr()).await;
    let mut stream = over_tls(stream, trusted).await;
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream
}

/// Starts TLS on a connection.
pub async fn over_tls(stream: TcpStream, trusted: &Certificate) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from(trusted.der.clone());
    roots.add(certificate).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("its own versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let name = "localhost".try_into().expect("a name");
    let connected = within("a TLS handshake", connector.connect(name, stream)).await;
    connected.expect("a good certificate")
}
