use std::{
    collections::VecDeque,
    ops::Bound::{Excluded, Unbounded},
};

use super::*;
use crate::rendezvous::outbox::Outbox;

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);
const C: LinkId = LinkId(3);
const ALL: (Bound<u64>, Bound<u64>) = (Unbounded, Unbounded);

fn announced(link: LinkId, text: &str) -> Announced {
    Announced {
        link,
        hears: ALL,
        text: text.to_owned(),
    }
}

fn outbox() -> Arc<Outbox> {
    Arc::new(Outbox::new(1024))
}

fn subscribed(feed: &Feed<Outbox>, link: LinkId, since: u64) -> Cursor {
    feed.subscribe(link, outbox(), since)
}

/// Decodes the texts of frames that are shorter than 126 bytes.
fn texts(frames: Vec<Bytes>) -> Vec<String> {
    let mut bytes: VecDeque<u8> = frames.into_iter().flatten().collect();
    let mut texts = Vec::new();
    while let Some(first) = bytes.pop_front() {
        assert_eq!(first, 0x81, "a whole text frame");
        let len = usize::from(bytes.pop_front().expect("a length"));
        texts.push(String::from_utf8(bytes.drain(..len).collect()).expect("text"));
    }
    texts
}

fn read_all(feed: &Feed<Outbox>, link: LinkId, cursor: &mut Cursor) -> Vec<String> {
    let mut frames = Vec::new();
    while feed.read(link, cursor, &mut frames) {}
    texts(frames)
}

#[test]
fn each_link_reads_once_what_is_announced_after_it_has_joined() {
    let feed = Feed::new(1);
    feed.append(&[announced(C, "before")]);
    let mut cursor = subscribed(&feed, A, 0);
    assert!(read_all(&feed, A, &mut cursor).is_empty());
    feed.append(&[announced(C, "one"), announced(C, "two")]);
    feed.append(&[announced(C, "three")]);
    assert_eq!(read_all(&feed, A, &mut cursor), ["one", "two", "three"]);
    assert!(read_all(&feed, A, &mut cursor).is_empty());
}

#[test]
fn a_link_is_not_told_of_its_own_peers_wherever_they_stand() {
    let feed = Feed::new(1);
    let mut cursors = [A, B, C].map(|link| (link, subscribed(&feed, link, 0)));
    let peers = [(A, "a"), (A, "b"), (B, "c"), (A, "d"), (C, "e")];
    feed.append(&peers.map(|(link, text)| announced(link, text)));
    for ((link, cursor), expected) in cursors.iter_mut().zip(["ce", "abde", "abcd"]) {
        assert_eq!(read_all(&feed, *link, cursor).concat(), expected);
    }
}

#[test]
fn who_knows_already_is_not_told() {
    let feed = Feed::new(1);
    let mut early = subscribed(&feed, A, 3);
    let mut late = subscribed(&feed, B, 7);
    let told = |hears, text| Announced {
        hears,
        ..announced(C, text)
    };
    feed.append(&[
        told((Unbounded, Excluded(5)), "to the early"),
        told((Excluded(5), Unbounded), "to the late"),
        told((Unbounded, Excluded(1)), "to none"),
    ]);
    assert_eq!(read_all(&feed, A, &mut early), ["to the early"]);
    assert_eq!(read_all(&feed, B, &mut late), ["to the late"]);
    feed.append(&[told((Unbounded, Excluded(1)), "to none")]);
    let mut frames = Vec::new();
    assert!(feed.read(A, &mut early, &mut frames), "it has been read");
    assert!(frames.is_empty());
}

#[test]
fn a_link_that_is_far_behind_skips_the_oldest_and_the_log_is_bounded() {
    let feed = Feed::new(1);
    let mut cursor = subscribed(&feed, A, 0);
    let text = "x".repeat(100);
    let count = 2 * KEPT / (text.len() + OVERHEAD);
    for _ in 0..count {
        feed.append(&[announced(B, &text)]);
    }
    assert!(feed.lock().cost <= KEPT);
    let read = read_all(&feed, A, &mut cursor).len();
    assert!(read > count / 3, "{read}");
    assert_eq!(feed.missed(), (count - read) as u64);
}

#[test]
fn all_links_are_woken_some_at_a_time_and_those_that_have_left_are_not() {
    let feed = Feed::new(1);
    let count = 2 * SLICE as u64 + 1;
    for link in 0..count {
        subscribed(&feed, LinkId(link), 0);
    }
    feed.unsubscribe(LinkId(0));
    assert!(feed.few_readers(2 * SLICE - 1).is_none());
    assert_eq!(
        feed.few_readers(2 * SLICE).map(|r| r.len()),
        Some(2 * SLICE)
    );
    let mut last = None;
    for expected in [SLICE, SLICE, 0] {
        assert_eq!(feed.some_readers(&mut last).len(), expected);
    }
}
