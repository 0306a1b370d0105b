//! What all links share: the registry, and where each link's messages go.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::{Notify, watch};
use tokio_websockets::Message;

use super::{
    config::Config,
    outbox::{Bundle, CloseReason, Outbox},
    registry::{Action, Announced, LinkId, Registry, Route},
    server::Snapshot,
};
use crate::protocol::event::StreamName;

/// The clock of everything here, which a test may pause.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[derive(Debug)]
pub(super) struct Hub {
    config: Config,
    state: Mutex<State>,
    /// Told when the registry's next deadline is earlier than it was.
    earlier: Notify,
    stopping: watch::Sender<bool>,
    relayed_items: AtomicU64,
    relayed_bytes: AtomicU64,
}

#[derive(Debug)]
struct State {
    registry: Registry,
    outboxes: HashMap<LinkId, Arc<Outbox>>,
    next_link: u64,
    /// Until when the timer sleeps.
    timer: Option<Instant>,
    refused_links: u64,
    dropped_announcements: u64,
}

impl State {
    /// Does what the registry wants done. Nothing here waits, and the lock is held throughout, so
    /// that every link is told in the order in which the registry decided.
    fn act(&mut self) {
        while let Some(action) = self.registry.poll_action() {
            match action {
                Action::Send { to, text } => {
                    if let Some(outbox) = self.outboxes.get(&to) {
                        outbox.push_own(Message::text(text));
                    }
                }
                Action::Announce { peers, newcomers } => self.announce(peers, newcomers),
                Action::Idle(link) => {
                    if let Some(outbox) = self.outboxes.get(&link) {
                        outbox.close(CloseReason::Idle);
                    }
                }
            }
        }
    }

    /// Puts what most links are told into their queues as a whole; only the links of the announced
    /// peers need another selection.
    fn announce(&mut self, peers: Vec<Announced>, newcomers: bool) {
        let mut own = HashMap::<LinkId, usize>::new();
        for (n, peer) in peers.iter().enumerate() {
            own.insert(peer.link, n);
        }
        let messages: Vec<(LinkId, Message)> = peers
            .into_iter()
            .map(|peer| (peer.link, Message::text(peer.text)))
            .collect();
        let bundle = |selected: &mut dyn Iterator<Item = &(LinkId, Message)>| {
            let messages = selected.map(|(_, message)| message.clone()).collect();
            Bundle::split(messages)
        };
        let for_others = bundle(&mut messages.iter());
        for link in self.registry.joined_links() {
            let Some(outbox) = self.outboxes.get(&link) else {
                continue;
            };
            let dropped = match own.get(&link) {
                None => outbox.push_announcements(&for_others),
                Some(last) => {
                    let known = if newcomers { *last } else { 0 };
                    let rest = messages.get(known..).unwrap_or_default().iter();
                    outbox.push_announcements(&bundle(&mut rest.filter(|(of, _)| *of != link)))
                }
            };
            self.dropped_announcements += dropped as u64;
        }
    }
}

impl Hub {
    pub(super) fn new(config: Config) -> Self {
        let state = State {
            registry: Registry::new(&config),
            outboxes: HashMap::new(),
            next_link: 0,
            timer: None,
            refused_links: 0,
            dropped_announcements: 0,
        };
        Self {
            config,
            state: Mutex::new(state),
            earlier: Notify::new(),
            stopping: watch::Sender::new(false),
            relayed_items: AtomicU64::new(0),
            relayed_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the registry, and does what it wants done.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut Registry) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state.registry);
        state.act();
        let next = state.registry.poll_timeout();
        if next.is_some_and(|next| state.timer.is_none_or(|timer| next < timer)) {
            state.timer = next;
            self.earlier.notify_one();
        }
        result
    }

    /// Admits a link, if there may be one more.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Member> {
        let outbox = Arc::new(Outbox::new(self.config.limits().queue));
        let link = {
            let mut state = self.lock();
            if *self.stopping.borrow() || state.outboxes.len() >= self.config.limits().links {
                state.refused_links += 1;
                return None;
            }
            let link = LinkId(state.next_link);
            state.next_link += 1;
            state.outboxes.insert(link, outbox.clone());
            link
        };
        self.with(|registry| registry.handle_open(link, now()));
        Some(Member {
            hub: self.clone(),
            link,
            outbox,
        })
    }

    fn remove(&self, link: LinkId) {
        let outbox = self.lock().outboxes.remove(&link);
        if let Some(outbox) = outbox {
            outbox.shut();
        }
        self.with(|registry| registry.handle_close(link));
    }

    /// Where what `link` sends on `stream` goes.
    pub(super) fn route(
        &self,
        link: LinkId,
        stream: StreamName<'_>,
    ) -> Option<(Route, Arc<Outbox>)> {
        let state = self.lock();
        let route = state.registry.route(link, stream)?;
        let outbox = state.outboxes.get(&route.to)?.clone();
        Some((route, outbox))
    }

    /// Counts an item that was handed on.
    pub(super) fn count_relayed(&self, bytes: usize) {
        self.relayed_items.fetch_add(1, Ordering::Relaxed);
        self.relayed_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Gives the registry its timeouts, for as long as the server runs.
    pub(super) async fn run_timer(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                state.timer = state.registry.poll_timeout();
                state.timer
            };
            let sleep = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => self.with(|registry| registry.handle_timeout(now())),
                () = self.earlier.notified() => {}
            }
        }
    }

    /// Ends all streams, and has every link closed when it has taken what is queued for it.
    pub(super) fn shut_down(&self) {
        self.stopping.send_replace(true);
        self.with(Registry::shut_down);
        for outbox in self.lock().outboxes.values() {
            outbox.close(CloseReason::Shutdown);
        }
    }

    /// Returns when the server is shut down.
    pub(super) async fn stopping(&self) {
        // The sender is our own.
        let _ = self
            .stopping
            .subscribe()
            .wait_for(|stopping| *stopping)
            .await;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        Snapshot {
            links: state.registry.links(),
            peers: state.registry.addresses().map(str::to_owned).collect(),
            dials: state.registry.open_dials(),
            queued_bytes: state.outboxes.values().map(|outbox| outbox.bytes()).sum(),
            counters: state.registry.counters(),
            links_refused: state.refused_links,
            announcements_dropped: state.dropped_announcements,
            relayed_items: self.relayed_items.load(Ordering::Relaxed),
            relayed_bytes: self.relayed_bytes.load(Ordering::Relaxed),
        }
    }
}

/// A link's place in the hub, until it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) hub: Arc<Hub>,
    pub(super) link: LinkId,
    pub(super) outbox: Arc<Outbox>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.hub.remove(self.link);
    }
}
