//! The Engine.IO 3 heartbeat: the client pings, and the server answers.

use std::time::Duration;

use web_time::Instant;

use crate::protocol::engine_io::Open;

/// The action that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    /// The rendezvous gave no sign of life for this long.
    Dead(Duration),
}

#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    next_ping: Instant,
    /// The time of the last sign of life.
    last: Instant,
    /// The deadline for a sign of life, if a ping was sent.
    deadline: Option<Deadline>,
}

#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Instant,
    /// The time that the rendezvous had until the deadline.
    time: Duration,
}

/// The maximum time for a sign of life when there is a reason to doubt the link and nothing waits to be sent before the
/// ping.
const DOUBTED: Duration = Duration::from_secs(5);

impl Heartbeat {
    pub(super) fn new(open: &Open, now: Instant) -> Self {
        Self {
            interval: open.ping_interval,
            timeout: open.ping_timeout,
            next_ping: now + open.ping_interval,
            last: now,
            deadline: None,
        }
    }

    /// Notes a sign of life. Any byte counts, because a pong may be queued behind a long message.
    pub(super) fn alive(&mut self, now: Instant) {
        self.last = now;
        self.deadline = None;
    }

    /// Returns whether a ping was sent, or should have been, since the last sign of life.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) > self.interval
    }

    /// Handles a doubt whether the link still exists. A ping is due at once. Its answer is due soon, unless there
    /// `is_more` to send before the ping.
    pub(super) fn doubt(&mut self, is_more: bool, now: Instant) {
        let time = match is_more {
            true => self.timeout,
            false => DOUBTED.min(self.timeout),
        };
        if self
            .deadline
            .is_none_or(|deadline| deadline.at > now + time)
        {
            self.next_ping = now;
            self.expect_within(time, now);
        }
    }

    pub(super) fn poll(&mut self, now: Instant) -> Due {
        if let Some(deadline) = &self.deadline
            && deadline.at <= now
        {
            return Due::Dead(deadline.time);
        }
        if now < self.next_ping {
            return Due::Nothing;
        }
        self.next_ping = now + self.interval;
        if self.deadline.is_none() {
            self.expect_within(self.timeout, now);
        }
        Due::Ping
    }

    fn expect_within(&mut self, time: Duration, now: Instant) {
        self.deadline = Some(Deadline {
            at: now + time,
            time,
        });
    }

    pub(super) fn next(&self) -> Instant {
        self.deadline
            .map_or(self.next_ping, |deadline| deadline.at.min(self.next_ping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn heartbeat(now: Instant) -> Heartbeat {
        let open = Open {
            sid: String::new(),
            ping_interval: seconds(25),
            ping_timeout: seconds(20),
            max_payload: None,
        };
        Heartbeat::new(&open, now)
    }

    #[test]
    fn a_ping_is_due_each_interval() {
        let start = Instant::now();
        let mut heartbeat = heartbeat(start);
        assert_eq!(heartbeat.poll(start + seconds(24)), Due::Nothing);
        assert_eq!(heartbeat.poll(start + seconds(25)), Due::Ping);
        heartbeat.alive(start + seconds(26));
        assert_eq!(heartbeat.poll(start + seconds(49)), Due::Nothing);
        assert_eq!(heartbeat.poll(start + seconds(50)), Due::Ping);
    }

    #[test]
    fn the_link_is_dead_when_nothing_comes_after_a_ping() {
        let start = Instant::now();
        let mut heartbeat = heartbeat(start);
        assert_eq!(heartbeat.poll(start + seconds(25)), Due::Ping);
        assert_eq!(heartbeat.next(), start + seconds(45));
        assert_eq!(heartbeat.poll(start + seconds(44)), Due::Nothing);
        assert_eq!(heartbeat.poll(start + seconds(45)), Due::Dead(seconds(20)));
    }

    #[test]
    fn a_second_ping_does_not_put_the_deadline_off() {
        let start = Instant::now();
        let open = Open {
            sid: String::new(),
            ping_interval: seconds(5),
            ping_timeout: seconds(12),
            max_payload: None,
        };
        let mut heartbeat = Heartbeat::new(&open, start);
        assert_eq!(heartbeat.poll(start + seconds(5)), Due::Ping);
        assert_eq!(heartbeat.poll(start + seconds(10)), Due::Ping);
        assert_eq!(heartbeat.poll(start + seconds(17)), Due::Dead(seconds(12)));
    }

    #[test]
    fn a_link_in_doubt_is_asked_at_once_and_has_five_seconds() {
        let start = Instant::now();
        let mut doubted = heartbeat(start);
        doubted.doubt(false, start + seconds(1));
        assert_eq!(doubted.poll(start + seconds(1)), Due::Ping);
        // A second doubt does not extend the deadline.
        doubted.doubt(false, start + seconds(3));
        assert_eq!(doubted.poll(start + seconds(3)), Due::Nothing);
        let due = doubted.poll(start + seconds(6));
        assert_eq!(due, Due::Dead(seconds(5)));
        let mut alive = heartbeat(start);
        alive.doubt(false, start);
        assert_eq!(alive.poll(start), Due::Ping);
        alive.alive(start + seconds(1));
        assert_eq!(alive.poll(start + seconds(24)), Due::Nothing);
        assert_eq!(alive.poll(start + seconds(25)), Due::Ping);
        // An earlier deadline is kept.
        alive.doubt(false, start + seconds(44));
        let due = alive.poll(start + seconds(45));
        assert_eq!(due, Due::Dead(seconds(20)));
    }

    #[test]
    fn a_ping_that_waits_behind_others_has_its_usual_time() {
        let start = Instant::now();
        let mut doubted = heartbeat(start);
        doubted.doubt(true, start);
        assert_eq!(doubted.poll(start), Due::Ping);
        assert_eq!(doubted.poll(start + seconds(19)), Due::Nothing);
        let due = doubted.poll(start + seconds(20));
        assert_eq!(due, Due::Dead(seconds(20)));
    }

    #[test]
    fn a_link_is_quiet_after_an_interval_without_a_sign_of_life() {
        let start = Instant::now();
        let mut heartbeat = heartbeat(start);
        heartbeat.alive(start + seconds(10));
        assert!(!heartbeat.is_quiet(start + seconds(35)));
        assert!(heartbeat.is_quiet(start + seconds(36)));
    }
}
