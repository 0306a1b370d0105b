use std::sync::{Arc, Mutex, mpsc};

use super::*;

/// A target that fails on request, and accepts at most 4 bytes per write.
#[derive(Clone, Default)]
struct Target(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    written: Vec<u8>,
    fails: bool,
    /// The number of bytes that are accepted before writes fail.
    left: Option<usize>,
}

impl Target {
    fn fail(&self, fails: bool) {
        self.0.lock().expect("no panic").fails = fails;
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").written.clone()).expect("UTF-8")
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().expect("no panic");
        if state.fails || state.left == Some(0) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(state.left.unwrap_or(usize::MAX)).min(4);
        if let Some(left) = &mut state.left {
            *left -= taken;
        }
        state.written.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn line(text: &str) -> Entry {
    Entry {
        dropped: 0,
        line: format!("{text}\n").into_bytes(),
    }
}

#[test]
fn lines_whose_write_fails_are_counted_and_told_of_when_writing_works_again() {
    let target = Target::default();
    let mut writer = Writer::new(target.clone());
    writer.write(line("one"));
    target.fail(true);
    writer.write(line("two"));
    writer.write(line("three"));
    target.fail(false);
    writer.write(line("four"));
    assert_eq!(
        target.text(),
        "one\n2 lines could not be written and are lost\nfour\n"
    );
}

#[test]
fn a_line_that_was_written_in_part_is_not_continued_by_the_next() {
    let target = Target::default();
    let mut writer = Writer::new(target.clone());
    target.0.lock().expect("no panic").left = Some(6);
    writer.write(line("something long"));
    target.0.lock().expect("no panic").left = None;
    writer.write(line("next"));
    assert_eq!(
        target.text(),
        "someth\n1 lines could not be written and are lost\nnext\n"
    );
}

#[test]
fn a_full_queue_drops_lines_and_tells_how_many_at_their_place() {
    let output = Output::new(10);
    for text in ["one", "two", "three", "four", "five"] {
        output.line(text);
    }
    let mut queue = output.0.lock();
    // "three" and its newline do not fit beside the 8 bytes that are queued.
    assert_eq!(queue.bytes, 8);
    assert_eq!(queue.pop(), Some(line("one")));
    assert_eq!(queue.pop(), Some(line("two")));
    let notice = Entry {
        dropped: 3,
        line: Vec::new(),
    };
    assert_eq!(queue.pop(), Some(notice));
    assert_eq!(queue.pop(), None);
}

#[test]
fn a_queue_that_was_full_takes_lines_again_when_it_is_half_empty() {
    let mut queue = Queue {
        entries: VecDeque::new(),
        bytes: 0,
        room: 8,
        dropped: 0,
        is_writing: false,
    };
    for text in ["1", "2", "3", "4", "5"] {
        queue.push(line(text).line);
    }
    assert_eq!(queue.pop(), Some(line("1")));
    queue.push(line("6").line);
    assert_eq!(queue.pop(), Some(line("2")));
    assert_eq!(queue.pop(), Some(line("3")));
    queue.push(line("7").line);
    assert_eq!(queue.pop(), Some(line("4")));
    let after = Entry {
        dropped: 2,
        ..line("7")
    };
    assert_eq!(queue.pop(), Some(after));
}

/// A target whose writes block until they are released.
struct Stuck(mpsc::Receiver<()>, Target);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // When the sender is dropped, writes no longer block.
        let _ = self.0.recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_target_that_is_stuck_delays_nobody_and_the_end_only_for_a_while() {
    let (go_on, waits) = mpsc::sync_channel(1);
    let target = Target::default();
    let output = Output::to("test", Stuck(waits, target.clone())).expect("a thread");
    let long = "x".repeat(10_000);
    for _ in 0..1000 {
        output.line(&long);
    }
    assert!(output.0.lock().bytes <= ROOM);
    output.drain(Duration::from_millis(10));
    assert_eq!(target.text(), "");
    drop(go_on);
    output.drain(Duration::from_secs(60));
    let text = target.text();
    let told = text.lines().last().expect("lines");
    let lost = told.strip_suffix(" lines could not be written and are lost");
    let lost: usize = lost.expect("the number").parse().expect("a number");
    assert_eq!(text.lines().count() - 1 + lost, 1000);
}
