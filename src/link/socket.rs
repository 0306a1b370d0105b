//! Opening the WebSocket to a rendezvous, and the byte stream under it.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName},
    },
};

use super::connect::{self, Routes};
use crate::{
    address::{Host, Rendezvous},
    crypto,
    error::LinkError,
    protocol::{ProtocolError, engine_io, excerpt, socket_io},
    websocket::{self, CloseCode, Message, ReadError, upgrade},
    words::Words,
};

/// Messages without a meaning, such as WebSocket pings, that may come before each of the two packets
/// that open a link.
const MAX_ASIDES: usize = 32;

/// How long closing a link may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) type WebSocket = websocket::WebSocket<Io>;

/// What opening a link takes from the configuration.
#[derive(Clone)]
pub(crate) struct SocketConfig {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) connect_timeout: Duration,
    pub(crate) message_bytes: usize,
}

/// The TLS configuration: the web's roots and `extra`.
pub(crate) fn tls_config(extra: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // All of them were read when they were configured.
    roots.add_parsable_certificates(extra.iter().cloned());
    let config = ClientConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()
        .expect("its suites are of the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Opens a link: name resolution, TCP, TLS, the WebSocket upgrade, the Engine.IO open packet and the
/// namespace, all within the connect timeout. Dropping the future abandons the attempt.
///
/// `permitted` is given the addresses of the host, and gives those that may be connected to; `routes` keeps
/// which of them were of use.
pub(super) async fn open(
    rendezvous: &Rendezvous,
    config: &SocketConfig,
    routes: &mut Routes,
    permitted: impl FnOnce(Vec<SocketAddr>) -> Result<Vec<SocketAddr>, LinkError>,
) -> Result<(WebSocket, engine_io::Open), LinkError> {
    let deadline = Deadline {
        at: Instant::now() + config.connect_timeout,
        timeout: config.connect_timeout,
    };
    let addresses = deadline
        .stage("name resolution", resolve(rendezvous))
        .await?;
    let addresses = permitted(addresses)?;
    open_at(rendezvous, config, routes, &deadline, &addresses).await
}

/// The part of opening a link that comes after name resolution.
async fn open_at(
    rendezvous: &Rendezvous,
    config: &SocketConfig,
    routes: &mut Routes,
    deadline: &Deadline,
    addresses: &[SocketAddr],
) -> Result<(WebSocket, engine_io::Open), LinkError> {
    let connecting = connect(addresses, routes);
    let (tcp, route) = deadline.stage("connecting", connecting).await?;
    let io = if rendezvous.is_secure() {
        let handshake = tls_handshake(rendezvous, &config.tls, tcp);
        let tls = deadline.stage("the TLS handshake", handshake).await?;
        Io::Tls(Box::new(tls))
    } else {
        Io::Plain(tcp)
    };
    let mut ws = deadline
        .stage("the WebSocket upgrade", upgrade(rendezvous, config, io))
        .await?;
    let opened = deadline.stage("the Engine.IO handshake", handshake(&mut ws));
    match opened.await {
        Ok(open) => {
            routes.good(route);
            Ok((ws, open))
        }
        Err(error) => {
            leave(ws, &error);
            Err(error)
        }
    }
}

/// Leaves a link that is lost or not used any more: answers the server's close frame, or tells what it did wrong (RFC 6455,
/// sections 5.5.1 and 7.1.7). A task does that, because nobody is to wait for a server that may be gone.
pub(super) fn leave(mut ws: WebSocket, error: &LinkError) {
    let code = match error {
        LinkError::Closed(_) => CloseCode::NORMAL,
        LinkError::WebSocket(violation) => violation.close_code(),
        LinkError::Protocol(_) => CloseCode::PROTOCOL_ERROR,
        LinkError::MessageTooLong { .. } => CloseCode::MESSAGE_TOO_BIG,
        // The socket is broken, or the server does not read.
        _ => return,
    };
    tokio::spawn(async move { timeout(CLOSE_TIMEOUT, ws.finish(code, "")).await });
}

struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    async fn stage<T>(
        &self,
        stage: &'static str,
        future: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        let timed_out = |_| LinkError::TimedOut {
            stage,
            timeout: self.timeout,
        };
        timeout_at(self.at, future).await.map_err(timed_out)?
    }
}

pub(super) async fn resolve(rendezvous: &Rendezvous) -> Result<Vec<SocketAddr>, LinkError> {
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

async fn connect(
    addresses: &[SocketAddr],
    routes: &mut Routes,
) -> Result<(TcpStream, SocketAddr), LinkError> {
    let failed = |error| LinkError::Connect(Arc::new(error));
    let connected = connect::connect(addresses, routes).await;
    let (tcp, route) = connected.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    Ok((tcp, route))
}

async fn tls_handshake(
    rendezvous: &Rendezvous,
    config: &Arc<ClientConfig>,
    tcp: TcpStream,
) -> Result<TlsStream<TcpStream>, LinkError> {
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
    let connected = connector.connect(name, tcp).await;
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
        // They are shown by `source()` too, and come from a certificate that nobody vouches for.
        for name in presented {
            *name = Words(&*name).to_string();
        }
    }
    let error = Arc::new(tls.clone());
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
    config: &SocketConfig,
    io: Io,
) -> Result<WebSocket, LinkError> {
    let url = rendezvous.to_string();
    let authority = url.split_once("://").map_or(&*url, |(_, rest)| rest);
    let upgraded = upgrade::upgrade(io, authority, engine_io::UPGRADE_PATH, config.message_bytes);
    let failed = |error| LinkError::Upgrade(Arc::new(error));
    upgraded.await.map_err(failed)
}

/// Waits for `0{…}` and `40`.
async fn handshake(ws: &mut WebSocket) -> Result<engine_io::Open, LinkError> {
    let first = next_text(ws).await?;
    let engine_io::Packet::Open(open) = engine_io::Packet::decode(&first)? else {
        return Err(unexpected("the Engine.IO open packet", &first));
    };
    let second = next_text(ws).await?;
    match engine_io::Packet::decode(&second)? {
        engine_io::Packet::Message(data)
            if socket_io::Packet::decode(data) == Ok(socket_io::Packet::Connect(None)) =>
        {
            Ok(open)
        }
        _ => Err(unexpected("the Socket.IO connect packet", &second)),
    }
}

async fn next_text(ws: &mut WebSocket) -> Result<String, LinkError> {
    for _ in 0..MAX_ASIDES {
        let message = ws.next().await.ok_or(LinkError::Closed(None))?;
        let message = message.map_err(read_error)?;
        match &message {
            Message::Close(close) => return Err(closed(close.as_ref())),
            Message::Binary(_) => return Err(ProtocolError::UnannouncedBinary.into()),
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
        if let Some(text) = message.as_text() {
            return Ok(text.to_owned());
        }
    }
    Err(LinkError::Flooded)
}

fn unexpected(expected: &'static str, received: &str) -> LinkError {
    let received = excerpt(received, 64);
    ProtocolError::Start { expected, received }.into()
}

pub(super) fn closed(close: Option<&(CloseCode, String)>) -> LinkError {
    LinkError::Closed(close.map(|(code, reason)| match &**reason {
        "" => format!("close code {}", u16::from(*code)),
        reason => reason.to_owned(),
    }))
}

pub(super) fn read_error(error: ReadError) -> LinkError {
    match error {
        ReadError::Io(error) => LinkError::Io(Arc::new(error)),
        ReadError::TooLong { len, max } => LinkError::MessageTooLong { len, max },
        ReadError::Violation(error) => LinkError::WebSocket(error),
    }
}

/// TCP, with or without TLS.
#[derive(Debug)]
pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
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

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
