//! Fair queueing: decides which channel sends next. All get the same share of the bytes, and a channel that sends
//! little does not wait for channels that send much.
//!
//! Time is counted in bytes. Each waiting channel has a virtual start and a virtual end. The start is the end of its
//! last item, or now if that is past. The channel with the earliest end is next.

use std::collections::BTreeMap;

/// The cost of a turn in addition to the bytes that are sent.
const TURN: u64 = 256;

#[derive(Debug)]
pub(crate) struct Turns<T> {
    /// The waiting channels and their virtual starts, ordered by virtual end and then by arrival.
    waiting: BTreeMap<(u64, u64), (u64, T)>,
    /// The latest virtual start of all turns until now.
    now: u64,
    count: u64,
}

/// The virtual end of a channel's last turn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ended(u64);

/// A turn: its virtual start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Turn(u64);

impl Turn {
    /// Returns the virtual end of the turn if `bytes` are sent in it.
    pub(crate) fn end(self, bytes: usize) -> Ended {
        Ended(after(self.0, bytes))
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            now: 0,
            count: 0,
        }
    }
}

impl<T> Turns<T> {
    /// Queues `who`, which has `bytes` to send in its next turn.
    pub(crate) fn push(&mut self, who: T, last: Ended, bytes: usize) {
        self.count += 1;
        let start = last.0.max(self.now);
        let end = after(start, bytes);
        self.waiting.insert((end, self.count), (start, who));
    }

    /// Returns the one whose turn is next.
    pub(crate) fn pop(&mut self) -> Option<(T, Turn)> {
        let (_, (start, who)) = self.waiting.pop_first()?;
        self.now = self.now.max(start);
        Some((who, Turn(start)))
    }
}

fn after(start: u64, bytes: usize) -> u64 {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    start.saturating_add(bytes).saturating_add(TURN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: usize = 128 * 1024;

    /// Runs the next turn: the channel sends an item of its length and is queued again. Returns the channel.
    fn turn(turns: &mut Turns<usize>, ended: &mut [Ended], bytes: &[usize]) -> usize {
        let (who, turn) = turns.pop().expect("somebody waits");
        ended[who] = turn.end(bytes[who]);
        turns.push(who, ended[who], bytes[who]);
        who
    }

    #[test]
    fn all_get_the_same_share_of_the_bytes_whatever_the_length_of_their_items() {
        let bytes = [ITEM, ITEM / 4, 1000];
        let (mut turns, mut ended, mut sent) = (Turns::default(), [Ended::default(); 3], [0; 3]);
        for (who, bytes) in bytes.into_iter().enumerate() {
            turns.push(who, Ended::default(), bytes);
        }
        for _ in 0..10_000 {
            let who = turn(&mut turns, &mut ended, &bytes);
            // The cost of the turns counts, too.
            sent[who] += bytes[who] + 256;
        }
        let (least, most) = (sent.iter().min(), sent.iter().max());
        let apart = most.expect("some") - least.expect("some");
        assert!(apart <= 2 * ITEM, "{sent:?}");
    }

    #[test]
    fn who_sends_little_is_next_whenever_it_comes() {
        let bytes = [ITEM; 16];
        let (mut turns, mut ended) = (Turns::default(), [Ended::default(); 16]);
        for (who, bytes) in bytes.into_iter().enumerate() {
            turns.push(who, Ended::default(), bytes);
        }
        let mut last = Ended::default();
        for n in 0..100 {
            for _ in 0..n % 17 {
                turn(&mut turns, &mut ended, &bytes);
            }
            turns.push(99, last, 64);
            let (who, turn) = turns.pop().expect("somebody waits");
            assert_eq!(who, 99, "{n}");
            last = turn.end(64);
        }
    }

    #[test]
    fn who_comes_anew_for_each_item_gets_no_more_than_the_others() {
        let bytes = [ITEM; 4];
        let (mut turns, mut ended) = (Turns::default(), [Ended::default(); 4]);
        for (who, bytes) in bytes.into_iter().enumerate() {
            turns.push(who, Ended::default(), bytes);
        }
        let (mut last, mut got) = (Ended::default(), 0);
        turns.push(99, last, ITEM);
        for _ in 0..5000 {
            let (who, turn) = turns.pop().expect("somebody waits");
            if who == 99 {
                got += 1;
                last = turn.end(ITEM);
                turns.push(99, last, ITEM);
            } else {
                ended[who] = turn.end(bytes[who]);
                turns.push(who, ended[who], bytes[who]);
            }
        }
        assert!((990..=1010).contains(&got), "{got} of 5000");
    }
}
