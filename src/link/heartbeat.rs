//! The Engine.IO 3 heartbeat: the client pings, the server answers.

use std::time::Duration;

use web_time::Instant;

use crate::protocol::engine_io::Open;

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    /// The rendezvous gave no sign of life in time.
    Dead,
}

#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    next_ping: Instant,
    /// Until when a sign of life must come, if a ping is out.
    deadline: Option<Instant>,
}

impl Heartbeat {
    pub(super) fn new(open: &Open, now: Instant) -> Self {
        Self {
            interval: open.ping_interval,
            timeout: open.ping_timeout,
            next_ping: now + open.ping_interval,
            deadline: None,
        }
    }

    /// Something came: any byte counts, because a pong may be queued behind a long message.
    pub(super) fn alive(&mut self) {
        self.deadline = None;
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn poll(&mut self, now: Instant) -> Due {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Due::Dead;
        }
        if now < self.next_ping {
            return Due::Nothing;
        }
        self.next_ping = now + self.interval;
        self.deadline.get_or_insert(now + self.timeout);
        Due::Ping
    }

    pub(super) fn next(&self) -> Instant {
        self.deadline
            .map_or(self.next_ping, |deadline| deadline.min(self.next_ping))
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
        heartbeat.alive();
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
        assert_eq!(heartbeat.poll(start + seconds(45)), Due::Dead);
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
        assert_eq!(heartbeat.poll(start + seconds(17)), Due::Dead);
    }
}
