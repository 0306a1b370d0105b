//! The checks of the fuzz target `websocket`. Ordinary tests run them on its corpus and on random input.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{CloseCode, Message, ReadError, Role, WebSocket};

/// The longest message, in bytes.
const LIMIT: usize = 100_000;

/// Tests two WebSockets that communicate with each other, or one that receives the bytes of the input.
///
/// The first byte chooses one of the two, and the size of the pieces in which bytes arrive. In a conversation, each
/// further byte is an action of one end.
pub fn websocket(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let piece = 1 + usize::from(first >> 2) * 40;
    match first & 3 {
        0 => bytes(Role::Client, piece, rest),
        1 => bytes(Role::Server, piece, rest),
        _ => conversation(piece, rest),
    }
}

/// Checks that any bytes cause no panic and are bounded, and that the messages in them are the same after writing and
/// reading them again.
fn bytes(role: Role, piece: usize, data: &[u8]) {
    let (mut near, far) = pair(role, piece);
    far.io.to.borrow_mut().bytes.extend(data);
    far.io.to.borrow_mut().is_closed = true;
    let (messages, is_over) = read(&mut near);
    assert!(is_over, "the bytes have an end");
    let held: usize = messages.iter().map(length).sum();
    assert!(held <= data.len());

    let (mut near, mut far) = pair(role, piece);
    for message in &messages {
        far.send(message.clone());
    }
    assert!(matches!(poll(|cx| far.poll_flush(cx)), Some(Ok(()))));
    far.io.to.borrow_mut().is_closed = true;
    assert_eq!(read(&mut near).0, messages);
}

fn length(message: &Message) -> usize {
    match message {
        Message::Text(data) | Message::Binary(data) | Message::Ping(data) | Message::Pong(data) => {
            data.len()
        }
        Message::Close(close) => close.as_ref().map_or(0, |(_, reason)| 2 + reason.len()),
    }
}

/// One end, and the messages that it has sent and that have not arrived.
struct Party {
    ws: WebSocket<End>,
    sent: VecDeque<Message>,
    /// The pings that it has sent.
    pings: Vec<Bytes>,
    has_closed: bool,
}

impl Party {
    fn new(ws: WebSocket<End>) -> Self {
        Self {
            ws,
            sent: VecDeque::new(),
            pings: Vec::new(),
            has_closed: false,
        }
    }

    fn send(&mut self, message: Message) {
        if self.has_closed {
            return;
        }
        if let Message::Ping(payload) = &message {
            self.pings.push(payload.clone());
        }
        self.sent.push_back(message.clone());
        match message {
            Message::Binary(data) if data.len() % 2 == 1 => self.ws.send_buffer(data[..].into()),
            message => self.ws.send(message),
        }
    }

    fn flush(&mut self) {
        let flushed = poll(|cx| self.ws.poll_flush(cx));
        assert!(matches!(flushed, Some(Ok(()))), "memory takes everything");
    }

    fn close(&mut self, code: u16) {
        if self.has_closed {
            return;
        }
        self.has_closed = true;
        let code = CloseCode(code);
        let closing = pin!(self.ws.close(code, "done"));
        let closed = closing.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(closed, Poll::Ready(Ok(()))));
    }
}

/// Checks that each end receives what the other one sends, in order, that each pong answers a ping, and that nothing
/// comes after a close.
fn conversation(piece: usize, data: &[u8]) {
    let (client, server) = pair(Role::Client, piece);
    let mut parties = [Party::new(client), Party::new(server)];
    for &byte in data.iter().take(2000) {
        let amount = usize::from(byte >> 4);
        if byte & 8 != 0 {
            parties.reverse();
        }
        let [near, far] = &mut parties;
        match byte & 7 {
            0 => near.send(Message::text("é".repeat(amount * 9))),
            1 => near.send(Message::Binary(vec![byte; amount * 6001].into())),
            2 => near.send(Message::Binary(vec![byte; amount].into())),
            3 => near.send(Message::Ping(vec![byte; amount * 8].into())),
            4 => near.flush(),
            5 | 6 => receive(near, far),
            _ if amount == 0 => near.close(1000),
            _ => near.ws.io.from.borrow_mut().piece = 1 + amount * amount * 300,
        }
    }
    let [near, far] = &mut parties;
    for _ in 0..2 {
        near.flush();
        far.flush();
        receive(near, far);
        receive(far, near);
    }
    let lost = |from: &Party, to: &Party| !from.sent.is_empty() && !to.has_closed;
    assert!(!lost(near, far) && !lost(far, near), "not all has come");
}

/// Checks that the messages that arrive at `to` are those that `from` has sent.
fn receive(to: &mut Party, from: &mut Party) {
    let was_closed = to.ws.closed.is_some();
    let (messages, _) = read(&mut to.ws);
    assert!(!was_closed || messages.is_empty(), "after a close");
    for message in messages {
        match message {
            Message::Pong(payload) => assert!(to.pings.contains(&payload)),
            Message::Close(Some((_, reason))) => {
                assert!(from.has_closed && from.sent.is_empty());
                assert!(reason == "done" || to.has_closed, "an answer has no reason");
            }
            message => assert_eq!(Some(message), from.sent.pop_front()),
        }
    }
}

/// Returns all messages that can be read now, and whether nothing more will come.
fn read(ws: &mut WebSocket<End>) -> (Vec<Message>, bool) {
    let mut messages = Vec::new();
    loop {
        match poll(|cx| ws.poll_next(cx)) {
            None => return (messages, false),
            Some(None) => return (messages, true),
            Some(Some(Ok(message))) => messages.push(message),
            Some(Some(Err(error))) => {
                if let ReadError::TooLong { len, max } = error {
                    assert!(max == LIMIT && len > LIMIT);
                }
                let after = poll(|cx| ws.poll_next(cx));
                assert!(matches!(after, Some(None)), "something after an error");
                return (messages, true);
            }
        }
    }
}

fn poll<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Returns a WebSocket of this role, and the WebSocket at its other end.
fn pair(role: Role, piece: usize) -> (WebSocket<End>, WebSocket<End>) {
    let pipe = || {
        let pipe = Pipe {
            piece,
            ..Pipe::default()
        };
        Rc::new(RefCell::new(pipe))
    };
    let (there, back) = (pipe(), pipe());
    let near = End {
        from: back.clone(),
        to: there.clone(),
    };
    let far = End {
        from: there,
        to: back,
    };
    let other = match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    };
    let open = |end, role| WebSocket::new(end, role, LIMIT, BytesMut::new());
    (open(near, role), open(far, other))
}

/// Bytes in transit.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// The maximum number of bytes written or read at once.
    piece: usize,
    is_closed: bool,
}

/// One end of a stream in memory, which accepts everything, in pieces.
#[derive(Debug)]
struct End {
    from: Rc<RefCell<Pipe>>,
    to: Rc<RefCell<Pipe>>,
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.from.borrow_mut();
        if pipe.bytes.is_empty() && !pipe.is_closed {
            return Poll::Pending;
        }
        let n = pipe.piece.min(buf.remaining()).min(pipe.bytes.len());
        let read: Vec<u8> = pipe.bytes.drain(..n).collect();
        buf.put_slice(&read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.to.borrow_mut();
        let n = pipe.piece.min(bytes.len());
        pipe.bytes.extend(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to.borrow_mut().is_closed = true;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_corpus_of_the_fuzz_target_shows_nothing_new() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/websocket");
        let mut replayed = 0;
        for entry in fs::read_dir(corpus).expect("a corpus") {
            let input = fs::read(entry.expect("an entry").path()).expect("an input");
            for len in (0..input.len()).step_by(1 + input.len() / 64) {
                websocket(&input[..len]);
            }
            websocket(&input);
            replayed += 1;
        }
        assert!(replayed > 0, "the corpus is empty");
    }

    proptest! {
        #[test]
        fn frames_in_any_order_and_in_any_pieces_come_as_they_were_sent(
            data in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            websocket(&data);
        }
    }
}
