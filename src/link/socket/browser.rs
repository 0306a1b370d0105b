//! The browser's WebSocket: a `WebSocketStream` in browsers that have it.

mod pace;
mod plain;
mod stream;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    task::{Context, Poll},
};

use js_sys::{JsString, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::DomException;

use self::{plain::Plain, stream::Streaming};
use super::Deadline;
use crate::{
    address::Rendezvous,
    buffer::Buffer,
    error::LinkError,
    protocol::engine_io,
    token::Tokens,
    websocket::{CloseCode, Message, ReadError},
};

/// A placeholder: the browser does not reveal which addresses it connects to.
#[derive(Debug, Default)]
pub(in crate::link) struct Routes;

impl Routes {
    pub(super) fn good(&mut self, (): ()) {}

    pub(in crate::link) fn have_failed(&self) -> bool {
        false
    }

    pub(in crate::link) fn latest(&self) -> Option<IpAddr> {
        None
    }
}

/// The close code that browsers report when the other end hung up without a close frame.
const NO_CLOSE_FRAME: u16 = 1006;
/// The close code that browsers report for a close frame without a code.
const NO_STATUS: u16 = 1005;

/// The number of bytes of frames that are gathered before the socket is written. The browser writes only between two
/// tasks of the page, so no task may run for long.
pub(in crate::link) const GATHERED: usize = pace::BUFFERED as usize;

/// Returns the error if the other end has hung up.
fn hung_up() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// A WebSocket of the browser. It belongs to the task that opened it.
pub(in crate::link) enum WebSocket {
    Stream(Streaming),
    Plain(Plain),
}

/// The URL to open, and the part of it that may be shown. A token in the URL is only for the rendezvous.
struct Target {
    url: String,
    shown: String,
}

impl Target {
    fn new(rendezvous: &Rendezvous, tokens: &Tokens) -> Self {
        let shown = format!("{rendezvous}{}", engine_io::UPGRADE_PATH);
        let url = match tokens.of(rendezvous) {
            // A page cannot set headers for a WebSocket.
            Some(token) => format!("{shown}&token={}", token.percent_encoded()),
            None => shown.clone(),
        };
        Self { url, shown }
    }

    fn not_opened(&self) -> LinkError {
        LinkError::NotOpened {
            url: self.shown.clone(),
        }
    }

    /// Returns the error if the browser does not allow the link. The browser's own message may contain the URL.
    fn not_allowed(&self, error: &JsValue) -> LinkError {
        LinkError::NotAllowed(match self.url == self.shown {
            true => told(error),
            false => "its console shows the reason".to_owned(),
        })
    }
}

/// Opens a WebSocket. `permitted` checks an address; only the browser knows the addresses of a name.
pub(super) async fn connect(
    rendezvous: &Rendezvous,
    config: &super::SocketConfig,
    _: &mut Routes,
    deadline: &Deadline,
    permitted: impl FnOnce(Vec<SocketAddr>) -> Result<Vec<SocketAddr>, LinkError>,
) -> Result<(WebSocket, ()), LinkError> {
    let target = Target::new(rendezvous, &config.tokens);
    if let Some(ip) = address_in(&target.shown) {
        permitted(vec![(ip, rendezvous.port()).into()])?;
    }
    if stream::is_there() {
        let mut socket = Streaming::new(target, config.message_bytes)?;
        deadline.stage("opening", socket.opened()).await?;
        return Ok((WebSocket::Stream(socket), ()));
    }
    let mut socket = Plain::new(target, config.message_bytes)?;
    deadline.stage("opening", socket.opened()).await?;
    Ok((WebSocket::Plain(socket), ()))
}

/// Closes a WebSocket. The browser handles the rest.
pub(super) fn close(ws: WebSocket, code: CloseCode) {
    // A page may close only with 1000 and with application codes.
    let code = match u16::from(code) {
        1000 => 1000,
        code => code + 3000,
    };
    match ws {
        WebSocket::Stream(socket) => socket.close(code),
        WebSocket::Plain(socket) => socket.close(code),
    }
}

/// The same methods as those of the WebSocket over TCP.
impl WebSocket {
    pub(in crate::link) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, ReadError>>> {
        match self {
            Self::Stream(socket) => socket.poll_next(cx),
            Self::Plain(socket) => socket.poll_next(cx),
        }
    }

    pub(in crate::link) async fn next(&mut self) -> Option<Result<Message, ReadError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(in crate::link) fn send(&mut self, message: Message) {
        match &message {
            Message::Text(_) => self.send_text(message.as_text().unwrap_or_default()),
            Message::Binary(data) => self.send_bytes(data),
            // The browser sends these itself.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }

    pub(in crate::link) fn send_buffer(&mut self, data: Buffer) {
        self.send_bytes(&data);
    }

    fn send_text(&mut self, text: &str) {
        match self {
            Self::Stream(socket) => socket.send_text(text),
            Self::Plain(socket) => socket.send_text(text),
        }
    }

    fn send_bytes(&mut self, data: &[u8]) {
        match self {
            Self::Stream(socket) => socket.send_bytes(data),
            Self::Plain(socket) => socket.send_bytes(data),
        }
    }

    pub(in crate::link) fn queued(&self) -> usize {
        match self {
            Self::Stream(socket) => socket.queued(),
            Self::Plain(socket) => socket.queued(),
        }
    }

    pub(in crate::link) fn received(&self) -> u64 {
        match self {
            Self::Stream(socket) => socket.received(),
            Self::Plain(socket) => socket.received(),
        }
    }

    /// Returns the reason why the unread data is not usable any more: the connection has broken, or far too much data
    /// has come.
    pub(in crate::link) fn lost(&self) -> Option<io::Error> {
        match self {
            Self::Stream(socket) => socket.lost(),
            Self::Plain(socket) => socket.lost(),
        }
    }

    /// Returns whether too much is unread. A plain WebSocket goes on reading when its data is not taken.
    pub(in crate::link) fn is_overfull(&self) -> bool {
        match self {
            Self::Stream(_) => false,
            Self::Plain(socket) => socket.is_overfull(),
        }
    }

    pub(in crate::link) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Stream(socket) => socket.poll_flush(cx),
            Self::Plain(socket) => socket.poll_flush(cx),
        }
    }
}

fn len(message: &Message) -> usize {
    match message {
        Message::Text(data) | Message::Binary(data) | Message::Ping(data) | Message::Pong(data) => {
            data.len()
        }
        Message::Close(_) => 0,
    }
}

/// Returns the address that the browser connects to, if the URL contains one. The browser normalises all spellings of
/// an address.
fn address_in(url: &str) -> Option<IpAddr> {
    let host = web_sys::Url::new(url).ok()?.hostname();
    if host == "localhost" || host.ends_with(".localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    host.trim_matches(['[', ']']).parse().ok()
}

/// Returns a received message, text or bytes. It is copied only if it is not too long.
fn message(data: &JsValue, max: usize) -> Result<Message, ReadError> {
    let check = |len: u32| match usize::try_from(len).unwrap_or(usize::MAX) {
        len if len > max => Err(ReadError::TooLong { len, max }),
        _ => Ok(()),
    };
    if let Some(text) = data.dyn_ref::<JsString>() {
        check(text.length())?;
        return Ok(Message::text(String::from(text)));
    }
    let bytes = match data.dyn_ref::<Uint8Array>() {
        Some(bytes) => bytes.clone(),
        None => Uint8Array::new(data),
    };
    check(bytes.length())?;
    Ok(Message::Binary(bytes.to_vec().into()))
}

/// Returns the close that the browser reports; `None` if the other end just hung up.
fn closed(code: u16, reason: &str) -> Option<Message> {
    match code {
        NO_CLOSE_FRAME => None,
        NO_STATUS | 0 => Some(Message::Close(None)),
        code => {
            let code = CloseCode::received(code).unwrap_or(CloseCode::PROTOCOL_ERROR);
            Some(Message::Close(Some((code, reason.to_owned()))))
        }
    }
}

/// Returns whether the browser refuses for good.
fn is_security_error(error: &JsValue) -> bool {
    let error = error.dyn_ref::<DomException>();
    error.is_some_and(|error| error.name() == "SecurityError")
}

/// Returns the text of an exception.
fn told(error: &JsValue) -> String {
    if let Some(error) = error.dyn_ref::<DomException>() {
        return format!("{}: {}", error.name(), error.message());
    }
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => format!("{}: {}", error.name(), error.message()),
        None => "no reason is given".to_owned(),
    }
}
