//! The `WebSocket` that every browser has. It has no back-pressure. Received data waits here, up to a limit. The amount
//! that waits to be sent must be polled.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{FutureExt as _, channel::oneshot};
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{BinaryType, CloseEvent, MessageEvent};

use super::{
    NO_CLOSE_FRAME, Target, hung_up, len,
    pace::{BUFFERED, Pace},
    told,
};
use crate::{
    error::LinkError,
    runtime::{Timer, is_hidden, now, soon},
    websocket::{Message, ReadError},
};

/// The maximum of unread data, in bytes: sixteen times what a connection holds for its reader.
const UNREAD: usize = 16 * 1024 * 1024;
/// The amount of unread data, in bytes, at which the link is given up.
const MOST_UNREAD: usize = 4 * UNREAD;
/// The cost of a message in addition to its bytes.
const OVERHEAD: usize = 64;

pub(in crate::link) struct Plain {
    socket: web_sys::WebSocket,
    target: Target,
    shared: Rc<RefCell<Shared>>,
    /// The number of bytes that were passed to the browser.
    sent: u64,
    /// The error if the browser refused to send something.
    failed: Option<io::Error>,
    pace: Pace,
    asker: Asker,
    _handlers: Handlers,
}

#[derive(Default)]
struct Shared {
    open: bool,
    inbox: VecDeque<Result<Message, ReadError>>,
    /// The size of `inbox`, in bytes.
    unread: usize,
    /// The amount of unread data for which a connection was already given up, in bytes. The limit applies only to the
    /// excess.
    paid: usize,
    received: u64,
    closed: Option<Closed>,
    waker: Option<Waker>,
}

/// The close of the WebSocket.
struct Closed {
    code: u16,
    reason: String,
    /// Whether the close was already reported.
    told: bool,
}

impl Shared {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn register(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
    }

    fn push(&mut self, message: Result<Message, ReadError>) {
        let len = message.as_ref().map_or(0, len);
        self.received += len as u64;
        self.unread += len + OVERHEAD;
        self.inbox.push_back(message);
        self.wake();
    }

    fn pop(&mut self) -> Option<Result<Message, ReadError>> {
        let message = self.inbox.pop_front()?;
        let len = message.as_ref().map_or(0, len);
        self.unread = self.unread.saturating_sub(len + OVERHEAD);
        self.paid = self.paid.min(self.unread);
        Some(message)
    }
}

/// The callbacks for the browser. They live as long as the socket.
struct Handlers {
    _open: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

impl Plain {
    /// Starts to open a WebSocket.
    ///
    /// # Errors
    /// Returns [`LinkError::NotAllowed`] if the browser does not allow it.
    pub(super) fn new(target: Target, limit: usize) -> Result<Self, LinkError> {
        let socket = web_sys::WebSocket::new(&target.url);
        let socket = socket.map_err(|error| target.not_allowed(&error))?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let shared = Rc::<RefCell<Shared>>::default();
        let handlers = Handlers::new(&socket, &shared, limit);
        Ok(Self {
            failed: None,
            pace: Pace::default(),
            asker: Asker::default(),
            socket,
            target,
            shared,
            sent: 0,
            _handlers: handlers,
        })
    }

    /// Waits until the WebSocket is open.
    pub(super) async fn opened(&mut self) -> Result<(), LinkError> {
        std::future::poll_fn(|cx| {
            let mut shared = self.shared.borrow_mut();
            shared.register(cx);
            match (shared.open, &shared.closed) {
                (true, _) => Poll::Ready(Ok(())),
                (false, Some(_)) => Poll::Ready(Err(self.target.not_opened())),
                (false, None) => Poll::Pending,
            }
        })
        .await
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, ReadError>>> {
        let mut shared = self.shared.borrow_mut();
        if let Some(message) = shared.pop() {
            return Poll::Ready(Some(message));
        }
        let Some(closed) = &mut shared.closed else {
            shared.register(cx);
            return Poll::Pending;
        };
        if std::mem::replace(&mut closed.told, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(super::closed(closed.code, &closed.reason).map(Ok))
    }

    pub(super) fn send_text(&mut self, text: &str) {
        let sent = self.socket.send_with_str(text);
        self.sent(text.len(), sent);
    }

    pub(super) fn send_bytes(&mut self, data: &[u8]) {
        let sent = self.socket.send_with_u8_array(data);
        self.sent(data.len(), sent);
    }

    /// Counts sent bytes and keeps an error. A closed socket accepts all data, and reading reports the close.
    fn sent(&mut self, bytes: usize, result: Result<(), JsValue>) {
        self.sent += bytes as u64;
        if let Err(error) = result {
            self.failed = Some(io::Error::other(told(&error)));
        }
    }

    pub(super) fn queued(&self) -> usize {
        usize::try_from(self.socket.buffered_amount()).unwrap_or(usize::MAX)
    }

    pub(super) fn received(&self) -> u64 {
        self.shared.borrow().received
    }

    /// Returns whether too much is unread. Most of the unread data belongs to the connection that is given up for it.
    /// So the next connection is given up only when as much again has come.
    pub(super) fn is_overfull(&self) -> bool {
        let mut shared = self.shared.borrow_mut();
        let is_overfull = shared.unread > shared.paid.saturating_add(UNREAD);
        if is_overfull {
            shared.paid = shared.unread;
        }
        is_overfull
    }

    pub(super) fn lost(&self) -> Option<io::Error> {
        let shared = self.shared.borrow();
        if shared.unread > MOST_UNREAD {
            let text = "too much data is unread: this page reads too slowly, and a browser cannot make the other end wait";
            return Some(io::Error::other(text));
        }
        let closed = shared.closed.as_ref()?;
        (closed.code == NO_CLOSE_FRAME).then(hung_up)
    }

    /// Writes everything. Data left when the WebSocket closes is never written: reading reports the close, and the data
    /// before it.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        // Reading may be paused at the moment, and new data must be noticed all the same.
        self.shared.borrow_mut().register(cx);
        let queued = self.queued() as u64;
        if self.shared.borrow().closed.is_some() && queued > 0 {
            return Poll::Pending;
        }
        if queued == 0 {
            self.pace.rest();
            return self.done();
        }
        let now = now();
        self.pace.note(self.sent.saturating_sub(queued), now);
        if queued <= BUFFERED {
            return self.done();
        }
        // The browser takes time to answer this, so it is not asked earlier.
        let is_hidden = is_hidden();
        if queued <= self.pace.buffered(is_hidden) {
            return self.done();
        }
        let pause = self.pace.pause(queued, is_hidden, now);
        self.asker.wake_after(pause, cx);
        Poll::Pending
    }

    /// Stops polling, because the write is done.
    fn done(&mut self) -> Poll<io::Result<()>> {
        self.asker.timer.stop();
        Poll::Ready(Ok(()))
    }

    pub(super) fn close(&self, code: u16) {
        let _ = self.socket.close_with_code(code);
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        // On a closed socket this does nothing.
        let _ = self.socket.close();
    }
}

impl Handlers {
    fn new(socket: &web_sys::WebSocket, shared: &Rc<RefCell<Shared>>, limit: usize) -> Self {
        let this = shared.clone();
        let open = Closure::<dyn FnMut()>::new(move || {
            let mut shared = this.borrow_mut();
            shared.open = true;
            shared.wake();
        });
        let this = shared.clone();
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            this.borrow_mut().push(super::message(&event.data(), limit));
        });
        let this = shared.clone();
        let close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            let mut shared = this.borrow_mut();
            shared.closed = Some(Closed {
                code: event.code(),
                reason: event.reason(),
                told: false,
            });
            shared.wake();
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        Self {
            _open: open,
            _message: message,
            _close: close,
        }
    }
}

/// Wakes the task to check how much is still to be sent.
#[derive(Default)]
struct Asker {
    answer: Option<oneshot::Receiver<()>>,
    timer: Timer,
}

impl Asker {
    fn wake_after(&mut self, pause: Option<Duration>, cx: &mut Context<'_>) {
        let Some(pause) = pause else {
            return self.wake_soon(cx);
        };
        self.answer = None;
        if self.timer.poll(now() + pause, cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn wake_soon(&mut self, cx: &mut Context<'_>) {
        let answer = self.answer.get_or_insert_with(soon);
        if answer.poll_unpin(cx).is_ready() {
            // This one is for the next wake-up.
            *answer = soon();
            if answer.poll_unpin(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }
}
