//! What all links share: the registry, and where each link's messages go.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::{Notify, watch};

use super::{
    config::Config,
    metrics::DialTime,
    outbox::{Bundle, CloseReason, Outbox},
    refusals::Refused,
    registry::{Action, Announced, LinkId, Registry, Route},
    server::Snapshot,
    shares::Shares,
    tls,
};
use crate::{
    protocol::{engine_io::Version, event::StreamName},
    websocket::Message,
};

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
    dial_time: DialTime,
    tls: Option<tls::Current>,
}

/// What there is and what has happened, without the list of peers.
#[derive(Debug)]
pub(super) struct Figures {
    /// How many addresses are joined.
    pub(super) peers: usize,
    /// The rest; its list of peers is empty.
    pub(super) snapshot: Snapshot,
}

#[derive(Debug)]
struct State {
    registry: Registry,
    outboxes: HashMap<LinkId, Arc<Outbox>>,
    /// The links of each origin.
    origins: Shares,
    next_link: u64,
    /// Until when the timer sleeps.
    timer: Option<Instant>,
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
                Action::Announce { peers, newcomers } => self.announce(&peers, newcomers),
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
    fn announce(&mut self, peers: &[Announced], newcomers: bool) {
        let mut own = HashMap::<LinkId, usize>::new();
        for (n, peer) in peers.iter().enumerate() {
            own.insert(peer.link, n);
        }
        let bundle = |selected: &mut dyn Iterator<Item = &Announced>| {
            let texts: Vec<&str> = selected.map(|peer| &*peer.text).collect();
            Bundle::split(&texts)
        };
        let for_others = bundle(&mut peers.iter());
        for link in self.registry.joined_links() {
            let Some(outbox) = self.outboxes.get(&link) else {
                continue;
            };
            let dropped = match own.get(&link) {
                None => outbox.push_announcements(&for_others),
                Some(last) => {
                    let known = if newcomers { *last } else { 0 };
                    let rest = peers.get(known..).unwrap_or_default().iter();
                    outbox.push_announcements(&bundle(&mut rest.filter(|peer| peer.link != link)))
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
            origins: Shares::new(config.limits().links as u64),
            next_link: 0,
            timer: None,
            dropped_announcements: 0,
        };
        Self {
            tls: config.tls().cloned().map(tls::Current::new),
            dial_time: DialTime::default(),
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

    /// The certificate for new connections, if they are to use TLS.
    pub(super) fn tls(&self) -> Option<&tls::Current> {
        self.tls.as_ref()
    }

    pub(super) fn dial_time(&self) -> &DialTime {
        &self.dial_time
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
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

    /// Takes an answer to `ss-incomming` from a link.
    pub(super) fn handle_ack(&self, link: LinkId, ack: u64, json: &str) {
        let dialled_at = self.with(|registry| {
            let dialled_at = registry.dialled_at(link, ack);
            registry.handle_ack(link, ack, json);
            dialled_at
        });
        if let Some(dialled_at) = dialled_at {
            let time = now().saturating_duration_since(dialled_at);
            self.dial_time.observe(time);
        }
    }

    /// Admits a link of a client, if there may be one more.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        version: Version,
    ) -> Result<Member, AdmitError> {
        let limits = self.config.limits();
        let outbox = Arc::new(Outbox::new(limits.queue).with_version(version));
        let link = {
            let mut state = self.lock();
            if let Err(error) = self.check_room(&mut state, client) {
                state.registry.count_refused(error.reason());
                return Err(error);
            }
            let link = LinkId(state.next_link);
            state.next_link += 1;
            state.outboxes.insert(link, outbox.clone());
            link
        };
        self.with(|registry| registry.handle_open(link, now()));
        Ok(Member {
            hub: self.clone(),
            link,
            client,
            outbox,
        })
    }

    fn check_room(&self, state: &mut State, client: IpAddr) -> Result<(), AdmitError> {
        let limits = self.config.limits();
        let claimant = self.config.origin_weights().claimant(client);
        if *self.stopping.borrow() {
            Err(AdmitError::Stopping)
        } else if state.outboxes.len() >= limits.links {
            Err(AdmitError::Links)
        } else if state.origins.held_by(claimant.origin) >= limits.links_per_ip as u64 {
            Err(AdmitError::LinksPerIp)
        } else {
            state.origins.take(&claimant, 1);
            Ok(())
        }
    }

    fn remove(&self, link: LinkId, client: IpAddr) {
        let outbox = {
            let mut state = self.lock();
            state.origins.release(client.into(), 1);
            state.outboxes.remove(&link)
        };
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

    /// Counts what was refused elsewhere than in the registry.
    pub(super) fn count_refused(&self, reason: Refused) {
        self.lock().registry.count_refused(reason);
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
            peers: state.registry.addresses().map(str::to_owned).collect(),
            ..self.figures_of(&state)
        }
    }

    pub(super) fn figures(&self) -> Figures {
        let state = self.lock();
        Figures {
            peers: state.registry.addresses().count(),
            snapshot: self.figures_of(&state),
        }
    }

    fn figures_of(&self, state: &State) -> Snapshot {
        Snapshot {
            links: state.registry.links(),
            peers: Vec::new(),
            dials: state.registry.open_dials(),
            queued_bytes: state.outboxes.values().map(|outbox| outbox.bytes()).sum(),
            counters: state.registry.counters(),
            refusals: state.registry.refusals(),
            announcements_dropped: state.dropped_announcements,
            relayed_items: self.relayed_items.load(Ordering::Relaxed),
            relayed_bytes: self.relayed_bytes.load(Ordering::Relaxed),
        }
    }
}

/// Why a link is not admitted; the peer is told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AdmitError {
    #[error("Too many links")]
    Links,
    #[error("Too many links from your address")]
    LinksPerIp,
    #[error("Rendezvous is shutting down")]
    Stopping,
}

impl AdmitError {
    /// As what it is counted.
    fn reason(self) -> Refused {
        match self {
            Self::Links => Refused::TooManyLinks,
            Self::LinksPerIp => Refused::TooManyLinksPerIp,
            Self::Stopping => Refused::ShuttingDown,
        }
    }
}

/// A link's place in the hub, until it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) hub: Arc<Hub>,
    pub(super) link: LinkId,
    /// From where it comes: not the proxy before us, if that one is believed.
    pub(super) client: IpAddr,
    pub(super) outbox: Arc<Outbox>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.hub.remove(self.link, self.client);
    }
}
