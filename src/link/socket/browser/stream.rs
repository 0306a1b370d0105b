//! `WebSocketStream`, which has back-pressure in both directions. Only some browsers have it, and `web-sys` has no
//! stable interface to it, so its properties are looked up by name.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use js_sys::{Array, Function, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};

use super::{NO_CLOSE_FRAME, Target, closed, hung_up, pace::BUFFERED};
use crate::{
    error::LinkError,
    link::socket::CLOSE_TIMEOUT,
    runtime::{now, timeout_at},
    websocket::{Message, ReadError},
};

/// The maximum number of writes in progress. With several, the browser has something to send while it reports that one
/// is done.
const WRITES: usize = 4;
/// The number of messages that are requested at once. Two messages are one item.
const READS: usize = 8;
/// The least length of a message for which a buffer is reused, in bytes.
const LARGE: usize = 4 * 1024;
/// The number of buffers kept for sending: one for each write in progress.
const SPARE: usize = WRITES;

pub(in crate::link) struct Streaming {
    socket: JsValue,
    target: Target,
    limit: usize,
    /// The readable and writable sides, when the stream is open.
    sides: Option<Sides>,
    end: End,
    /// Whether nothing more can be read.
    is_over: bool,
    received: u64,
}

/// The close that the browser reports.
enum End {
    Ahead(JsFuture),
    Come { code: u16, reason: String },
    Told,
}

struct Sides {
    reader: Reader,
    reads: VecDeque<JsFuture>,
    writer: Method,
    queue: VecDeque<Chunk>,
    writes: VecDeque<(JsFuture, Chunk)>,
    /// The size of `queue` and `writes`, in bytes.
    queued: usize,
    /// The last text that was written. The text before each item of a connection is the same.
    text: Option<(String, JsValue)>,
    /// Buffers that were already written. It takes the browser time to allocate and clear new ones.
    spare: Vec<Uint8Array>,
    /// Whether something could not be written.
    is_broken: bool,
}

/// A piece of data to write.
struct Chunk {
    value: JsValue,
    /// The length in bytes.
    len: usize,
    /// The buffer that contains it.
    buffer: Option<Uint8Array>,
}

/// A method that is looked up once.
struct Method {
    this: JsValue,
    function: Function,
}

impl Method {
    fn of(this: JsValue, name: &str) -> Result<Self, JsValue> {
        let function = Reflect::get(&this, &name.into())?.dyn_into()?;
        Ok(Self { this, function })
    }
}

/// The readable side, and the property names of a read's result.
struct Reader {
    read: Method,
    done: JsValue,
    value: JsValue,
}

/// Returns whether this browser has `WebSocketStream`.
pub(super) fn is_there() -> bool {
    constructor().is_some()
}

fn constructor() -> Option<Function> {
    get(&js_sys::global(), "WebSocketStream")?.dyn_into().ok()
}

fn get(object: &JsValue, name: &str) -> Option<JsValue> {
    let value = Reflect::get(object, &name.into()).ok()?;
    (!value.is_undefined() && !value.is_null()).then_some(value)
}

/// Calls a method of a JavaScript object.
fn call(object: &JsValue, name: &str, arguments: &[&JsValue]) -> Result<JsValue, JsValue> {
    let method: Function = Reflect::get(object, &name.into())?.dyn_into()?;
    Reflect::apply(
        &method,
        object,
        &arguments.iter().copied().collect::<Array>(),
    )
}

/// Returns the future of a promise that a method or a property gave.
fn promised(value: Result<JsValue, JsValue>) -> Result<JsFuture, JsValue> {
    Ok(JsFuture::from(value?.dyn_into::<Promise>()?))
}

impl Streaming {
    /// Starts to open a `WebSocketStream`.
    ///
    /// # Errors
    /// Returns [`LinkError::NotAllowed`] if the browser does not allow it.
    pub(super) fn new(target: Target, limit: usize) -> Result<Self, LinkError> {
        let refused = |error: JsValue| target.not_allowed(&error);
        let constructor = constructor().ok_or_else(|| refused(JsValue::UNDEFINED))?;
        let arguments = Array::of1(&target.url.as_str().into());
        let socket = Reflect::construct(&constructor, &arguments).map_err(refused)?;
        let ended = promised(Reflect::get(&socket, &"closed".into())).map_err(refused)?;
        Ok(Self {
            socket,
            target,
            limit,
            sides: None,
            end: End::Ahead(ended),
            is_over: false,
            received: 0,
        })
    }

    /// Waits until the stream is open.
    pub(super) async fn opened(&mut self) -> Result<(), LinkError> {
        let sides = async {
            let opened = promised(Reflect::get(&self.socket, &"opened".into()))?.await?;
            let side =
                |name: &str, lock: &str| call(&Reflect::get(&opened, &name.into())?, lock, &[]);
            Ok::<_, JsValue>(Sides {
                reader: Reader {
                    read: Method::of(side("readable", "getReader")?, "read")?,
                    done: "done".into(),
                    value: "value".into(),
                },
                reads: VecDeque::new(),
                writer: Method::of(side("writable", "getWriter")?, "write")?,
                queue: VecDeque::new(),
                writes: VecDeque::new(),
                queued: 0,
                text: None,
                spare: Vec::new(),
                is_broken: false,
            })
        };
        let sides = sides.await;
        self.sides = Some(
            sides.map_err(|error| match super::is_security_error(&error) {
                true => self.target.not_allowed(&error),
                false => self.target.not_opened(),
            })?,
        );
        Ok(())
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, ReadError>>> {
        loop {
            if self.is_over {
                return self.poll_ended(cx);
            }
            let Some(sides) = &mut self.sides else {
                return Poll::Pending;
            };
            match sides.poll_read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(value)) => {
                    let message = super::message(&value, self.limit);
                    self.received += message.as_ref().map_or(0, super::len) as u64;
                    return Poll::Ready(Some(message));
                }
                Poll::Ready(None) => self.is_over = true,
            }
        }
    }

    /// Returns whether the stream is closed.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> bool {
        let End::Ahead(end) = &mut self.end else {
            return true;
        };
        let Poll::Ready(Ok(how) | Err(how)) = Pin::new(end).poll(cx) else {
            return false;
        };
        let code = get(&how, "closeCode").and_then(|code| code.as_f64());
        let reason = get(&how, "reason").and_then(|reason| reason.as_string());
        self.end = End::Come {
            // A close code has 16 bits.
            code: code.map_or(NO_CLOSE_FRAME, |code| code as u16),
            reason: reason.unwrap_or_default(),
        };
        true
    }

    /// Returns the close once.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, ReadError>>> {
        if !self.poll_end(cx) {
            return Poll::Pending;
        }
        Poll::Ready(match std::mem::replace(&mut self.end, End::Told) {
            End::Come { code, reason } => closed(code, &reason).map(Ok),
            End::Ahead(_) | End::Told => None,
        })
    }

    pub(super) fn send_text(&mut self, text: &str) {
        self.push(|sides| sides.text(text));
    }

    pub(super) fn send_bytes(&mut self, data: &[u8]) {
        self.push(|sides| sides.bytes(data));
    }

    fn push(&mut self, chunk: impl FnOnce(&mut Sides) -> Chunk) {
        let is_closed = !matches!(self.end, End::Ahead(_));
        match &mut self.sides {
            Some(sides) if is_closed => sides.is_broken = true,
            Some(sides) => {
                let chunk = chunk(sides);
                sides.queued += chunk.len;
                sides.queue.push_back(chunk);
            }
            None => {}
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.sides.as_ref().map_or(0, |sides| sides.queued)
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn lost(&self) -> Option<io::Error> {
        let is_lost = matches!(self.end, End::Come { code, .. } if code == NO_CLOSE_FRAME);
        is_lost.then(hung_up)
    }

    /// Writes everything. Data left when the WebSocket closes is never written: reading reports the close, and the data
    /// before it.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // With this limit, the browser always has something to send.
        self.poll_until(cx, BUFFERED as usize)
    }

    /// Becomes ready when the browser has all data, and at most `left` bytes wait there.
    fn poll_until(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<io::Result<()>> {
        let is_closed = self.poll_end(cx);
        let Some(sides) = &mut self.sides else {
            return Poll::Ready(Ok(()));
        };
        if is_closed {
            sides.close();
        }
        sides.poll_flush(cx, left).map(Ok)
    }

    /// Closes the stream in a new task when all data is written.
    pub(super) fn close(mut self, code: u16) {
        spawn_local(async move {
            let all = poll_fn(|cx| self.poll_until(cx, 0));
            // The stream is closed in any case.
            let _ = timeout_at(now() + CLOSE_TIMEOUT, all).await;
            let how = Object::new();
            // If the code cannot be set, the stream is closed without one.
            let _ = Reflect::set(&how, &"closeCode".into(), &code.into());
            let _ = call(&self.socket, "close", &[&how]);
        });
    }
}

impl Sides {
    /// Returns the next value; `None` at the end. Several reads are requested at once, so that received messages are
    /// available at once.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<JsValue>> {
        while self.reads.len() < READS {
            let Reader { read, .. } = &self.reader;
            match promised(read.function.call0(&read.this)) {
                Ok(read) => self.reads.push_back(read),
                Err(_) => return Poll::Ready(None),
            }
        }
        let Some(read) = self.reads.front_mut() else {
            return Poll::Ready(None);
        };
        let Poll::Ready(chunk) = Pin::new(read).poll(cx) else {
            return Poll::Pending;
        };
        self.reads.pop_front();
        Poll::Ready(chunk.ok().and_then(|chunk| self.reader.value(&chunk)))
    }

    fn text(&mut self, text: &str) -> Chunk {
        let last = self.text.as_ref().filter(|(last, _)| last == text);
        let value = last.map_or_else(|| text.into(), |(_, value)| value.clone());
        if last.is_none() {
            self.text = Some((text.to_owned(), value.clone()));
        }
        Chunk {
            value,
            len: text.len(),
            buffer: None,
        }
    }

    fn bytes(&mut self, data: &[u8]) -> Chunk {
        let len = data.len();
        let Some(length) = u32::try_from(len).ok().filter(|_| len >= LARGE) else {
            return Chunk {
                value: Uint8Array::from(data).into(),
                len,
                buffer: None,
            };
        };
        let is_enough = |buffer: &Uint8Array| buffer.length() >= length;
        let spare = self.spare.iter().position(is_enough);
        let buffer = spare.map_or_else(
            || Uint8Array::new_with_length(length.next_power_of_two()),
            |spare| self.spare.swap_remove(spare),
        );
        let value = buffer.subarray(0, length);
        value.copy_from(data);
        Chunk {
            value: value.into(),
            len,
            buffer: Some(buffer),
        }
    }

    /// Handles that the chunk is written, and keeps its buffer.
    fn reuse(&mut self, chunk: Chunk) {
        self.queued = self.queued.saturating_sub(chunk.len);
        let buffer = chunk.buffer.filter(|_| self.spare.len() < SPARE);
        self.spare.extend(buffer);
    }

    /// Becomes ready when all data is being written, and at most `left` bytes are not written yet.
    fn poll_flush(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<()> {
        if self.is_broken {
            return Poll::Pending;
        }
        loop {
            while let Some((write, _)) = self.writes.front_mut() {
                match Pin::new(write).poll(cx) {
                    Poll::Ready(Ok(_)) => {
                        if let Some((_, chunk)) = self.writes.pop_front() {
                            self.reuse(chunk);
                        }
                    }
                    Poll::Ready(Err(_)) => return self.broken(),
                    Poll::Pending => break,
                }
            }
            if self.writes.len() >= WRITES && !self.queue.is_empty() {
                return Poll::Pending;
            }
            let Some(chunk) = self.queue.pop_front() else {
                return match self.queued <= left {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                };
            };
            let Method { this, function } = &self.writer;
            match promised(function.call1(this, &chunk.value)) {
                Ok(write) => self.writes.push_back((write, chunk)),
                Err(_) => return self.broken(),
            }
        }
    }

    /// Handles that something could not be written.
    fn broken(&mut self) -> Poll<()> {
        self.close();
        self.is_broken = true;
        Poll::Pending
    }

    /// Handles that nothing more can be written.
    fn close(&mut self) {
        self.is_broken |= !self.queue.is_empty() || !self.writes.is_empty();
        self.queue.clear();
        self.writes.clear();
        self.queued = 0;
    }
}

impl Reader {
    /// Returns the value that was read; `None` at the end.
    fn value(&self, read: &JsValue) -> Option<JsValue> {
        let is_done = Reflect::get(read, &self.done).ok()?.is_truthy();
        let value = Reflect::get(read, &self.value).ok()?;
        (!is_done && !value.is_undefined() && !value.is_null()).then_some(value)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        // On a closed stream this does nothing.
        let _ = call(&self.socket, "close", &[]);
    }
}
