//! `star ping`: measures round trips to one peer, with output like that of ping(8).

use std::time::{Duration, Instant};

use futures::FutureExt as _;
use libp2p_identity::PeerId;
use libp2p_ping as ping;
use libp2p_swarm::{ConnectionId, SwarmEvent};
use libp2p_websocket_star::{Config, StarAddr, probe::Probe};
use serde_json::json;
use tokio::time::{sleep_until, timeout};

use crate::{
    address,
    arguments::PingArguments,
    failure::Failure,
    node::{BehaviourEvent, Habits, Node, of_end},
    output::{milliseconds, rounded, say},
    stop::Stop,
};

/// How long to wait for an answer after it is due. libp2p does not report the first ping of a series that is lost.
const GRACE: Duration = Duration::from_millis(500);

/// Pings a peer.
///
/// # Errors
/// If the peer cannot be reached, the connection is lost, or no ping was answered.
pub async fn run(arguments: PingArguments, stop: &mut Stop) -> Result<(), Failure> {
    let (address, peer) = address::peer(&arguments.to.to)?;
    let (key, config) = (arguments.node.key()?, arguments.node.config(&address)?);
    let habits = Habits {
        ping_interval: arguments.interval,
        ping_timeout: arguments.node.timeout,
        idle: Duration::MAX,
        upgrade: arguments.node.timeout,
    };
    let nearer = tokio::spawn(timeout(
        arguments.node.timeout,
        rendezvous(config.clone(), address.clone()),
    ));
    let mut node = Node::new(&key, config.clone(), habits)?;
    let begin = Instant::now();
    let connecting = async {
        node.join(&address).await?;
        node.connect(peer, &address).await
    };
    tokio::select! {
        connected = connecting => connected?,
        () = stop.wanted() => return Err(Failure::NoAnswer),
    }
    let took = begin.elapsed();
    let mut pings = Pings {
        node,
        peer,
        json: arguments.node.json,
        round: arguments.interval + arguments.node.timeout + GRACE,
        count: arguments.count,
        connection: None,
        nearer: None,
        times: Times::default(),
    };
    pings.greet(&address.rendezvous().to_string(), took)?;
    let ended = tokio::select! {
        ended = pings.run() => ended,
        () = stop.wanted() => Ok(()),
    };
    // The round trip to the rendezvous is left out if it has not been measured by now.
    pings.nearer = nearer.now_or_never().and_then(|nearer| nearer.ok()?.ok()?);
    pings.sum_up()?;
    ended?;
    match pings.times.answered {
        0 => Err(Failure::NoAnswer),
        _ => Ok(()),
    }
}

struct Pings {
    node: Node,
    peer: PeerId,
    json: bool,
    /// The longest time for a ping and the wait before it.
    round: Duration,
    count: Option<u64>,
    /// The connection whose pings count; there are several if both ends have dialled.
    connection: Option<ConnectionId>,
    /// The time that TCP took to connect to the rendezvous itself.
    nearer: Option<Duration>,
    times: Times,
}

/// Returns the time that TCP takes to connect to the rendezvous, which is one round trip. `None` if there is a proxy,
/// which would answer instead.
async fn rendezvous(config: Config, address: StarAddr) -> Option<Duration> {
    let probe = Probe::new(&config, &address);
    if probe.proxy().ok()?.is_some() {
        return None;
    }
    for addr in probe.resolve().await.ok()? {
        let begin = Instant::now();
        if probe.connect(addr).await.is_ok() {
            return Some(begin.elapsed());
        }
    }
    None
}

/// The statistics of the pings.
#[derive(Debug, Default)]
struct Times {
    answered: u64,
    lost: u64,
    least: Duration,
    most: Duration,
    sum: Duration,
}

impl Times {
    fn answered(&mut self, time: Duration) {
        self.least = match self.answered {
            0 => time,
            _ => self.least.min(time),
        };
        self.most = self.most.max(time);
        self.sum += time;
        self.answered += 1;
    }

    fn sent(&self) -> u64 {
        self.answered + self.lost
    }

    fn average(&self) -> Duration {
        let answered = u32::try_from(self.answered).unwrap_or(u32::MAX).max(1);
        self.sum / answered
    }
}

impl Pings {
    async fn run(&mut self) -> Result<(), Failure> {
        let mut due = Instant::now() + self.round;
        while self.count.is_none_or(|count| self.times.sent() < count) {
            let event = tokio::select! {
                event = self.node.next() => event,
                () = sleep_until(due.into()) => {
                    self.lost()?;
                    due = Instant::now() + self.round;
                    continue;
                }
            };
            match event {
                SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) if self.counts(&event) => {
                    self.result(event.result)?;
                    due = Instant::now() + self.round;
                }
                SwarmEvent::ConnectionClosed {
                    peer_id,
                    connection_id,
                    num_established,
                    cause,
                    ..
                } if peer_id == self.peer => {
                    if num_established == 0 {
                        return Err(Failure::Lost(of_end(cause.as_ref())));
                    }
                    self.connection.take_if(|known| *known == connection_id);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns whether the ping was to the peer, on the connection whose pings count.
    fn counts(&mut self, event: &ping::Event) -> bool {
        event.peer == self.peer
            && *self.connection.get_or_insert(event.connection) == event.connection
    }

    fn result(&mut self, result: Result<Duration, ping::Failure>) -> Result<(), Failure> {
        match result {
            Ok(time) => self.answered(time),
            Err(ping::Failure::Unsupported) => Err(Failure::NoPings),
            Err(ping::Failure::Timeout | ping::Failure::Other { .. }) => self.lost(),
        }
    }

    fn greet(&self, rendezvous: &str, connected: Duration) -> Result<(), Failure> {
        if self.json {
            return say(&json!({
                "event": "connected",
                "peer": self.peer.to_string(),
                "rendezvous": rendezvous,
                "milliseconds": rounded(connected),
            })
            .to_string());
        }
        let took = milliseconds(connected);
        say(&format!(
            "PING {} through {rendezvous}, connected in {took}",
            self.peer
        ))
    }

    fn answered(&mut self, time: Duration) -> Result<(), Failure> {
        self.times.answered(time);
        let seq = self.times.sent();
        if self.json {
            return say(
                &json!({"event": "answer", "seq": seq, "milliseconds": rounded(time)}).to_string(),
            );
        }
        say(&format!("answer {seq}: {}", milliseconds(time)))
    }

    fn lost(&mut self) -> Result<(), Failure> {
        self.times.lost += 1;
        let seq = self.times.sent();
        if self.json {
            return say(&json!({"event": "lost", "seq": seq}).to_string());
        }
        say(&format!("no answer {seq}"))
    }

    fn sum_up(&self) -> Result<(), Failure> {
        let times = &self.times;
        let nearer = self.node.heartbeat().or(self.nearer);
        if self.json {
            let any = times.answered > 0;
            return say(&json!({
                "event": "summary",
                "sent": times.sent(),
                "answered": times.answered,
                "lost": times.lost,
                "min": any.then(|| rounded(times.least)),
                "avg": any.then(|| rounded(times.average())),
                "max": any.then(|| rounded(times.most)),
                "rendezvous_round_trip": nearer.map(rounded),
            })
            .to_string());
        }
        let mut line = format!(
            "{} sent, {} answered, {} lost",
            times.sent(),
            times.answered,
            times.lost
        );
        if times.answered > 0 {
            let times = [times.least, times.average(), times.most].map(milliseconds);
            line += &format!("; min/avg/max {}", times.join(" / "));
        }
        if let Some(time) = nearer {
            line += &format!("; the rendezvous itself {}", milliseconds(time));
        }
        say(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_summed_up() {
        let mut times = Times::default();
        assert_eq!(times.average(), Duration::ZERO);
        for ms in [4, 1, 7] {
            times.answered(Duration::from_millis(ms));
        }
        times.lost += 1;
        assert_eq!(
            (times.sent(), times.average()),
            (4, Duration::from_millis(4))
        );
        assert_eq!(
            (times.least, times.most),
            (Duration::from_millis(1), Duration::from_millis(7))
        );
    }
}
