//! The page with the nodes: built once, and served from this machine.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        pki_types::{PrivateKeyDer, pem::PemObject as _},
    },
    server::TlsStream,
};

use crate::{certificate::Certificate, site};

const SITE: [(&str, &str); 4] = [
    ("index.html", include_str!("page/site/index.html")),
    ("perform.js", include_str!("page/site/perform.js")),
    ("worker.js", include_str!("page/site/worker.js")),
    ("empty.html", include_str!("page/site/empty.html")),
];

/// Serves the page until the runtime ends, and returns its URL.
pub async fn serve() -> String {
    let (listener, address) = bind().await;
    let app = app().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

/// Serves the page over TLS, and returns its URL.
pub async fn serve_secure(certificate: &Certificate) -> String {
    let (listener, address) = bind().await;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("its suites are of those")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der.clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("they belong together")));
    let app = app().await;
    tokio::spawn(async move { axum::serve(Secure { listener, acceptor }, app).await });
    format!("https://{address}")
}

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

async fn app() -> axum::Router {
    let files = tokio::task::spawn_blocking(|| files().to_owned());
    let files = files.await.expect("the page was built");
    site::router(&files)
}

struct Secure {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
            // The browser may try another way first.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Returns the folder of the page's files. The first call builds the page.
fn files() -> &'static Path {
    static FILES: OnceLock<PathBuf> = OnceLock::new();
    FILES.get_or_init(build)
}

fn build() -> PathBuf {
    let page = site::Page {
        workspace: Path::new(env!("CARGO_MANIFEST_DIR")),
        package: "star-page",
        features: &[],
        profile: "release",
        folder: "tests",
        files: &SITE,
    };
    page.build().expect("the page")
}
