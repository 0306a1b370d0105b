//! `WebSocketStream`, which has back-pressure both ways. Only some browsers have it, and `web-sys` has no stable interface
//! to it: its properties are looked up by name.

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

/// Writes that may be under way at one time: the browser has something to go on with while it tells that one is done.
const WRITES: usize = 4;
/// Messages that are asked for at once: two are an item.
const READS: usize = 8;
/// Shorter ones are not worth it to keep their memory.
const LARGE: usize = 4 * 1024;
/// How many buffers are kept for what is sent: those of the writes that are under way.
const SPARE: usize = WRITES;

pub(in crate::link) struct Streaming {
    socket: JsValue,
    target: Target,
    limit: usize,
    /// Its readable and writable sides, once it is open.
    sides: Option<Sides>,
    end: End,
    /// Nothing more can be read.
    is_over: bool,
    received: u64,
}

/// What the browser tells of the end.
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
    /// What is in both, in bytes.
    queued: usize,
    /// What was written last, if it was text: that before each item of a connection is the same.
    text: Option<(String, JsValue)>,
    /// What has been written: the browser takes its time to make and to clear new ones.
    spare: Vec<Uint8Array>,
    /// Something could not be written.
    is_broken: bool,
}

/// Something to be written.
struct Chunk {
    value: JsValue,
    /// In bytes.
    len: usize,
    /// What it is part of.
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

/// The side that is read, and the names of what a read gives.
struct Reader {
    read: Method,
    done: JsValue,
    value: JsValue,
}

/// Whether this browser has it.
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

/// Calls a method.
fn call(object: &JsValue, name: &str, arguments: &[&JsValue]) -> Result<JsValue, JsValue> {
    let method: Function = Reflect::get(object, &name.into())?.dyn_into()?;
    Reflect::apply(
        &method,
        object,
        &arguments.iter().copied().collect::<Array>(),
    )
}

/// What a method or a property promises.
fn promised(value: Result<JsValue, JsValue>) -> Result<JsFuture, JsValue> {
    Ok(JsFuture::from(value?.dyn_into::<Promise>()?))
}

impl Streaming {
    /// Begins to open one.
    ///
    /// # Errors
    /// [`LinkError::NotAllowed`] if the browser does not.
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

    /// Waits until it is open.
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

    /// Whether it is closed.
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
            // It is one of 16 bits.
            code: code.map_or(NO_CLOSE_FRAME, |code| code as u16),
            reason: reason.unwrap_or_default(),
        };
        true
    }

    /// How it was closed, once.
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

    /// What is left of a connection that is closed is never written: reading tells that, and what came before.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It always has something to go on with.
        self.poll_until(cx, BUFFERED as usize)
    }

    /// Ready when the browser has all, and no more than `left` bytes wait there.
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

    /// Closes it when all is written, in a task.
    pub(super) fn close(mut self, code: u16) {
        spawn_local(async move {
            let all = poll_fn(|cx| self.poll_until(cx, 0));
            // It is closed in any case.
            let _ = timeout_at(now() + CLOSE_TIMEOUT, all).await;
            let how = Object::new();
            // It is closed without a code if that cannot be set.
            let _ = Reflect::set(&how, &"closeCode".into(), &code.into());
            let _ = call(&self.socket, "close", &[&how]);
        });
    }
}

impl Sides {
    /// What comes next; `None` at the end. Several are asked for at once, so that those that have come are there at once.
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

    /// The chunk is written.
    fn reuse(&mut self, chunk: Chunk) {
        self.queued = self.queued.saturating_sub(chunk.len);
        let buffer = chunk.buffer.filter(|_| self.spare.len() < SPARE);
        self.spare.extend(buffer);
    }

    /// Ready when all is being written, and no more than `left` bytes are not yet.
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

    /// Something could not be written.
    fn broken(&mut self) -> Poll<()> {
        self.close();
        self.is_broken = true;
        Poll::Pending
    }

    /// Nothing more can be written.
    fn close(&mut self) {
        self.is_broken |= !self.queue.is_empty() || !self.writes.is_empty();
        self.queue.clear();
        self.writes.clear();
        self.queued = 0;
    }
}

impl Reader {
    /// What was read; `None` at the end.
    fn value(&self, read: &JsValue) -> Option<JsValue> {
        let is_done = Reflect::get(read, &self.done).ok()?.is_truthy();
        let value = Reflect::get(read, &self.value).ok()?;
        (!is_done && !value.is_undefined() && !value.is_null()).then_some(value)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        // Closed already, it does nothing.
        let _ = call(&self.socket, "close", &[]);
    }
}
