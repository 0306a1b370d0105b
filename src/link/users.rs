//! The users for which a link is open: its listeners and its dials. No IO, no clock.

use std::{collections::HashMap, time::Duration};

use futures::channel::oneshot;
use libp2p_core::transport::ListenerId;
use web_time::Instant;

use super::backoff::{Backoff, up_to};
use crate::{
    address::StarAddr,
    connection::Connection,
    error::{Error, JoinError},
    protocol::event::DialId,
};

/// The longest time for which a rendezvous may make a listener wait before it joins again. A rendezvous may name a
/// longer time, but one answer must not keep a listener away for good.
pub(super) const LONGEST_OBEYED: Duration = Duration::from_secs(60 * 60);
/// A listener waits longer by up to a quarter (1/`SPREAD`) of that time, at random, so that peers refused at the same
/// time do not all come back at the same time.
const SPREAD: u32 = 4;

/// The users for which the link is open, in addition to the connections.
#[derive(Default)]
pub(super) struct Users {
    pub(super) listeners: Vec<(ListenerId, Listener)>,
    pub(super) dials: HashMap<DialId, Dial>,
}

pub(super) struct Listener {
    pub(super) address: StarAddr,
    /// The time since which the listener is joined.
    joined: Option<Instant>,
    backoff: Backoff,
    /// The time to try to join again on this link, after a temporary refusal.
    pub(super) retry: Option<Instant>,
    /// The earliest time to try to join again, on this link or another, because the rendezvous has named it.
    not_before: Option<Instant>,
}

impl Listener {
    pub(super) fn new(address: StarAddr, backoff: (Duration, Duration)) -> Self {
        Self {
            address,
            joined: None,
            backoff: Backoff::new(backoff),
            retry: None,
            not_before: None,
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        self.joined.is_some()
    }

    pub(super) fn joined(&mut self, now: Instant) {
        self.joined.get_or_insert(now);
        self.not_before = None;
    }

    /// Returns whether to join on a link that has just opened. If it is too early, sets `retry`.
    pub(super) fn may_join(&mut self, now: Instant) -> bool {
        self.retry = self.rests_until(now);
        self.retry.is_none()
    }

    /// Returns the time until which the listener must not join, because the rendezvous has named it.
    fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|until| *until > now)
    }

    /// Handles that the listener could not join, or is not joined any more. Sets when to try again, unless that would
    /// not help.
    pub(super) fn failed(&mut self, now: Instant, error: &JoinError) {
        self.left(now);
        let wait = match error {
            // Otherwise two nodes with the same key would displace each other as fast as they can.
            JoinError::Displaced => self.backoff.longest_wait(),
            _ => self.backoff.wait(),
        };
        let told = error.retry_after().map(|after| {
            let after = after.min(LONGEST_OBEYED);
            after + up_to(after / SPREAD)
        });
        let wait = told.map_or(wait, |told| told.max(wait));
        self.not_before = told.map(|_| now + wait);
        self.retry = (!error.is_permanent()).then(|| now + wait);
    }

    /// Handles that the listener is not joined any more, and returns whether it was. The back-off starts over if it was
    /// joined for long.
    pub(super) fn left(&mut self, now: Instant) -> bool {
        let since = self.joined.take();
        if let Some(since) = since {
            self.backoff.was_up(now.saturating_duration_since(since));
        }
        self.retry = None;
        since.is_some()
    }
}

pub(super) struct Dial {
    pub(super) to: StarAddr,
    /// The spellings that the rendezvous was asked for.
    pub(super) asked_for: Vec<String>,
    /// The deadline for trying all spellings. It counts from the time when the link was open.
    pub(super) deadline: Option<Instant>,
    pub(super) reply: oneshot::Sender<Result<Connection, Error>>,
}

impl Dial {
    pub(super) fn new(to: StarAddr, reply: oneshot::Sender<Result<Connection, Error>>) -> Self {
        Self {
            to,
            asked_for: Vec::new(),
            deadline: None,
            reply,
        }
    }
}

impl Users {
    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.dials.is_empty()
    }

    /// Returns the time until which there is nothing to do on the link, because all of its users are listeners that
    /// must join later.
    pub(super) fn rest_until(&self, now: Instant) -> Option<Instant> {
        if !self.dials.is_empty() {
            return None;
        }
        let listeners = self.listeners.iter();
        // `None`, for a listener that need not wait, is less than any time.
        listeners
            .map(|(_, listener)| listener.rests_until(now))
            .min()?
    }

    /// Returns whether a listener joins as soon as there is a link.
    pub(super) fn may_join(&self, now: Instant) -> bool {
        let mut listeners = self.listeners.iter();
        listeners.any(|(_, listener)| listener.rests_until(now).is_none())
    }

    /// Fails all dials with this error.
    pub(super) fn fail_dials(&mut self, error: &Error) {
        for (_, dial) in self.dials.drain() {
            // The dialer may have gone.
            let _ = dial.reply.send(Err(error.clone()));
        }
    }

    pub(super) fn take_listener(&mut self, listener: ListenerId) -> Option<Listener> {
        let mut listeners = self.listeners.iter();
        let index = listeners.position(|(known, _)| *known == listener)?;
        Some(self.listeners.swap_remove(index).1)
    }

    pub(super) fn listener_at(
        &mut self,
        address: &StarAddr,
    ) -> Option<(ListenerId, &mut Listener)> {
        let found = self
            .listeners
            .iter_mut()
            .find(|(_, state)| state.address == *address);
        found.map(|(listener, state)| (*listener, state))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::at, *};

    #[test]
    fn the_waits_of_a_listener_begin_anew_after_it_was_joined_for_long() {
        let second = Duration::from_secs(1);
        let base = "dns4/star.example/tcp/443/wss";
        let address = at(base, libp2p_identity::PeerId::random());
        let mut listener = Listener::new(address, (second, second * 60));
        let error = JoinError::TimedOut(second);
        let mut now = Instant::now();
        let mut fail = |listener: &mut Listener, joined: Option<u32>| {
            if let Some(seconds) = joined {
                listener.joined(now);
                assert!(listener.is_joined());
                now += second * seconds;
            }
            listener.failed(now, &error);
            assert!(!listener.is_joined());
            listener.retry.expect("it tries again") - now
        };
        for _ in 0..10 {
            fail(&mut listener, None);
        }
        assert!(fail(&mut listener, Some(1)) >= second * 30, "it was short");
        assert!(fail(&mut listener, Some(600)) <= second);
        listener.failed(now, &JoinError::ChallengeDisabled);
        assert_eq!(listener.retry, None, "it would not help");
    }

    #[test]
    fn those_who_are_told_the_same_time_do_not_all_come_back_at_once() {
        let star = "dns4/star.example/tcp/443/wss";
        let now = Instant::now();
        let refused = JoinError::Refused("Not allowed now, again in 100 s".to_owned());
        let waits = (0..1000).map(|_| {
            let address = at(star, libp2p_identity::PeerId::random());
            let mut listener =
                Listener::new(address, (Duration::from_secs(1), Duration::from_secs(1)));
            listener.failed(now, &refused);
            let retry = listener.retry.expect("it comes again");
            (retry - now).as_secs()
        });
        let mut of_second = HashMap::<u64, usize>::new();
        for wait in waits {
            *of_second.entry(wait).or_default() += 1;
        }
        // About 40 listeners in each of 25 seconds.
        assert!(of_second.len() >= 20, "{of_second:?}");
        assert!(
            of_second.values().all(|count| *count < 100),
            "{of_second:?}"
        );
    }

    #[test]
    fn a_listener_waits_as_long_as_it_is_told_and_little_longer_and_an_hour_at_most() {
        let second = Duration::from_secs(1);
        let address = at(
            "dns4/star.example/tcp/443/wss",
            libp2p_identity::PeerId::random(),
        );
        let mut listener = Listener::new(address, (second, second));
        let now = Instant::now();
        let refused = |after: u64| {
            JoinError::Refused(format!(
                "Not allowed now, again in {after} s: the office is closed"
            ))
        };
        for (told, waits) in [(90, 90), (3600, 3600), (100_000, 3600), (u64::MAX, 3600)] {
            listener.failed(now, &refused(told));
            let retry = listener.retry.expect("it comes again");
            let waited = retry - now;
            assert!(waited >= second * waits, "{waited:?}");
            assert!(waited <= second * waits * 5 / 4, "{waited:?}");
            // The time also counts on another link.
            listener.left(now);
            assert!(!listener.may_join(retry - second));
            assert_eq!(listener.retry, Some(retry));
            assert!(listener.may_join(retry));
        }
        // The listener's own back-off counts if it is longer.
        listener.failed(now, &refused(0));
        assert!(listener.retry > Some(now + second / 3));
        listener.joined(now);
        listener.left(now);
        assert!(listener.may_join(now));
        let words = "Not allowed: not on the list".to_owned();
        listener.failed(now, &JoinError::Refused(words));
        assert_eq!(listener.retry, None);
    }
}
