//! Connections to a rendezvous through a proxy: HTTP CONNECT (RFC 9110, section 9.3.6) or SOCKS 5 (RFC 1928), with
//! hyper-util.

use std::{
    error::Error as _,
    future::{Ready, ready},
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::TryFutureExt as _;
use http::Uri;
use hyper_util::{
    client::legacy::connect::proxy::{SocksV5, Tunnel},
    rt::TokioIo,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tower_service::Service;

use super::{Deadline, Io, Route, Routes, connect_tcp};
use crate::{
    address::Rendezvous,
    error::{LinkError, ProxyError},
    protocol::excerpt,
    proxy::{Proxy, Speaks},
    sync::lock,
    words::Words,
};

/// The number of bytes of a proxy's answer that are kept, to report why it refuses.
const KEPT: usize = 512;
/// The maximum length of a quoted refusal, in bytes.
const MAX_STORY: usize = 100;
const MAX_HEADERS: usize = 64;
/// The meanings of a SOCKS 5 proxy's replies from 1 on (RFC 1928, section 6).
const SOCKS_REASONS: [&str; 8] = [
    "general failure",
    "connection not allowed",
    "network unreachable",
    "host unreachable",
    "connection refused",
    "time to live expired",
    "command not supported",
    "address type not supported",
];
/// The SOCKS 5 answer that no offered authentication method is acceptable.
const NO_METHOD: [u8; 2] = [5, 0xff];
/// The SOCKS 5 answer that asks for a user name and a password.
const PASSWORD: [u8; 2] = [5, 2];

/// Returns the address of a host if the proxy does not look it up. This includes a name that is itself an address, or
/// that leads to the proxy's own machine.
pub(super) fn known_address(rendezvous: &Rendezvous) -> Option<IpAddr> {
    let Some(name) = rendezvous.host().name() else {
        return rendezvous.host().ip();
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(ip) = name.parse() {
        return Some(ip);
    }
    // For example 127.1 and 0x7f000001, which many programs treat as addresses. No domain has such an ending.
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with(|first: char| first.is_ascii_digit());
    let is_local = last == "localhost" || is_number;
    is_local.then_some(Ipv4Addr::LOCALHOST.into())
}

/// Connects to the proxy, which then connects to the rendezvous.
pub(super) async fn connect_through(
    (proxy, destination): &(Proxy, Uri),
    tls: &Arc<ClientConfig>,
    routes: &mut Routes,
    deadline: &Deadline,
) -> Result<(Io, Route), LinkError> {
    let failed = |error| LinkError::Proxy {
        proxy: proxy.to_string().into(),
        error,
    };
    let lookup = tokio::net::lookup_host((proxy.host(), proxy.port()));
    let lookup = lookup.map_err(|error| failed(ProxyError::Resolve(Arc::new(error))));
    let found = deadline.stage("looking up the proxy", lookup).await?;
    let addresses: Vec<_> = found.collect();
    let connecting = connect_tcp(&addresses, routes);
    let connecting = connecting.map_err(|error| failed(ProxyError::Connect(Arc::new(error))));
    let (tcp, addr) = deadline
        .stage("connecting to the proxy", connecting)
        .await?;
    let mut io = Io::Plain(tcp);
    if proxy.is_secure() {
        let handshake = tls_handshake(proxy, tls, io);
        let handshake = handshake.map_err(|error| failed(ProxyError::Tls(Arc::new(plain(error)))));
        let tls = deadline.stage("the TLS handshake with the proxy", handshake);
        io = Io::Tls(Box::new(tls.await?));
    }
    let asked = ask(proxy, destination.clone(), io).map_err(failed);
    let io = deadline.stage("the proxy's answer", asked).await?;
    Ok((io, Route::Proxy(addr)))
}

async fn tls_handshake(
    proxy: &Proxy,
    tls: &Arc<ClientConfig>,
    io: Io,
) -> io::Result<TlsStream<Io>> {
    let name = ServerName::try_from(proxy.host().to_owned());
    let name = name.map_err(io::Error::other)?;
    TlsConnector::from(tls.clone()).connect(name, io).await
}

/// Returns the same error, with text from strangers only in the safe form of [`Words`].
fn plain(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Words(error).to_string())
}

/// Asks the proxy for a connection to the rendezvous.
async fn ask(proxy: &Proxy, destination: Uri, io: Io) -> Result<Io, ProxyError> {
    let said = Said::default();
    let io = TokioIo::new(Recorded {
        io,
        said: said.clone(),
    });
    let connected = Connected(Some(io));
    match proxy.speaks.clone() {
        Speaks::Http(credentials) => {
            let mut tunnel = Tunnel::new(proxy.uri.clone(), connected);
            if let Some(credentials) = credentials {
                tunnel = tunnel.with_auth(credentials);
            }
            let answer = tunnel.call(destination).await;
            let io = answer.map_err(|error| {
                let io = error.source().and_then(|source| source.downcast_ref());
                said.http_error(proxy, io)
            })?;
            Ok(io.into_inner().io)
        }
        Speaks::Socks5(credentials) => {
            let mut socks = SocksV5::new(proxy.uri.clone(), connected);
            if let Some((user, password)) = credentials {
                socks = socks.with_auth(user, password);
            }
            let answer = socks.call(destination).await;
            let io = answer.map_err(|error| said.socks_error(proxy, &error.to_string()))?;
            Ok(io.into_inner().io)
        }
    }
}

/// A connector that returns an existing connection.
struct Connected(Option<TokioIo<Recorded>>);

impl Service<Uri> for Connected {
    type Response = TokioIo<Recorded>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(
            self.0
                .take()
                .ok_or_else(|| io::ErrorKind::NotConnected.into()),
        )
    }
}

/// The beginning of a proxy's answer. It is kept because hyper-util reports only that the answer was not good.
#[derive(Debug, Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn add(&self, bytes: &[u8]) {
        let mut said = lock(&self.0);
        let room = KEPT - said.len();
        said.extend(bytes.iter().take(room));
    }

    fn bytes(&self) -> Vec<u8> {
        lock(&self.0).clone()
    }

    /// Returns the reason why an HTTP proxy gave no connection.
    fn http_error(&self, proxy: &Proxy, io: Option<&io::Error>) -> ProxyError {
        let said = self.bytes();
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        // The beginning of a long head is enough.
        let _ = answer.parse(&said);
        match (answer.code, answer.reason) {
            // Tinyproxy answers a wrong password with 401.
            (Some(401 | 407), _) => ProxyError::Credentials {
                given: proxy.has_credentials(),
            },
            (Some(status), reason) if status != 200 => {
                // Some proxies repeat the request, which contains the credentials.
                let reason = reason.filter(|reason| !proxy.is_given_away_by(reason));
                let reason = excerpt(reason.unwrap_or_default(), MAX_STORY);
                ProxyError::Refused { status, reason }
            }
            _ => self.no_answer(proxy, io),
        }
    }

    /// Returns the reason why a SOCKS proxy gave no connection. `words` is the text of hyper-util's error.
    fn socks_error(&self, proxy: &Proxy, words: &str) -> ProxyError {
        // The request does not fit hyper-util's buffer, whatever the proxy has said before.
        if words.contains("serialize") {
            return ProxyError::TooLong;
        }
        let said = self.bytes();
        let given = proxy.has_credentials();
        let is_password_refused =
            said.starts_with(&PASSWORD) && said.get(3).is_some_and(|no| *no != 0);
        if said.starts_with(&NO_METHOD) || (given && is_password_refused) {
            return ProxyError::Credentials { given };
        }
        let reply = if given { 4 } else { 2 };
        let code = said.get(reply..reply + 2).filter(|answer| answer[0] == 5);
        let reason =
            code.and_then(|answer| SOCKS_REASONS.get(usize::from(answer[1]).checked_sub(1)?));
        match (reason, &said[..]) {
            (Some(reason), _) => ProxyError::Socks((*reason).to_owned()),
            // The proxy speaks SOCKS, and then stopped.
            (None, [5, method]) if (*method == 2) == given => ProxyError::HungUp,
            (None, [5, 2, 1, 0]) if given => ProxyError::HungUp,
            _ => self.no_answer(proxy, None),
        }
    }

    fn no_answer(&self, proxy: &Proxy, io: Option<&io::Error>) -> ProxyError {
        let said = self.bytes();
        match io {
            Some(error) => {
                ProxyError::Io(Arc::new(io::Error::new(error.kind(), error.to_string())))
            }
            None if said.is_empty() => ProxyError::HungUp,
            // Some proxies repeat the request, which contains the credentials.
            None if proxy.has_credentials() => ProxyError::NoProxy(String::new()),
            None => ProxyError::NoProxy(excerpt(&String::from_utf8_lossy(&said), MAX_STORY)),
        }
    }
}

/// A connection that keeps the beginning of the received data.
#[derive(Debug)]
struct Recorded {
    io: Io,
    said: Said,
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.said
            .add(buf.filled().get(before..).unwrap_or_default());
        read
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
