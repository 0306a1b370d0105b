//! What all tenants of a server share: the admission, the memory budget, the certificate, and the shutdown.

#[cfg(feature = "cluster")]
use std::sync::atomic::AtomicBool;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use tokio::{sync::watch, time::error::Elapsed};

use super::{
    access::Doorkeeper,
    admission::Admission,
    budget::Budget,
    commons::Commons,
    config::Config,
    day::Day,
    quota::Quotas,
    tenant::TenantId,
    tls,
    usage::{PeerUsage, Usage},
};
#[cfg(feature = "cluster")]
use super::{cluster::Clock, desk::Desk};
use crate::runtime::now;

/// The state that all tenants of one server share.
#[derive(Debug)]
pub(super) struct House {
    config: Config,
    admission: Arc<Admission>,
    /// Asks the application about joins; `None` if it has no access.
    doorkeeper: Option<Doorkeeper>,
    budget: Arc<Budget>,
    commons: Commons,
    /// The bytes that each peer has sent; `None` if they are not counted.
    usage: Option<Usage>,
    /// The limits on what may be sent; `None` if there are none.
    quotas: Option<Arc<Quotas>>,
    /// The exchange between this node and its cluster; `None` outside a cluster.
    #[cfg(feature = "cluster")]
    desk: Option<Arc<Desk>>,
    stopping: watch::Sender<bool>,
    /// Set before the server stops, when new links are to go to other nodes.
    #[cfg(feature = "cluster")]
    draining: AtomicBool,
    links: Arc<AtomicU64>,
    panics: AtomicU64,
    tls: Option<tls::CurrentCertificate>,
}

impl House {
    pub(super) fn new(config: Config) -> Self {
        Self {
            tls: config.tls().cloned().map(tls::CurrentCertificate::new),
            doorkeeper: config.access().map(|access| {
                let (in_flight, timeout) = config.access_bounds();
                Doorkeeper::new(access, in_flight, timeout)
            }),
            admission: Arc::new(Admission::new(config.clone())),
            budget: Arc::new(Budget::new(config.limits().memory)),
            commons: Commons::new(config.limits()),
            usage: config.counts_peers().then(Usage::default),
            quotas: Quotas::new(config.quotas()),
            #[cfg(feature = "cluster")]
            desk: config
                .cluster()
                .map(|cluster| Arc::new(Desk::new(Clock::new(cluster.id())))),
            config,
            stopping: watch::Sender::new(false),
            #[cfg(feature = "cluster")]
            draining: AtomicBool::new(false),
            links: Arc::default(),
            panics: AtomicU64::new(0),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Returns what asks the application about joins; `None` if it has no access.
    pub(super) fn doorkeeper(&self) -> Option<&Doorkeeper> {
        self.doorkeeper.as_ref()
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(super) fn commons(&self) -> &Commons {
        &self.commons
    }

    /// Returns the counts of what the peers of a tenant send; `None` if nothing is counted.
    pub(super) fn usage_of(&self, tenant: Option<&Arc<str>>) -> Option<Usage> {
        let usage = self.usage.as_ref()?;
        Some(match tenant {
            Some(tenant) => usage.of_tenant(tenant.clone()),
            None => usage.clone(),
        })
    }

    /// Returns the peers that have sent the most today, at most `most`. Empty if nothing is counted.
    pub(super) fn top_peers(&self, most: usize) -> Vec<PeerUsage> {
        let usage = self.usage.as_ref().filter(|_| most > 0);
        let top = usage.map(|usage| usage.top(most, now(), Day::of(SystemTime::now())));
        top.unwrap_or_default()
    }

    /// Does the same as [`top_peers`](Self::top_peers), and lets other tasks run in between.
    #[cfg(feature = "rendezvous")]
    pub(super) async fn top_peers_in_turns(&self, most: usize) -> Vec<PeerUsage> {
        let today = Day::of(SystemTime::now());
        match &self.usage {
            Some(usage) => usage.top_in_turns(most, now(), today).await,
            None => Vec::new(),
        }
    }

    /// Returns the limits on what may be sent in a tenant; `None` if there are none.
    pub(super) fn quotas_of(&self, tenant: Option<TenantId>) -> Option<Arc<Quotas>> {
        let quotas = self.quotas.as_ref()?;
        Some(match tenant {
            Some(TenantId(number)) => quotas.of_tenant(number + 1),
            None => quotas.clone(),
        })
    }

    /// Returns the certificate for new connections; `None` if they do not use TLS.
    pub(super) fn tls(&self) -> Option<&tls::CurrentCertificate> {
        self.tls.as_ref()
    }

    /// Returns the exchange between this node and its cluster; `None` outside a cluster.
    #[cfg(feature = "cluster")]
    pub(super) fn desk(&self) -> Option<&Arc<Desk>> {
        self.desk.as_ref()
    }

    /// Returns the counter for the numbers of links.
    #[cfg(feature = "cluster")]
    pub(super) fn links(&self) -> &Arc<AtomicU64> {
        &self.links
    }

    /// Returns a number that no other link has.
    pub(super) fn next_link(&self) -> u64 {
        self.links.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a connection that ended because our code panicked.
    pub(super) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Returns whether new links are refused, because the server stops or is about to stop.
    pub(super) fn is_leaving(&self) -> bool {
        #[cfg(feature = "cluster")]
        if self.draining.load(Ordering::Relaxed) {
            return true;
        }
        self.is_stopping()
    }

    /// Refuses new links from now on, while everything else continues.
    #[cfg(feature = "cluster")]
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Refuses new links and begins to stop the server.
    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Returns when the server stops.
    pub(super) async fn stopping(&self) {
        // The sender belongs to `self`, so this cannot fail.
        let _ = self
            .stopping
            .subscribe()
            .wait_for(|stopping| *stopping)
            .await;
    }

    /// Waits for a step before HTTP, at most for the handshake timeout. Returns `None` if the server begins to stop
    /// meanwhile. A connection that comes after that is still served, so that its client can ask for `/health`.
    pub(super) async fn in_time<F: Future>(&self, first: F) -> Option<Result<F::Output, Elapsed>> {
        let is_late = self.is_stopping();
        let timeout = self.config.limits().handshake_timeout;
        tokio::select! {
            first = tokio::time::timeout(timeout, first) => Some(first),
            () = self.stopping(), if !is_late => None,
        }
    }
}
