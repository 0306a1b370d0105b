use std::task::Waker;

use super::*;

/// Accepts at most `at_once` bytes in one call, and counts the calls.
struct Slow {
    taken: Vec<u8>,
    at_once: usize,
    calls: usize,
    vectored: bool,
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = bytes.len().min(self.at_once);
        self.taken.extend_from_slice(&bytes[..n]);
        self.calls += 1;
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut left = self.at_once;
        for slice in slices {
            let n = slice.len().min(left);
            self.taken.extend_from_slice(&slice[..n]);
            left -= n;
        }
        self.calls += 1;
        Poll::Ready(Ok(self.at_once - left))
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn messages() -> Vec<Message> {
    let binary = |len| Message::Binary(vec![7; len].into());
    vec![
        Message::text(""),
        Message::text("a"),
        binary(SMALL),
        binary(SMALL + 1),
        Message::Ping(Bytes::from_static(b"?")),
        binary(100_000),
        binary(0),
        Message::text("b".repeat(PIECE)),
        Message::text("c".repeat(1000)),
    ]
}

fn flush(writer: &mut Writer, at_once: usize, vectored: bool) -> (Vec<u8>, usize) {
    let mut io = Slow {
        taken: Vec::new(),
        at_once,
        calls: 0,
        vectored,
    };
    let queued = writer.queued();
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(flushed) = writer.poll_flush(&mut io, &mut cx) else {
        panic!("it is always ready")
    };
    flushed.expect("no error");
    assert_eq!((io.taken.len(), writer.queued()), (queued, 0));
    (io.taken, io.calls)
}

#[test]
fn however_little_is_taken_all_comes_out_once() {
    let all = |at_once, vectored| {
        let mut writer = Writer::new(Role::Server);
        messages()
            .into_iter()
            .for_each(|message| writer.push(message));
        flush(&mut writer, at_once, vectored).0
    };
    let whole = all(usize::MAX, true);
    for at_once in [13, 1000, 40_000, usize::MAX] {
        for vectored in [true, false] {
            assert!(all(at_once, vectored) == whole, "{at_once} {vectored}");
        }
    }
}

#[test]
fn many_small_messages_take_one_call() {
    let mut writer = Writer::new(Role::Client);
    for _ in 0..200 {
        writer.push(Message::text("a".repeat(100)));
    }
    assert_eq!(flush(&mut writer, usize::MAX, false).1, 1);
    for _ in 0..20 {
        writer.push(Message::text("a".repeat(100)));
        writer.push_buffer(vec![7; 100_000][..].into());
    }
    assert_eq!(flush(&mut writer, usize::MAX, true).1, 1);
}

#[test]
fn a_client_masks_each_frame_with_another_key() {
    let mut writer = Writer::new(Role::Client);
    let zeros = vec![0; 100_000];
    writer.push(Message::Binary(zeros.clone().into()));
    writer.push_buffer(zeros[..].into());
    let (sent, _) = flush(&mut writer, usize::MAX, true);
    let (first, second) = sent.split_at(sent.len() / 2);
    for frame in [first, second] {
        let key = &frame[10..14];
        let masked = frame[14..].iter().zip(key.iter().cycle());
        assert!(masked.into_iter().all(|(byte, key)| byte == key));
    }
    // Both masks are equal only once in four billion runs.
    assert_ne!(first[10..14], second[10..14]);
}

#[test]
fn encoded_frames_are_those_of_messages() {
    let texts = ["", "a", &"b".repeat(300), &"c".repeat(70_000)];
    let mut writer = Writer::new(Role::Server);
    for text in texts {
        writer.push(Message::text(text));
    }
    let (plain, _) = flush(&mut writer, usize::MAX, true);
    let mut frames = Vec::new();
    for text in texts {
        crate::websocket::encode_text(text, &mut frames);
    }
    writer.push_encoded(frames.into());
    assert!(flush(&mut writer, 999, true).0 == plain);
}
