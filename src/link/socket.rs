//! Opening the WebSocket to a rendezvous: one over a TCP stream, or the browser's own.

#[cfg(target_arch = "wasm32")]
mod browser;
#[cfg(not(target_arch = "wasm32"))]
mod native;
// This module does not depend on a browser.
#[cfg(all(test, not(target_arch = "wasm32")))]
#[path = "socket/browser/pace.rs"]
mod pace;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use web_time::Instant;

#[cfg(target_arch = "wasm32")]
use self::browser as imp;
pub(super) use self::imp::{GATHERED, Routes, WebSocket};
#[cfg(not(target_arch = "wasm32"))]
use self::native as imp;
use crate::{
    address::Rendezvous,
    config::Config,
    error::LinkError,
    protocol::{ProtocolError, engine_io, excerpt, socket_io},
    runtime::{now, timeout_at},
    token::Tokens,
    websocket::{CloseCode, Message, ReadError},
};

#[cfg(all(feature = "probe", not(target_arch = "wasm32")))]
pub use self::imp::probe;
#[cfg(not(target_arch = "wasm32"))]
pub(super) use self::imp::resolve;

/// The maximum number of meaningless messages, such as WebSocket pings, before each of the two packets that open a
/// link.
const MAX_ASIDES: usize = 32;

/// The maximum time for closing a link. Nothing should wait for a server that may be gone.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The part of the configuration that opening a link needs.
#[derive(Clone)]
pub(crate) struct SocketConfig {
    #[cfg(not(target_arch = "wasm32"))]
    native: imp::Native,
    connect_timeout: Duration,
    message_bytes: usize,
    tokens: Tokens,
}

impl SocketConfig {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            #[cfg(not(target_arch = "wasm32"))]
            native: imp::Native::new(config),
            connect_timeout: config.connect_timeout,
            message_bytes: config.limits.message_bytes,
            tokens: config.tokens.clone(),
        }
    }

    /// Returns whether a rendezvous is reached through a proxy, which then looks up its name.
    #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
    pub(super) fn is_proxied(&self, rendezvous: &Rendezvous) -> bool {
        self.native.is_proxied(rendezvous)
    }
}

/// Opens a link: a WebSocket, natively by name resolution, TCP, TLS and the upgrade; then the Engine.IO open packet and
/// the namespace. All of this must end within the connect timeout. Dropping the future abandons the attempt.
///
/// `permitted` gets the addresses of the host, if they are known, and returns those that may be connected to. `routes`
/// records which of them worked.
pub(super) async fn open(
    rendezvous: &Rendezvous,
    config: &SocketConfig,
    routes: &mut Routes,
    permitted: impl FnOnce(Vec<SocketAddr>) -> Result<Vec<SocketAddr>, LinkError>,
) -> Result<(WebSocket, engine_io::Open), LinkError> {
    let deadline = Deadline::after(config.connect_timeout);
    let connecting = imp::connect(rendezvous, config, routes, &deadline, permitted);
    let (ws, route) = connecting.await?;
    let opened = begin(ws, &deadline).await?;
    routes.good(route);
    Ok(opened)
}

/// Opens the link on a WebSocket.
async fn begin(
    mut ws: WebSocket,
    deadline: &Deadline,
) -> Result<(WebSocket, engine_io::Open), LinkError> {
    let opened = deadline.stage("the Engine.IO handshake", handshake(&mut ws));
    match opened.await {
        Ok(open) => Ok((ws, open)),
        Err(error) => {
            leave(ws, &error);
            Err(error)
        }
    }
}

/// Leaves a link that is lost or not used any more. Answers the server's close frame, or tells the server what it did
/// wrong (RFC 6455, sections 5.5.1 and 7.1.7).
pub(super) fn leave(ws: WebSocket, error: &LinkError) {
    let code = match error {
        LinkError::Closed(_) | LinkError::Restarting => CloseCode::NORMAL,
        LinkError::WebSocket(violation) => violation.close_code(),
        LinkError::Protocol(_) => CloseCode::PROTOCOL_ERROR,
        LinkError::MessageTooLong { .. } => CloseCode::MESSAGE_TOO_BIG,
        // The socket is broken, or the server does not read.
        _ => return,
    };
    imp::close(ws, code);
}

struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    fn after(timeout: Duration) -> Self {
        let at = now() + timeout;
        Self { at, timeout }
    }

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
    if matches!(close, Some((CloseCode::SERVICE_RESTART, _))) {
        return LinkError::Restarting;
    }
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

// Other systems have no listener that answers nobody.
#[cfg(all(test, target_os = "linux"))]
#[path = "socket_tests.rs"]
mod tests;
