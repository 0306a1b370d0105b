//! `star peers`: shows who is at a rendezvous, and how long a round trip to each peer takes.

mod measure;
mod view;

use std::time::{Duration, Instant};

use libp2p_identity::PeerId;
use libp2p_swarm::SwarmEvent;
use libp2p_websocket_star as star;
use multiaddr::Multiaddr;
use tokio::time::{MissedTickBehavior, interval};

use self::{
    measure::Measures,
    view::{News, View},
};
use crate::{
    address,
    arguments::PeersArguments,
    failure::Failure,
    node::{BehaviourEvent, Event, Habits, Node, told},
    stop::Stop,
};

/// The time after the join within which a small rendezvous has announced all its peers.
const INTRODUCED: Duration = Duration::from_secs(2);
/// The interval at which the table is redrawn and overdue measurements are ended.
const TICK: Duration = Duration::from_millis(500);
/// The ping interval, so long that each connection is pinged only once, when it opens.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Shows the peers at a rendezvous.
///
/// # Errors
/// If the rendezvous cannot be joined, or it is interrupted before that, or standard output cannot be written.
pub async fn run(arguments: PeersArguments, stop: &mut Stop) -> Result<(), Failure> {
    let address = address::rendezvous(arguments.rendezvous)?;
    let (key, config) = (arguments.node.key()?, arguments.node.config(&address)?);
    let habits = Habits {
        ping_interval: NEVER,
        ping_timeout: arguments.node.timeout,
        ..Habits::default()
    };
    let mut node = Node::new(&key, config, habits)?;
    let joined = tokio::select! {
        joined = node.join(&address) => joined?,
        () = stop.wanted() => return Err(Failure::NotJoined),
    };
    let mut view = View::new(arguments.node.json, address.rendezvous().to_string());
    view.tell(&News::Joined(joined))?;
    let now = Instant::now();
    let mut watch = Watch {
        node,
        view,
        measures: Measures::new(!arguments.no_ping, arguments.node.timeout),
        introduced: arguments.once.then(|| now + INTRODUCED),
        end: arguments.r#for.map(|time| now + time),
    };
    watch.already_known()?;
    let watched = tokio::select! {
        watched = watch.run() => watched,
        () = stop.wanted() => Ok(()),
    };
    watched.and_then(|()| watch.view.end())
}

struct Watch {
    node: Node,
    view: View,
    measures: Measures,
    /// With `--once`, the time from which all peers are known.
    introduced: Option<Instant>,
    end: Option<Instant>,
}

impl Watch {
    /// Adds the peers that were announced with the join.
    fn already_known(&mut self) -> Result<(), Failure> {
        let known = self.node.swarm.behaviour().discovery.discovered();
        let known: Vec<_> = known
            .map(|(peer, address)| (*peer, address.clone()))
            .collect();
        known
            .into_iter()
            .try_for_each(|(peer, address)| self.discovered(peer, address))
    }

    fn discovered(&mut self, peer: PeerId, address: Multiaddr) -> Result<(), Failure> {
        self.measures.add(peer, &address);
        self.view.tell(&News::Discovered(peer, address))
    }

    async fn run(&mut self) -> Result<(), Failure> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.node.next() => self.event(event)?,
                _ = ticks.tick() => {
                    let now = Instant::now();
                    let overdue = self.measures.overdue(now);
                    self.unreachable(overdue)?;
                    self.view.draw()?;
                    if self.is_over(now) {
                        return Ok(());
                    }
                }
            }
            let failed = self.measures.begin(&mut self.node, Instant::now());
            self.unreachable(failed)?;
        }
    }

    fn unreachable(&mut self, peers: Vec<(PeerId, String)>) -> Result<(), Failure> {
        let mut news = peers
            .into_iter()
            .map(|(peer, why)| News::Unreachable(peer, why));
        news.try_for_each(|news| self.view.tell(&news))
    }

    fn is_over(&self, now: Instant) -> bool {
        let all_known = self.introduced.is_some_and(|introduced| introduced <= now);
        let is_time = self.end.is_some_and(|end| end <= now);
        is_time || (all_known && self.measures.are_done())
    }

    fn event(&mut self, event: Event) -> Result<(), Failure> {
        let news = match event {
            SwarmEvent::Behaviour(BehaviourEvent::Discovery(star::Event::Discovered {
                peer,
                address,
            })) => return self.discovered(peer, address),
            SwarmEvent::Behaviour(BehaviourEvent::Discovery(star::Event::Expired {
                peer, ..
            })) => {
                self.measures.remove(&peer);
                News::Expired(peer)
            }
            SwarmEvent::ListenerError { error, .. } => News::Lost(told(&error)),
            SwarmEvent::NewListenAddr { address, .. } => News::Joined(address),
            SwarmEvent::ListenerClosed {
                reason: Err(error), ..
            } => return Err(Failure::Rendezvous(told(&error))),
            event => match self.measures.event(event, &mut self.node) {
                Some((peer, Ok(time))) => News::RoundTrip(peer, time),
                Some((peer, Err(why))) => News::Unreachable(peer, why),
                None => return Ok(()),
            },
        };
        self.view.tell(&news)
    }
}
