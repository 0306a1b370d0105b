//! Credits: a receiver tells a sender how much it may send.
//!
//! The protocol has no flow control of its own. Data that one connection does not read blocks everything behind it on
//! its link. Two peers that both know credits bound this data. Other peers and the rendezvous notice nothing. This page
//! is the complete specification for another implementation.
//!
//! # On the wire
//!
//! A dial has two streams. The receiver of each stream grants credits for it. The grant is the argument of the `accept`
//! event that the receiver sends in any case:
//!
//! ```text
//! 42["socket.io-pull-stream.accept.<stream>",{"credit":16384}]
//! ```
//!
//! Further grants are further `accept` events of the same stream. Each one adds to the credit granted before. A
//! rendezvous that does not know credits either relays the argument, or drops it together with the peer's `accept`.
//! Both are fine.
//!
//! | field | meaning | where |
//! |---|---|---|
//! | `credit` | the additional amount that the sender of *this* stream may send; an integer from 0 to 2^64 − 1 | always |
//! | `returned` | the credit for *its own* stream that the sender of this `accept` gives back; 0 if missing | further accepts |
//!
//! An argument of another form counts as no argument. Other fields are ignored.
//!
//! # Who may send what when
//!
//! * Each item costs the length of its data plus [`ITEM_COST`], 128, because an item costs the receiver memory in
//!   addition to its data. Ends and errors cost nothing.
//! * The **first** `accept` of a stream decides. With a credit, the sender of the stream sends items only for the
//!   amount granted, minus the amount that it has returned. Without a credit, the stream is not limited, and later
//!   credits for it have no meaning.
//! * The first credit is at least [`FIRST`], 16,384. A sender may rely on that amount before the first `accept` has
//!   come.
//! * A peer sends further accepts only to a peer that has itself sent a credit on this dial. Other peers take each
//!   `accept` for the first one.
//! * A receiver enforces its credits as soon as the other peer has itself sent a credit on this dial. An item beyond
//!   them ends both streams of the dial with `error`; the link stays open. Until then the receiver must not rely on
//!   credits, and may have to stop reading the link.
//! * A sender may delay an item until it has an eighth of the first credit, [`WAITING`], 2,048. A receiver that has
//!   read everything never leaves a sender with less than that.
//! * A sender returns the credit that exceeds the first credit and that it has not needed for some seconds, whether the
//!   other stream has ended or not. Before that, it sends what it holds of an item that it has begun. A receiver treats
//!   returned credit as unused, and grants it to others. It may end the dial if a sender keeps more than the first
//!   credit for two minutes and sends less than the first credit in that time, because others wait for that credit.
//! * A rendezvous must relay either all of these events or none of them. If it relays them and also accepts streams
//!   itself, an honest sender appears to cheat.
//!
//! Both peers accept at once, so each peer learns within one round trip that the other knows credits.
//!
//! # How much this crate grants
//!
//! The receiver keeps a window: the amount that the sender may have written and that our application has not read yet.
//! It includes everything in buffers, queues and kernels on the way. A further grant is sent when it amounts to a
//! quarter of the window. A smaller grant is also sent if it amounts to both 64 KiB and an eighth of the window. A
//! grant is at least 8 KiB, because round trips of small items should not wait for grants.
//!
//! * The window starts at [`FIRST`]; an idle connection is granted no more. The data that has come and is not read may
//!   be 192 KiB, even if the window is smaller. This data does not hold up other connections, and some applications
//!   write a lot before they read.
//! * The read rate is measured again for each window that is read. The new window is the amount that is read at that
//!   rate in one and a half *minimum* round trips, or in 400 µs if that is longer; with a shorter time, the tasks on
//!   the way wait for one another. The size of the largest item is added, because an item is read as a whole.
//! * A window in use is not smaller than its share, so that the tasks on the way always find something to do. The share
//!   is 512 KiB for a connection that is alone on its link. Connections in use at the same time share 1.1 MiB; each of
//!   them leaves as much to the others as it takes. Sixteen connections have 84 KiB each, and none has less than 64
//!   KiB. An item adds at most half of the share. Where reading the share takes longer than 5 ms, a smaller window is
//!   enough: the amount that is read in 5 ms, or 192 KiB if that is more, but not more than is read in 20 ms.
//! * The window at most doubles, and shrinks by at most an eighth. If a whole window arrives within the minimum round
//!   trip, nothing is queued on the way, and the window doubles.
//! * A round trip is the time from a grant to the first byte that could not have been sent without that grant. Load
//!   only makes it longer, so the minimum counts. When the minimum is older than [`MIN_AGE`], the window is halved for
//!   a while to measure the minimum again. Windows that followed round trips under full load would grow without end.
//! * A second without a grant is a pause, or four round trips if that is longer. After a pause the window is [`FIRST`]
//!   again. Credit granted before the pause stays valid until it is used or returned, and no new grants are made before
//!   then.
//! * The caller sets a ceiling for each grant. In addition to the first credits, a connection pledges up to 8 MiB, the
//!   connections of a link 16 MiB, and those of a process 64 MiB. Each connection may take at most as much as it leaves
//!   free. So 1,024 idle connections pledge 16 MiB, and busy ones on the same link no more than 32 MiB.

use std::time::Duration;

use serde_json::Value;
use web_time::Instant;

/// The cost of an item in addition to the length of its data.
pub const ITEM_COST: u64 = 128;
/// The first credit of a stream, and the credit that an idle stream keeps.
pub const FIRST: u64 = 16 * 1024;
/// The age at which the minimum round trip is measured again.
pub const MIN_AGE: Duration = Duration::from_secs(10);

/// The maximum pledge, in bytes, that unread data may cause. Three quarters of it may be sent before any of it is read,
/// if the ceiling allows it. So an application that writes this much before it reads does not wait for ever for a peer
/// that echoes its data.
const UNREAD: u64 = 256 * 1024;
/// The credit with which a sender does not wait for more.
pub const WAITING: u64 = 2048;
/// The longest argument of an accept that is parsed, in bytes.
const MAX_ARGUMENT: usize = 256;
/// The shortest time whose data a window holds.
const SHORTEST: Duration = Duration::from_micros(400);
/// A stream without a grant for this long is idle.
const PAUSE: Duration = Duration::from_secs(1);
/// The lower bound for a window in use. The window is not made smaller than [its share](Allowance::in_use), unless the
/// share takes longer to read than these times: `SLOW` for the first `SLOW_IN_USE` bytes, and `FAST` beyond them.
const SLOW: Duration = Duration::from_millis(20);
const SLOW_IN_USE: u64 = 192 * 1024;
const FAST: Duration = Duration::from_millis(5);
/// A grant of this size, or of an eighth of the window if that is larger, need not grow further before it is sent.
const STEP: u64 = 64 * 1024;

/// Returns the cost of an item with `len` bytes of data.
pub fn cost(len: usize) -> u64 {
    u64::try_from(len)
        .unwrap_or(u64::MAX)
        .saturating_add(ITEM_COST)
}

/// The argument of an accept: a grant of credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grant {
    /// The additional amount that the stream's sender may send.
    pub credit: u64,
    /// The amount that the stream's receiver gives back of its own credit for the other stream.
    pub returned: u64,
}

impl Grant {
    /// The credit with which a stream is accepted.
    pub const FIRST: Self = Self {
        credit: FIRST,
        returned: 0,
    };

    /// Reads the argument of an accept. Returns `None` if the argument grants nothing.
    pub fn decode(argument: &str) -> Option<Self> {
        if argument.len() > MAX_ARGUMENT {
            return None;
        }
        let Value::Object(fields) = serde_json::from_str(argument).ok()? else {
            return None;
        };
        let returned = fields.get("returned").and_then(Value::as_u64);
        Some(Self {
            credit: fields.get("credit")?.as_u64()?,
            returned: returned.unwrap_or(0),
        })
    }

    /// Returns the argument of an accept.
    pub fn encode(&self) -> Value {
        match self.returned {
            0 => serde_json::json!({ "credit": self.credit }),
            returned => serde_json::json!({ "credit": self.credit, "returned": returned }),
        }
    }
}

/// The sender's side of a stream: its credit and what it has used of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    granted: u64,
    /// The credit that was spent or returned.
    used: u64,
    /// The value of `used` when [`give_back`](Self::give_back) was called last.
    seen: Option<u64>,
}

impl Default for Balance {
    /// Returns the balance of a stream that is not accepted yet.
    fn default() -> Self {
        Self {
            granted: FIRST,
            used: 0,
            seen: None,
        }
    }
}

impl Balance {
    /// Handles the accept of the stream, which grants this first credit.
    pub fn accept(&mut self, first: u64) {
        self.granted = first.max(FIRST);
    }

    /// Adds a further credit from the receiver.
    pub fn add(&mut self, credit: u64) {
        self.granted = self.granted.saturating_add(credit);
    }

    /// Returns the credit that is left to spend.
    pub fn left(&self) -> u64 {
        self.granted.saturating_sub(self.used)
    }

    /// Spends a part of what is [left](Self::left).
    pub fn spend(&mut self, cost: u64) {
        self.used = self.used.saturating_add(cost);
    }

    /// Gives back credit: the amount that is left above the first credit and above twice what was spent since the last
    /// call. The caller calls this every few seconds.
    pub fn give_back(&mut self) -> Option<u64> {
        let seen = self.seen.replace(self.used)?;
        let spent = self.used.saturating_sub(seen);
        let unused = self
            .left()
            .saturating_sub(FIRST.max(spent.saturating_mul(2)));
        self.used = self.used.saturating_add(unused);
        self.seen = Some(self.used);
        (unused > 0).then_some(unused)
    }

    /// Returns whether nothing was spent since the last call of [`give_back`](Self::give_back).
    pub fn is_idle(&self) -> bool {
        self.seen == Some(self.used)
    }
}

/// The error if a sender sends more than it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded;

/// The limits for grants on one stream, which depend on the other streams on its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The most that may be pledged in total. The first credit is pledged in any case.
    pub most: u64,
    /// The share of this stream: a window in use need not be smaller than this.
    pub in_use: u64,
}

#[cfg(test)]
impl Allowance {
    /// Returns the allowance of a stream beside a few other streams.
    pub const fn up_to(most: u64) -> Self {
        let in_use = 192 * 1024;
        Self { most, in_use }
    }
}

/// The receiver's side of a stream: what it has granted, received and read.
#[derive(Debug)]
pub struct Window {
    granted: u64,
    received: u64,
    /// The part of `received` that was read.
    read: u64,
    returned: u64,
    /// Whether the sender knows credits.
    known: bool,
    size: u64,
    epoch: Epoch,
    round_trips: RoundTrips,
}

/// The period in which one window is read.
#[derive(Debug)]
struct Epoch {
    start: Option<Instant>,
    /// The value of [`Window::read`] at the start.
    read: u64,
    /// The cost of the largest item received since the start.
    largest: u64,
    last_grant: Option<Instant>,
}

#[derive(Debug, Default)]
struct RoundTrips {
    /// The total credit that had been granted before the pending grant, and the time of that grant.
    pending: Option<(u64, Instant)>,
    least: Option<(Duration, Instant)>,
    /// The number of further epochs for which the window stays halved, and the minimum round trip measured in the
    /// current epoch.
    probe: Option<(u8, Option<Duration>)>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            granted: FIRST,
            received: 0,
            read: 0,
            returned: 0,
            known: false,
            size: FIRST,
            epoch: Epoch {
                start: None,
                read: 0,
                largest: 0,
                last_grant: None,
            },
            round_trips: RoundTrips::default(),
        }
    }
}

impl Window {
    /// Handles a credit that the sender has itself sent, and takes back the part of its own credit that it returns.
    pub fn handle_grant(&mut self, grant: Grant) {
        self.known = true;
        let outstanding = self.outstanding();
        let returned = grant.returned.min(outstanding);
        if returned > 0 {
            // The sender does not need more.
            self.pause();
        }
        self.returned = self.returned.saturating_add(returned);
    }

    /// Returns whether the sender knows credits.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Handles an item that has come.
    ///
    /// # Errors
    /// Returns [`Exceeded`] if the sender knows credits and the item costs more than its credit.
    pub fn handle_item(&mut self, now: Instant, len: usize) -> Result<(), Exceeded> {
        let is_covered = cost(len) <= self.outstanding();
        self.epoch.largest = self.epoch.largest.max(cost(len));
        self.received = self.received.saturating_add(cost(len));
        self.round_trips.handle_used(now, self.used());
        match self.known && !is_covered {
            true => Err(Exceeded),
            false => Ok(()),
        }
    }

    /// Handles that received data of this cost was read or discarded.
    pub fn handle_read(&mut self, cost: u64) {
        self.read = self.read.saturating_add(cost).min(self.received);
    }

    /// Returns whether a [grant](Self::poll_grant) is due.
    pub fn is_due(&self) -> bool {
        self.known && self.grantable(u64::MAX) >= self.step()
    }

    /// Returns the credit to grant now, if a grant is due.
    pub fn poll_grant(&mut self, now: Instant, allowance: Allowance) -> Option<u64> {
        if !self.is_due() {
            return None;
        }
        let most = allowance.most.max(FIRST);
        self.resize(now, most, allowance.in_use);
        let credit = self.grantable(most);
        if credit < self.step() {
            return None;
        }
        self.round_trips.handle_grant(now, self.granted);
        self.epoch.last_grant = Some(now);
        self.granted = self.granted.saturating_add(credit);
        Some(credit)
    }

    /// Returns the amount that the receiver may still have to hold: credit that was granted, and neither read nor
    /// returned.
    pub fn pledged(&self) -> u64 {
        let over = self.read.saturating_add(self.returned);
        self.granted.saturating_sub(over)
    }

    /// Returns the amount that may be on its way or waiting at the sender; 0 if there was no grant for a while.
    pub fn in_use(&self, now: Instant) -> u64 {
        let last = self.epoch.last_grant;
        let is_idle = last.is_none_or(|last| now.saturating_duration_since(last) > PAUSE);
        if is_idle { 0 } else { self.outstanding() }
    }

    /// Returns the amount that the sender has used, if it knows credits and holds more than an idle sender may keep.
    pub fn kept(&self) -> Option<u64> {
        let is_more = self.known && self.outstanding() > FIRST;
        is_more.then(|| self.used())
    }

    /// Returns the amount that the sender may still send.
    fn outstanding(&self) -> u64 {
        self.granted.saturating_sub(self.used())
    }

    fn used(&self) -> u64 {
        self.received.saturating_add(self.returned)
    }

    /// Returns the size of the smallest grant.
    fn step(&self) -> u64 {
        let step = (self.size / 4).min(STEP.max(self.size / 8));
        step.max(FIRST / 2)
    }

    fn grantable(&self, most: u64) -> u64 {
        let unread = self.received.saturating_sub(self.read);
        // This allows a further grant when the sender holds no more than the credit with which it may still wait.
        let more = (self.size / 4).saturating_add(WAITING).max(FIRST);
        let beside = unread.saturating_add(more).min(UNREAD);
        let pledge = self.size.max(beside).min(most);
        pledge.saturating_sub(self.pledged())
    }

    /// Resets the window, the epoch and the round trips.
    fn pause(&mut self) {
        self.size = FIRST;
        self.epoch.start = None;
        self.round_trips = RoundTrips::default();
    }

    fn resize(&mut self, now: Instant, most: u64, in_use: u64) {
        let last = self.epoch.last_grant;
        let least = self.round_trips.least;
        let pause = least.map_or(PAUSE, |(least, _)| PAUSE.max(least * 4));
        if last.is_some_and(|last| now.saturating_duration_since(last) > pause) {
            self.pause();
        }
        let Some(start) = self.epoch.start else {
            self.epoch.begin(now, self.read);
            self.size = self.size.min(most);
            return;
        };
        let read = self.read.saturating_sub(self.epoch.read);
        if read >= self.size {
            let elapsed = now.saturating_duration_since(start);
            self.size = self.next_size(now, read, elapsed, in_use);
            self.epoch.begin(now, self.read);
        }
        self.size = self.size.min(most);
    }

    fn next_size(&mut self, now: Instant, read: u64, elapsed: Duration, in_use: u64) -> u64 {
        if let Some(size) = self.round_trips.poll_probe(now, self.size) {
            return size;
        }
        let least = self.round_trips.least.map(|(least, _)| least);
        let within = |time: Duration| scale(read, time, elapsed);
        let horizon = least.map_or(SHORTEST, |least| SHORTEST.max(least * 3 / 2));
        let wanted = within(horizon).saturating_add(self.epoch.largest.min(in_use / 2));
        let least_in_use = within(SLOW).min(SLOW_IN_USE).max(within(FAST)).min(in_use);
        let wanted = wanted.max(least_in_use).max(FIRST);
        let grown = self.size.saturating_mul(2);
        if least.is_some_and(|least| within(least) >= read / 10 * 9) {
            return grown;
        }
        wanted.clamp(self.size - self.size / 8, grown)
    }
}

impl Epoch {
    fn begin(&mut self, now: Instant, read: u64) {
        (self.start, self.read, self.largest) = (Some(now), read, 0);
    }
}

impl RoundTrips {
    fn handle_grant(&mut self, now: Instant, granted: u64) {
        self.pending.get_or_insert((granted, now));
    }

    /// Handles that the sender has sent or returned this much in total.
    fn handle_used(&mut self, now: Instant, used: u64) {
        let Some((_, since)) = self.pending.take_if(|(granted, _)| used > *granted) else {
            return;
        };
        let took = now.saturating_duration_since(since);
        if self.least.is_none_or(|(least, _)| took <= least) {
            self.least = Some((took, now));
        }
        if let Some((_, probed)) = &mut self.probe {
            *probed = Some(probed.map_or(took, |least| least.min(took)));
        }
    }

    /// Returns the size of the window while the minimum round trip is measured again, because it is old.
    fn poll_probe(&mut self, now: Instant, size: u64) -> Option<u64> {
        let is_old = |(_, at): (Duration, Instant)| now.saturating_duration_since(at) >= MIN_AGE;
        match &mut self.probe {
            None if self.least.is_some_and(is_old) => {
                self.probe = Some((1, None));
                Some((size / 2).max(FIRST))
            }
            None => None,
            Some((0, probed)) => {
                self.least = probed.map(|probed| (probed, now)).or(self.least);
                self.probe = None;
                None
            }
            // The round trips measured so far belong to the previous window.
            Some((left, probed)) => {
                *left -= 1;
                *probed = None;
                Some(size)
            }
        }
    }
}

/// Returns `amount` × `part` ÷ `whole`.
fn scale(amount: u64, part: Duration, whole: Duration) -> u64 {
    let whole = whole.as_nanos().max(1);
    let scaled = u128::from(amount).saturating_mul(part.as_nanos()) / whole;
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "credit_tests.rs"]
mod tests;
