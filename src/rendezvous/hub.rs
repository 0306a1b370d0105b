//! What all links of one tenant share: the registry, and the outboxes to which messages for the links go.

#[cfg(feature = "cluster")]
mod cluster;
mod cut_off;
mod figures;
#[cfg(feature = "rendezvous")]
mod joined;
mod state;

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;

pub(super) use self::figures::Figures;
use self::state::{NEWS_TIMEOUT, State};
use super::{
    access::{Doorkeeper, Visit},
    admission::{LinkPlace, Place},
    config::Config,
    dial_time::DialTime,
    feed::{Feed, next_slice},
    gate::Queue as _,
    house::House,
    origin::Claimant,
    outbox::{CloseReason, Outbox},
    places::NoLink,
    quota::Quotas,
    refusals::Refused,
    registry::{FEW, LinkId, Registry, Route, behind},
    shared::{Guard, Name, Shared},
    snapshot::Snapshot,
    tenant::{Tenant, TenantId},
};
use crate::{
    protocol::{engine_io::Version, event::StreamName},
    runtime::now,
};

/// How many times in a row the registry handles timeouts before links are woken to write announcements.
const TIMEOUTS_IN_A_ROW: usize = 16;
/// The number of addresses that are copied while the lock is held.
const ADDRESSES_AT_ONCE: usize = 512;

/// The links of one tenant, and what they share.
#[derive(Debug)]
pub(super) struct Hub {
    house: Arc<House>,
    config: Config,
    /// The tenant's name; `None` for the default tenant.
    tenant: Option<Arc<str>>,
    /// The limits on what may be sent; `None` if there are none.
    quotas: Option<Arc<Quotas>>,
    state: Shared<State>,
    /// The announcements. Lock order: the feed's lock is taken after that of the state and those of outboxes.
    feed: Feed<Outbox>,
    /// Notified when the registry's next deadline is earlier than before.
    earlier: Notify,
    /// Notified when there are announcements and too many links to wake each one at once.
    news: Notify,
    relayed_items: AtomicU64,
    relayed_bytes: AtomicU64,
    dial_time: DialTime,
}

impl Hub {
    /// Creates the hub of a tenant, or of the default one.
    pub(super) fn new(house: Arc<House>, id: Option<TenantId>) -> Self {
        let config = house.config().of_tenant(id);
        let tenant = id.and_then(|id| house.config().tenants().name(id));
        let quotas = house.quotas_of(id);
        let registry = Registry::new(&config, house.commons().clone())
            .with_usage(house.usage_of(tenant.as_ref()), quotas.clone());
        #[cfg(feature = "cluster")]
        let registry = match house.desk() {
            Some(desk) => {
                registry.with_cluster(house.links().clone(), tenant.clone(), desk.clock().clone())
            }
            None => registry,
        };
        let state = State {
            registry,
            outboxes: BTreeMap::new(),
            timer: None,
            gates: VecDeque::new(),
        };
        Self {
            feed: Feed::new(config.tenant_count()),
            dial_time: DialTime::default(),
            house,
            config,
            tenant,
            quotas,
            state: Shared::new(Name::Hub, state),
            earlier: Notify::new(),
            news: Notify::new(),
            relayed_items: AtomicU64::new(0),
            relayed_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the name of the tenant; `None` for the default tenant.
    pub(super) fn tenant(&self) -> Option<&Arc<str>> {
        self.tenant.as_ref()
    }

    /// Returns the name of the tenant, which the default one has, too.
    pub(super) fn name(&self) -> &str {
        self.tenant.as_deref().unwrap_or(Tenant::DEFAULT)
    }

    /// Returns what asks the application about joins; `None` if it has no access.
    pub(super) fn doorkeeper(&self) -> Option<&Doorkeeper> {
        self.house.doorkeeper()
    }

    /// Returns the limits on what may be sent; `None` if there are none.
    pub(super) fn quotas(&self) -> Option<&Arc<Quotas>> {
        self.quotas.as_ref()
    }

    pub(super) fn dial_time(&self) -> &DialTime {
        &self.dial_time
    }

    fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    pub(super) fn feed(&self) -> &Feed<Outbox> {
        &self.feed
    }

    /// Changes the registry, and then performs its actions.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut Registry) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state.registry);
        let has_news = state.act(self);
        let next = state.poll_timeout();
        let is_earlier = next.is_some_and(|next| state.timer.is_none_or(|timer| next < timer));
        if is_earlier {
            state.timer = next;
        }
        let over = state.registry.take_over();
        drop(state);
        // Contains guards of the application, so it is dropped without the lock.
        drop(over);
        if is_earlier {
            self.earlier.notify_one();
        }
        if has_news {
            self.tell_news();
        }
        result
    }

    /// Makes the joined links write the announcements: a few links at once, very many one after another.
    fn tell_news(&self) {
        match self.feed.few_readers(FEW) {
            Some(readers) => readers.iter().for_each(|reader| reader.wake_writer()),
            None => self.news.notify_one(),
        }
    }

    /// Wakes all joined links, and lets other tasks run in between.
    async fn wake_readers(&self) {
        let mut last = None;
        loop {
            let readers = self.feed.some_readers(&mut last);
            if readers.is_empty() {
                return;
            }
            readers.iter().for_each(|reader| reader.wake_writer());
            drop(readers);
            tokio::task::yield_now().await;
        }
    }

    /// Handles an answer to `ss-incomming` from a link.
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

    /// Admits a client's link on its connection, if the client may have one.
    pub(super) fn admit(
        self: &Arc<Self>,
        place: &Place,
        client: IpAddr,
        version: Version,
        visit: Option<Visit>,
    ) -> Result<Member, AdmitError> {
        let claimant = self.config.origin_weights().claimant(client);
        let outbox = self.new_outbox(claimant, version, false);
        let place = self
            .link_place(place, client, &outbox)
            .inspect_err(|error| {
                self.count_refused(error.reason());
            })?;
        let link = {
            let mut state = self.lock();
            let link = LinkId(self.house.next_link());
            state.outboxes.insert(link, outbox.clone());
            link
        };
        if self.house.is_stopping() {
            outbox.close(CloseReason::Shutdown);
        }
        self.with(|registry| registry.handle_open(link, claimant, now()));
        Ok(Member {
            hub: self.clone(),
            link,
            client,
            claimant,
            visit: visit.map(Arc::new),
            outbox,
            place: Some(place),
        })
    }

    /// Returns whether new links are refused.
    pub(super) fn is_leaving(&self) -> bool {
        self.house.is_leaving()
    }

    /// Creates the outbox of a link. `is_way` tells whether the link is a way, which leads to several links at another
    /// node.
    fn new_outbox(&self, claimant: Claimant, version: Version, is_way: bool) -> Arc<Outbox> {
        Arc::new_cyclic(|outbox: &Weak<Outbox>| {
            let account = self.house.budget().account(claimant, outbox.clone());
            Outbox::new(self.config.limits().queue)
                .with_version(version)
                .with_account(account)
                .with_way(is_way)
        })
    }

    fn link_place(
        &self,
        place: &Place,
        client: IpAddr,
        outbox: &Arc<Outbox>,
    ) -> Result<LinkPlace, AdmitError> {
        if self.house.is_stopping() {
            return Err(AdmitError::Stopping);
        }
        let begun = place.begin_link(client, outbox, now());
        begun.map_err(|error| match error {
            NoLink::Full => AdmitError::Links,
            NoLink::TooMany => AdmitError::LinksPerIp,
            NoLink::TooOften => AdmitError::Rate,
        })
    }

    fn remove(&self, link: LinkId) {
        let outbox = self.lock().outboxes.remove(&link);
        if let Some(outbox) = outbox {
            outbox.discard();
        }
        self.with(|registry| registry.handle_close(link));
    }

    /// Returns where the data goes that `link` sends on `stream`.
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

    /// Returns whether a link has at most one dial.
    pub(super) fn has_one_dial(&self, link: LinkId) -> bool {
        self.lock().registry.dials_of(link) <= 1
    }

    /// Counts a refusal that was made outside of the registry.
    pub(super) fn count_refused(&self, reason: Refused) {
        self.lock().registry.count_refused(reason);
    }

    /// Counts an item that was relayed.
    pub(super) fn count_relayed(&self, bytes: usize) {
        self.relayed_items.fetch_add(1, Ordering::Relaxed);
        self.relayed_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Passes timeouts to the registry, for as long as the server runs.
    pub(super) async fn run_timer(&self) {
        loop {
            let mut next = self.next_timeout();
            // First everything that is due is done, so that the links then have as much as possible to write at once.
            for _ in 0..TIMEOUTS_IN_A_ROW {
                if next.is_none_or(|next| next > now()) {
                    break;
                }
                self.with(|registry| registry.handle_timeout(now()));
                tokio::task::yield_now().await;
                next = self.next_timeout();
            }
            let sleep = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.earlier.notified() => {}
                () = self.news.notified() => self.wake_readers().await,
            }
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.open_gates(now());
        state.timer = state.poll_timeout();
        state.timer
    }

    /// Ends all streams, and closes every link once it has taken its queued data. The house must be stopped before.
    pub(super) async fn shut_down(&self) {
        while self.with(Registry::shut_down) {
            tokio::task::yield_now().await;
        }
        // The timer does not run any more, so all gates are opened.
        self.lock().open_gates(now() + NEWS_TIMEOUT);
        // A link that is admitted after the last of these is closed by [`admit`](Self::admit).
        let mut last = None;
        loop {
            let some = next_slice(&self.lock().outboxes, &mut last);
            if some.is_empty() {
                return;
            }
            for outbox in some {
                outbox.close(CloseReason::Shutdown);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Returns the joined addresses, as text.
    pub(super) fn peers(&self) -> Vec<String> {
        let addresses = self.addresses();
        addresses.iter().map(ToString::to_string).collect()
    }

    /// Returns the joined addresses. They are copied in slices, so that no other task is held up. An address that joins
    /// or leaves meanwhile may be included or not.
    fn addresses(&self) -> Vec<Arc<str>> {
        let mut all: Vec<Arc<str>> = Vec::new();
        let mut from = String::new();
        loop {
            let some = self
                .lock()
                .registry
                .addresses_from(&from, ADDRESSES_AT_ONCE);
            let is_last = some.len() < ADDRESSES_AT_ONCE;
            all.extend(some);
            match all.last() {
                Some(last) if !is_last => from = behind(last),
                _ => return all,
            }
        }
    }

    /// Returns what is counted for this tenant alone.
    pub(super) fn figures(&self) -> Figures {
        let state = self.lock();
        let snapshot = Snapshot {
            links: state.registry.link_count(),
            dials: state.registry.dial_count(),
            counters: state.registry.counters(),
            refusals: state.registry.refusals(),
            announcements_dropped: self.feed.missed(),
            relayed_items: self.relayed_items.load(Ordering::Relaxed),
            relayed_bytes: self.relayed_bytes.load(Ordering::Relaxed),
            ..Snapshot::default()
        };
        let peers = state.registry.peer_count();
        Figures { peers, snapshot }
    }
}

/// The reason why a link is not admitted. The client is told this text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AdmitError {
    #[error("Too many links")]
    Links,
    #[error("Too many links from your address")]
    LinksPerIp,
    #[error("Too many connections a second from your address")]
    Rate,
    #[error("Rendezvous is shutting down")]
    Stopping,
}

impl AdmitError {
    /// Returns the reason under which the refusal is counted.
    fn reason(self) -> Refused {
        match self {
            Self::Links => Refused::TooManyLinks,
            Self::LinksPerIp => Refused::TooManyLinksPerIp,
            Self::Rate => Refused::ConnectionRate,
            Self::Stopping => Refused::ShuttingDown,
        }
    }
}

/// A link's place in the hub, held until this is dropped.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) hub: Arc<Hub>,
    pub(super) link: LinkId,
    /// The address that the link comes from. If a trusted proxy is in front of the server, this is the client behind
    /// it.
    pub(super) client: IpAddr,
    /// The origin of this address, with its weight.
    pub(super) claimant: Claimant,
    /// What the link's HTTP request said; `None` if the application has no access.
    pub(super) visit: Option<Arc<Visit>>,
    pub(super) outbox: Arc<Outbox>,
    /// The link's place, given back after the registry has forgotten the link. Our own links to other nodes have none.
    pub(super) place: Option<LinkPlace>,
}

impl Member {
    /// Sets whether an address is joined on the link.
    pub(super) fn set_joined(&self, joined: bool) {
        if let Some(place) = &self.place {
            place.set_joined(joined);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.hub.remove(self.link);
    }
}
