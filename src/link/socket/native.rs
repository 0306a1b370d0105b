//! The WebSocket over TCP and TLS, with the codec of this crate.

#[cfg(feature = "probe")]
pub mod probe;
#[cfg(feature = "proxy")]
mod proxied;

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::TryFutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, ConfigBuilder, WantsVerifier, pki_types::ServerName,
    },
};

use super::{CLOSE_TIMEOUT, Deadline};
use crate::{
    address::{Host, Rendezvous},
    certificate::Roots,
    config::Config,
    crypto,
    error::{Cause, LinkError},
    link::connect,
    protocol::engine_io,
    runtime::{now, timeout_at},
    websocket::{self, CloseCode, upgrade},
    words::Words,
};
use connect::Route;
pub(in crate::link) use connect::Routes;

/// The number of bytes of frames that are gathered before the socket is written: two full items.
pub(in crate::link) const GATHERED: usize = 256 * 1024;

pub(in crate::link) type WebSocket = websocket::WebSocket<Io>;

/// The part of the configuration that opening a link needs only here.
#[derive(Clone)]
pub(crate) struct Native {
    tls: Arc<ClientConfig>,
    #[cfg(feature = "proxy")]
    proxies: crate::proxy::Proxies,
}

impl Native {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            tls: tls_config(&config.roots),
            #[cfg(feature = "proxy")]
            proxies: config.proxies.clone(),
        }
    }

    /// Returns whether a rendezvous is reached through a proxy, which then looks up its name.
    #[cfg(feature = "proxy")]
    pub(crate) fn is_proxied(&self, rendezvous: &Rendezvous) -> bool {
        !matches!(self.proxies.of(rendezvous), Ok(None))
    }
}

/// Returns the common start of all TLS configurations.
fn tls_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()
        .expect("its suites are of the default protocol versions")
}

fn tls_config(roots: &Roots) -> Arc<ClientConfig> {
    let config = tls_builder()
        .with_root_certificates(roots.store())
        .with_no_client_auth();
    Arc::new(config)
}

/// Opens a WebSocket: name resolution, TCP, TLS and the upgrade. Also returns the address that it uses.
///
/// `permitted` gets the addresses of the host, and returns those that may be connected to. `routes` records which of
/// them worked. If there is a proxy, only the proxy knows the addresses of a name.
pub(super) async fn connect(
    rendezvous: &Rendezvous,
    config: &super::SocketConfig,
    routes: &mut Routes,
    deadline: &Deadline,
    permitted: impl FnOnce(Vec<SocketAddr>) -> Result<Vec<SocketAddr>, LinkError>,
) -> Result<(WebSocket, Route), LinkError> {
    #[cfg(feature = "proxy")]
    if let Some(proxy) = checked_proxy(rendezvous, config)? {
        let known = proxied::known_address(rendezvous);
        permitted(
            known
                .map(|ip| (ip, rendezvous.port()).into())
                .into_iter()
                .collect(),
        )?;
        let through = proxied::connect_through(&proxy, &config.native.tls, routes, deadline);
        let (io, route) = through.await?;
        return Ok((open_over(rendezvous, config, deadline, io).await?, route));
    }
    let addresses = deadline
        .stage("name resolution", resolve(rendezvous))
        .await?;
    let addresses = permitted(addresses)?;
    connect_to(rendezvous, config, routes, deadline, &addresses).await
}

/// Returns the proxy for a rendezvous, if there is one. A token must be encrypted, so that the proxy cannot read it;
/// otherwise this is an error.
#[cfg(feature = "proxy")]
fn checked_proxy(
    rendezvous: &Rendezvous,
    config: &super::SocketConfig,
) -> Result<Option<(crate::proxy::Proxy, http::Uri)>, LinkError> {
    let proxy = config.native.proxies.of(rendezvous)?;
    let is_read = config.tokens.of(rendezvous).is_some() && !rendezvous.is_secure();
    match proxy {
        Some((proxy, _)) if is_read => Err(LinkError::Proxy {
            proxy: proxy.to_string().into(),
            error: crate::error::ProxyError::Token,
        }),
        proxy => Ok(proxy),
    }
}

/// Opens a WebSocket to one of these addresses.
pub(super) async fn connect_to(
    rendezvous: &Rendezvous,
    config: &super::SocketConfig,
    routes: &mut Routes,
    deadline: &Deadline,
    addresses: &[SocketAddr],
) -> Result<(WebSocket, Route), LinkError> {
    let connecting = connect_tcp(addresses, routes);
    let connecting = connecting.map_err(|error| LinkError::Connect(Arc::new(error)));
    let (tcp, addr) = deadline.stage("connecting", connecting).await?;
    let ws = open_over(rendezvous, config, deadline, Io::Plain(tcp)).await?;
    Ok((ws, Route::Direct(addr)))
}

/// Does the TLS handshake, if the rendezvous needs it, and the upgrade.
async fn open_over(
    rendezvous: &Rendezvous,
    config: &super::SocketConfig,
    deadline: &Deadline,
    mut io: Io,
) -> Result<WebSocket, LinkError> {
    if rendezvous.is_secure() {
        let handshake = tls_handshake(rendezvous, &config.native.tls, io);
        let tls = deadline.stage("the TLS handshake", handshake).await?;
        io = Io::Tls(Box::new(tls));
    }
    let upgrade = upgrade(rendezvous, config, io);
    deadline.stage("the WebSocket upgrade", upgrade).await
}

/// Closes a WebSocket in a new task.
pub(super) fn close(mut ws: WebSocket, code: CloseCode) {
    tokio::spawn(async move { timeout_at(now() + CLOSE_TIMEOUT, ws.finish(code, "")).await });
}

pub(in crate::link) async fn resolve(
    rendezvous: &Rendezvous,
) -> Result<Vec<SocketAddr>, LinkError> {
    let port = rendezvous.port();
    let (name, wanted): (&str, fn(&SocketAddr) -> bool) = match rendezvous.host() {
        Host::Ip4(ip) => return Ok(vec![(*ip, port).into()]),
        Host::Ip6(ip) => return Ok(vec![(*ip, port).into()]),
        Host::Dns(name) | Host::Dnsaddr(name) => (name, |_| true),
        Host::Dns4(name) => (name, SocketAddr::is_ipv4),
        Host::Dns6(name) => (name, SocketAddr::is_ipv6),
    };
    let found = tokio::net::lookup_host((name, port)).await;
    let found = found.map_err(|error| LinkError::Resolve {
        host: name.to_owned(),
        error: Arc::new(error),
    })?;
    let addresses: Vec<_> = found.filter(wanted).collect();
    if addresses.is_empty() {
        return Err(LinkError::NoAddress(name.to_owned()));
    }
    Ok(addresses)
}

async fn connect_tcp(
    addresses: &[SocketAddr],
    routes: &mut Routes,
) -> io::Result<(TcpStream, SocketAddr)> {
    let (tcp, addr) = connect::connect(addresses, routes).await?;
    tcp.set_nodelay(true)?;
    Ok((tcp, addr))
}

async fn tls_handshake(
    rendezvous: &Rendezvous,
    config: &Arc<ClientConfig>,
    io: Io,
) -> Result<TlsStream<Io>, LinkError> {
    let name = match (rendezvous.server_name(), rendezvous.host().ip()) {
        (Some(name), _) => ServerName::try_from(name.to_owned()).ok(),
        (None, ip) => ip.map(ServerName::from),
    };
    let name = name.ok_or_else(|| LinkError::Resolve {
        host: rendezvous.server_name().unwrap_or_default().to_owned(),
        error: Arc::new(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a DNS name",
        )),
    })?;
    let connector = TlsConnector::from(config.clone());
    let connected = connector.connect(name, io).await;
    connected.map_err(|error| tls_error(rendezvous, error))
}

fn tls_error(rendezvous: &Rendezvous, error: io::Error) -> LinkError {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(tls) = tls else {
        return LinkError::TlsHandshake(Arc::new(error));
    };
    let mut tls = tls.clone();
    if let rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
        presented,
        ..
    }) = &mut tls
    {
        // `source()` shows these names too, and they come from a certificate that is not trusted.
        for name in presented {
            *name = Words(&*name).to_string();
        }
    }
    let error = Cause::new(tls.clone());
    match tls {
        rustls::Error::InvalidMessage(_) => LinkError::NotTls(error),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) if rendezvous.server_name().is_none() => LinkError::TlsWithoutName(error),
        _ => LinkError::Tls(error),
    }
}

async fn upgrade(
    rendezvous: &Rendezvous,
    config: &super::SocketConfig,
    io: Io,
) -> Result<WebSocket, LinkError> {
    let url = rendezvous.to_string();
    let asked = upgrade::Request {
        authority: url.split_once("://").map_or(&*url, |(_, rest)| rest),
        path: engine_io::UPGRADE_PATH,
        token: config.tokens.of(rendezvous),
    };
    let upgraded = upgrade::upgrade(io, &asked, config.message_bytes);
    let failed = |error| LinkError::Upgrade(Arc::new(error));
    upgraded.await.map_err(failed)
}

/// A TCP stream with or without TLS. With TLS to a proxy, there can be TLS within TLS.
#[derive(Debug)]
pub(in crate::link) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<Self>>),
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
