//! Credits: how a receiver tells a sender how much it may send.
//!
//! The protocol has no flow control: what one connection does not read stands before everything else on its link.
//! Two peers that both know credits bound that, and no other peer or rendezvous notices. This page is all that is
//! needed to do the same.
//!
//! # On the wire
//!
//! A dial has two streams, and credits are granted for each of them by its receiver. The grant is the argument of the
//! `accept` event that the receiver sends anyway:
//!
//! ```text
//! 42["socket.io-pull-stream.accept.<stream>",{"credit":16384}]
//! ```
//!
//! Further grants are further `accept` events of the same stream. Each adds to what was granted before. A rendezvous
//! that knows nothing of credits passes the argument on, or drops it together with the peer's `accept`; either is well.
//!
//! | field | meaning | where |
//! |---|---|---|
//! | `credit` | what the sender of *this* stream may send more; an integer from 0 to 2^64 − 1 | always |
//! | `returned` | what the sender of this `accept` gives back of the credit for *its own* stream of the dial; 0 if it is missing | further ones |
//!
//! An argument of another form is as good as none. Other fields are passed over.
//!
//! # Who may send what when
//!
//! * Each item costs the length of its data and [`ITEM_COST`], 128, because it costs the receiver memory beside its
//!   data. Ends and errors cost nothing.
//! * The **first** `accept` of a stream decides. With a credit, its sender sends items for no more than was granted, less
//!   what it has returned. Without one, the stream is not limited, and later credits for it mean nothing.
//! * The first credit is at least [`FIRST`], 16,384: a sender may count on that before it has come.
//! * Further accepts go only to a peer that has sent a credit itself on this dial. Others take each `accept`
//!   for the first one.
//! * A receiver holds the other peer to its credits as soon as that has sent a credit itself on this dial. An item
//!   beyond them ends both streams of the dial with `error`; the link goes on. Until then it must not rely on credits:
//!   it may have to stop reading the link.
//! * A sender may wait with an item until it has an eighth of the first credit, [`WAITING`], 2,048: a receiver that has read everything
//!   lets nobody have less.
//! * A sender returns what it has above the first credit and has not needed for some seconds, whether the other stream has
//!   ended or not. What it holds of an item that it has begun goes first. A receiver takes what is returned for unused, and grants it to others. It may end the dial if a sender
//!   keeps more than the first credit for two minutes and sends less than that: others wait for it.
//! * A rendezvous relays these events, or none of them. One that relays them and accepts streams itself as well would have
//!   an honest sender seem to cheat.
//!
//! Both peers accept at once, so each knows of the other within a round trip.
//!
//! # How much this crate grants
//!
//! A window: what the sender may have written, and our application not read. What stands in buffers, queues and kernels
//! on the way is in it. A further grant goes out when it makes up a quarter of the window, or 64 KiB and an eighth; 8 KiB at
//! least, because round trips of small items should not wait for grants.
//!
//! * It begins with [`FIRST`]: an idle connection is granted no more. What has come and is not read may be 192 KiB,
//!   even if the window is smaller: it holds up nobody, and some applications write a lot before they read.
//! * For each window that is read, the rate is taken anew. The window becomes what is read at that rate in one and a half
//!   *minimum* round trips, or in 400 µs if that is more: with less, the tasks on the way wait for one another. The
//!   largest item is added, because an item is read as a whole.
//! * A window that is in use is not smaller than its share, so that the tasks on the way always find something to do: 512
//!   KiB for a connection that is alone on its link. Those that are in use together leave one another as much as they take
//!   of 1.1 MiB: sixteen have 84 KiB each, and none has less than 64 KiB. Half of the share is what an item adds at most. Where a
//!   share takes longer than 5 ms to read, 192 KiB are enough, or what is read in 20 ms.
//! * The window doubles at most, and shrinks by an eighth at most. Where as much as a window comes within the minimum round trip,
//!   nothing is queued on the way, and the window doubles.
//! * A round trip is the time from a grant to the first byte that could not have been sent without it. It is never
//!   shorter than without a load, so the least one counts. After [`MIN_AGE`] the window is halved
//!   for a while to see what the least one is by then: from round trips under a full load, windows would grow without end.
//! * A second without a grant, or four round trips if that is more, is a pause: the window is [`FIRST`] again. What had
//!   been granted remains granted until it is used or returned, and there are no new grants before.
//! * The caller sets a ceiling for each grant. Beside the first credits, a connection pledges up to 8 MiB, the connections
//!   of a link 16 MiB and those of a process 64 MiB; each gets at most as much as it leaves. So 1,024 idle connections
//!   pledge 16 MiB, and busy ones on the same link no more than 32 MiB.

use std::time::Duration;

use serde_json::Value;
use web_time::Instant;

/// What an item costs beside its data.
pub const ITEM_COST: u64 = 128;
/// The first credit of a stream, and what an idle one keeps.
pub const FIRST: u64 = 16 * 1024;
/// From which age on the least round trip is measured anew.
pub const MIN_AGE: Duration = Duration::from_secs(10);

/// Three quarters of that may be sent before any of it is read, if the ceiling allows it. Whoever writes so much before it
/// reads does not wait for ever for a peer that sends it back.
const UNREAD: u64 = 256 * 1024;
/// A sender that has so much does not wait for more.
pub const WAITING: u64 = 2048;
/// The longest argument of an accept that is looked at, in bytes.
const MAX_ARGUMENT: usize = 256;
/// The shortest time whose data a window holds.
const SHORTEST: Duration = Duration::from_micros(400);
/// Without a grant for so long, a stream is idle.
const PAUSE: Duration = Duration::from_secs(1);
/// A window that is in use is not made smaller than it [need be](Allowance::in_use), unless that takes longer to read: the
/// first time for so much, and the second one beyond that.
const SLOW: Duration = Duration::from_millis(20);
const SLOW_IN_USE: u64 = 192 * 1024;
const FAST: Duration = Duration::from_millis(5);
/// A grant need not be larger than this, or than an eighth of the window.
const STEP: u64 = 64 * 1024;

/// What an item with so many bytes of data costs.
pub fn cost(len: usize) -> u64 {
    u64::try_from(len)
        .unwrap_or(u64::MAX)
        .saturating_add(ITEM_COST)
}

/// The argument of an accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grant {
    /// What the stream's sender may send more.
    pub credit: u64,
    /// What the stream's receiver gives back of what it may send on the other stream.
    pub returned: u64,
}

impl Grant {
    /// The credit that a stream is accepted with.
    pub const FIRST: Self = Self {
        credit: FIRST,
        returned: 0,
    };

    /// Reads the argument of an accept; `None` if it grants nothing.
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

    /// The argument of an accept.
    pub fn encode(&self) -> Value {
        match self.returned {
            0 => serde_json::json!({ "credit": self.credit }),
            returned => serde_json::json!({ "credit": self.credit, "returned": returned }),
        }
    }
}

/// The sender's side of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    granted: u64,
    /// What was spent or returned.
    used: u64,
    /// What had been used when the stream was last looked at.
    seen: Option<u64>,
}

impl Default for Balance {
    /// That of a stream which is not accepted yet.
    fn default() -> Self {
        Self {
            granted: FIRST,
            used: 0,
            seen: None,
        }
    }
}

impl Balance {
    /// The stream is accepted with this credit.
    pub fn accept(&mut self, first: u64) {
        self.granted = first.max(FIRST);
    }

    /// The receiver grants more.
    pub fn add(&mut self, credit: u64) {
        self.granted = self.granted.saturating_add(credit);
    }

    /// What may be spent.
    pub fn left(&self) -> u64 {
        self.granted.saturating_sub(self.used)
    }

    /// Spends what is [left](Self::left).
    pub fn spend(&mut self, cost: u64) {
        self.used = self.used.saturating_add(cost);
    }

    /// To be called every few seconds. Gives back what is left above the first credit and above twice what was spent since
    /// the last time.
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

    /// Whether nothing was spent since [`give_back`](Self::give_back) was called last.
    pub fn is_idle(&self) -> bool {
        self.seen == Some(self.used)
    }
}

/// More was sent than granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded;

/// What the receiver of a stream may grant, beside the other streams that share its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// What may be pledged in all. The first credit is pledged in any case.
    pub most: u64,
    /// What a window that is in use need not be smaller than.
    pub in_use: u64,
}

#[cfg(test)]
impl Allowance {
    /// For a stream beside a few others.
    pub const fn up_to(most: u64) -> Self {
        let in_use = 192 * 1024;
        Self { most, in_use }
    }
}

/// The receiver's side of a stream.
#[derive(Debug)]
pub struct Window {
    granted: u64,
    received: u64,
    /// What was read of that.
    read: u64,
    returned: u64,
    /// Whether the sender knows credits.
    known: bool,
    size: u64,
    epoch: Epoch,
    round_trips: RoundTrips,
}

/// The time in which a window is read.
#[derive(Debug)]
struct Epoch {
    start: Option<Instant>,
    /// What had been read by then.
    read: u64,
    /// What the largest item cost that has come since.
    largest: u64,
    last_grant: Option<Instant>,
}

#[derive(Debug, Default)]
struct RoundTrips {
    /// When something was granted, and what had been granted before.
    pending: Option<(u64, Instant)>,
    least: Option<(Duration, Instant)>,
    /// How many epochs the window is halved for yet, and the least round trip since then.
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
    /// The sender has sent a credit itself, and gives back some of its own.
    pub fn handle_grant(&mut self, grant: Grant) {
        self.known = true;
        let outstanding = self.outstanding();
        let returned = grant.returned.min(outstanding);
        if returned > 0 {
            // It has no use for more.
            self.pause();
        }
        self.returned = self.returned.saturating_add(returned);
    }

    /// Whether the sender knows credits.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// An item has come.
    ///
    /// # Errors
    /// If the sender knows credits, and has not enough of them.
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

    /// So much of what was received is read, or thrown away.
    pub fn handle_read(&mut self, cost: u64) {
        self.read = self.read.saturating_add(cost).min(self.received);
    }

    /// Whether it is time for a [grant](Self::poll_grant).
    pub fn is_due(&self) -> bool {
        self.known && self.grantable(u64::MAX) >= self.step()
    }

    /// What is to be granted now, if it is time for that.
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

    /// What may still have to be held: what was granted, and neither read nor returned.
    pub fn pledged(&self) -> u64 {
        let over = self.read.saturating_add(self.returned);
        self.granted.saturating_sub(over)
    }

    /// What may be on its way, or wait with the sender; nothing if it has been idle for a while.
    pub fn in_use(&self, now: Instant) -> u64 {
        let last = self.epoch.last_grant;
        let is_idle = last.is_none_or(|last| now.saturating_duration_since(last) > PAUSE);
        if is_idle { 0 } else { self.outstanding() }
    }

    /// What the sender has used, if it knows credits and has kept more than an idle one may.
    pub fn kept(&self) -> Option<u64> {
        let is_more = self.known && self.outstanding() > FIRST;
        is_more.then(|| self.used())
    }

    /// What the sender may still send.
    fn outstanding(&self) -> u64 {
        self.granted.saturating_sub(self.used())
    }

    fn used(&self) -> u64 {
        self.received.saturating_add(self.returned)
    }

    /// The least grant.
    fn step(&self) -> u64 {
        let step = (self.size / 4).min(STEP.max(self.size / 8));
        step.max(FIRST / 2)
    }

    fn grantable(&self, most: u64) -> u64 {
        let unread = self.received.saturating_sub(self.read);
        // Enough for a grant when the sender has no more than what it may wait with.
        let more = (self.size / 4).saturating_add(WAITING).max(FIRST);
        let beside = unread.saturating_add(more).min(UNREAD);
        let pledge = self.size.max(beside).min(most);
        pledge.saturating_sub(self.pledged())
    }

    /// Begins anew.
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

    /// So much was sent or returned by now.
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

    /// The size of the window while the least round trip, which is an old one, is measured anew.
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
            // What was measured so far is of the window before.
            Some((left, probed)) => {
                *left -= 1;
                *probed = None;
                Some(size)
            }
        }
    }
}

/// `amount` × `part` ÷ `whole`.
fn scale(amount: u64, part: Duration, whole: Duration) -> u64 {
    let whole = whole.as_nanos().max(1);
    let scaled = u128::from(amount).saturating_mul(part.as_nanos()) / whole;
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "credit_tests.rs"]
mod tests;
