//! What all tenants of a server share: who may come in, memory, the certificate, and the end.

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

#[cfg(feature = "cluster")]
use super::cluster::Desk;
use super::{
    access::Doorkeeper,
    admission::Admission,
    budget::Budget,
    commons::Commons,
    config::Config,
    day::Day,
    hub::now,
    quota::Quotas,
    tenant::TenantId,
    tls,
    usage::{PeerUsage, Usage},
};

#[derive(Debug)]
pub(super) struct House {
    config: Config,
    admission: Arc<Admission>,
    /// Who is asked about joins, if anybody.
    doorkeeper: Option<Doorkeeper>,
    budget: Arc<Budget>,
    commons: Commons,
    /// What each peer has sent, where that is counted.
    usage: Option<Usage>,
    /// How much may be sent, if there is any bound.
    quotas: Option<Arc<Quotas>>,
    /// What this node and its cluster have for each other, if there is one.
    #[cfg(feature = "cluster")]
    desk: Option<Arc<Desk>>,
    stopping: watch::Sender<bool>,
    /// Set when new links are to go elsewhere, before it stops.
    #[cfg(feature = "cluster")]
    draining: AtomicBool,
    links: Arc<AtomicU64>,
    panics: AtomicU64,
    tls: Option<tls::Current>,
}

impl House {
    pub(super) fn new(config: Config) -> Self {
        Self {
            tls: config.tls().cloned().map(tls::Current::new),
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
            desk: config.cluster().map(|cluster| Arc::new(cluster.desk())),
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

    /// Who is asked about joins, if anybody.
    pub(super) fn doorkeeper(&self) -> Option<&Doorkeeper> {
        self.doorkeeper.as_ref()
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(super) fn commons(&self) -> &Commons {
        &self.commons
    }

    /// Where it is counted what the peers of a tenant send, if it is.
    pub(super) fn usage_of(&self, tenant: Option<&Arc<str>>) -> Option<Usage> {
        let usage = self.usage.as_ref()?;
        Some(match tenant {
            Some(tenant) => usage.of_tenant(tenant.clone()),
            None => usage.clone(),
        })
    }

    /// Those who have sent most today, at most so many; none where that is not counted.
    pub(super) fn top_peers(&self, most: usize) -> Vec<PeerUsage> {
        let usage = self.usage.as_ref().filter(|_| most > 0);
        let top = usage.map(|usage| usage.top(most, now(), Day::of(SystemTime::now())));
        top.unwrap_or_default()
    }

    /// The same. Other tasks get their turns in between.
    #[cfg(feature = "rendezvous")]
    pub(super) async fn top_peers_in_turns(&self, most: usize) -> Vec<PeerUsage> {
        let today = Day::of(SystemTime::now());
        match &self.usage {
            Some(usage) => usage.top_in_turns(most, now(), today).await,
            None => Vec::new(),
        }
    }

    /// How much may be sent in a tenant, if there is any bound.
    pub(super) fn quotas_of(&self, tenant: Option<TenantId>) -> Option<Arc<Quotas>> {
        let quotas = self.quotas.as_ref()?;
        Some(match tenant {
            Some(TenantId(number)) => quotas.of_tenant(number + 1),
            None => quotas.clone(),
        })
    }

    /// The certificate for new connections, if they are to use TLS.
    pub(super) fn tls(&self) -> Option<&tls::Current> {
        self.tls.as_ref()
    }

    /// What this node and its cluster have for each other, if there is one.
    #[cfg(feature = "cluster")]
    pub(super) fn desk(&self) -> Option<&Arc<Desk>> {
        self.desk.as_ref()
    }

    /// The number of the next link.
    #[cfg(feature = "cluster")]
    pub(super) fn links(&self) -> &Arc<AtomicU64> {
        &self.links
    }

    /// A number that no other link has.
    pub(super) fn next_link(&self) -> u64 {
        self.links.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a connection that ended with a panic of ours.
    pub(super) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Whether new links are to go elsewhere: it stops, or is about to.
    pub(super) fn is_leaving(&self) -> bool {
        #[cfg(feature = "cluster")]
        if self.draining.load(Ordering::Relaxed) {
            return true;
        }
        self.is_stopping()
    }

    /// Has new links go elsewhere from now on, and all else go on.
    #[cfg(feature = "cluster")]
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Lets no more links in.
    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
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

    /// Waits for what comes before HTTP, no longer than that may take. `None` if the server is shut down meanwhile; whoever
    /// comes when that has begun may still ask for its health.
    pub(super) async fn in_time<F: Future>(&self, first: F) -> Option<Result<F::Output, Elapsed>> {
        let is_late = self.is_stopping();
        let timeout = self.config.limits().handshake_timeout;
        tokio::select! {
            first = tokio::time::timeout(timeout, first) => Some(first),
            () = self.stopping(), if !is_late => None,
        }
    }
}
