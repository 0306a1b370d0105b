//! What the lock of a hub protects: the registry, and the outboxes of the links.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::Hub;
#[cfg(feature = "cluster")]
use crate::rendezvous::cluster;
use crate::{
    rendezvous::{
        feed::Feed,
        gate::Gate,
        outbox::{CloseReason, Outbox},
        registry::{Action, FEW, LinkId, Registry, Welcome},
    },
    runtime::now,
    websocket::Message,
};

/// The time for which the answer to a join waits until other links have been told of the newcomer.
pub(super) const NEWS_TIMEOUT: Duration = Duration::from_millis(100);

/// The registry of a tenant, and the outboxes of the links.
#[derive(Debug)]
pub(super) struct State {
    pub(super) registry: Registry,
    pub(super) outboxes: BTreeMap<LinkId, Arc<Outbox>>,
    /// The time at which the timer wakes up.
    pub(super) timer: Option<Instant>,
    /// The closed gates, ordered by the time at which each opens at the latest.
    pub(super) gates: VecDeque<(Instant, Weak<Gate>)>,
}

impl State {
    /// Performs the actions of the registry. Returns whether something is announced. Nothing here waits, and the lock
    /// is held throughout, so that every link is told things in the order in which the registry decided them.
    pub(super) fn act(&mut self, hub: &Hub) -> bool {
        let mut has_news = false;
        while let Some(action) = self.registry.poll_action() {
            has_news |= matches!(action, Action::Announce(_));
            self.perform(action, hub);
        }
        while let Some((link, dials)) = self.registry.poll_dialled() {
            if let Some(account) = self.outboxes.get(&link).and_then(|outbox| outbox.account()) {
                account.set_dials(dials);
            }
        }
        has_news
    }

    fn perform(&mut self, action: Action, hub: &Hub) {
        let feed = &hub.feed;
        match action {
            Action::Send { to, text } => {
                self.tell(to, |outbox| outbox.push_own(Message::text(text)))
            }
            Action::Notify {
                to,
                flow,
                text,
                is_reset,
            } => self.tell(to, |outbox| {
                if is_reset {
                    outbox.reset(flow);
                }
                outbox.push_notice(flow, Message::text(text));
            }),
            Action::Offer { to, ack, text } => {
                let outbox = self.outboxes.get(&to);
                match outbox.filter(|outbox| outbox.takes_dials()) {
                    Some(outbox) => outbox.push_own(Message::text(text)),
                    None => self.registry.handle_busy(to, ack),
                }
            }
            Action::Welcome {
                to,
                welcome,
                after_news,
            } => self.welcome(feed, to, welcome, after_news),
            Action::Announce(peers) => feed.append(&peers),
            Action::Joined { link, since } => self.tell(link, |outbox| {
                outbox.subscribe(feed.subscribe(link, outbox.clone(), since));
            }),
            Action::Left(link) => {
                feed.unsubscribe(link);
                self.tell(link, |outbox| outbox.unsubscribe());
            }
            Action::Idle(link) => self.tell(link, |outbox| outbox.close(CloseReason::Idle)),
            #[cfg(feature = "cluster")]
            Action::Open(new) => {
                let outbox = hub.new_outbox(new.claimant, cluster::VERSION, true);
                self.outboxes.insert(new.way, outbox.clone());
                hub.open_way(new, outbox);
            }
            #[cfg(feature = "cluster")]
            Action::CloseWay(way) => self.tell(way, |outbox| outbox.close(CloseReason::Unused)),
            #[cfg(feature = "cluster")]
            Action::Publish(publication) => hub.publish(publication),
        }
    }

    /// Does something with the outbox of a link, if the link is still there.
    fn tell(&self, link: LinkId, with: impl FnOnce(&Arc<Outbox>)) {
        if let Some(outbox) = self.outboxes.get(&link) {
            with(outbox);
        }
    }

    /// Sends the answer to a join. With `after_news`, it waits until the other links have written what is announced
    /// before it.
    fn welcome(&mut self, feed: &Feed<Outbox>, to: LinkId, welcome: Welcome, after_news: bool) {
        let Some(outbox) = self.outboxes.get(&to) else {
            return;
        };
        if !after_news {
            return outbox.push_welcome(welcome, None);
        }
        let (gate, token) = Gate::new(outbox);
        for reader in feed.few_readers(FEW).unwrap_or_default() {
            if !Arc::ptr_eq(&reader, outbox) {
                reader.hold(token.clone());
            }
        }
        self.gates
            .push_back((now() + NEWS_TIMEOUT, Arc::downgrade(&gate)));
        outbox.push_welcome(welcome, Some(gate));
        drop(token);
    }

    /// Opens the gates that have been closed for too long.
    pub(super) fn open_gates(&mut self, now: Instant) {
        while let Some((deadline, gate)) = self.gates.front()
            && (*deadline <= now || gate.strong_count() == 0)
        {
            if let Some(gate) = gate.upgrade() {
                gate.open();
            }
            self.gates.pop_front();
        }
    }

    /// Returns the time at which there is something to do next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let gate = self.gates.front().map(|(deadline, _)| *deadline);
        gate.into_iter().chain(self.registry.poll_timeout()).min()
    }
}
