//! What the hubs of a node and its cluster have for each other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use super::{ClusterStatus, book::Tenant, clock::Clock, record::PeerRecord, trunk::Trunk};
use crate::{
    protocol::nonce::Stamp,
    rendezvous::{
        hub::now,
        outbox::Outbox,
        registry::{NewWay, Publication},
    },
};

/// A way that is to be opened.
#[derive(Debug)]
pub(in crate::rendezvous) struct OpenWay {
    pub(in crate::rendezvous) tenant: Tenant,
    pub(in crate::rendezvous) new: NewWay,
    pub(in crate::rendezvous) outbox: Arc<Outbox>,
}

/// The last that is to be known of a peer: its record, or that it has left.
type News = Option<(Arc<PeerRecord>, Stamp)>;

#[derive(Debug, Default)]
struct Trays {
    /// The last of each address only.
    publications: BTreeMap<(Tenant, Arc<str>), News>,
    /// As many as there are links and nodes, at most.
    ways: VecDeque<OpenWay>,
    status: ClusterStatus,
    trunks: Vec<Trunk>,
    /// When the directory has shown last that it is up to date.
    current: Option<Instant>,
    bad_records: u64,
}

/// Where the hubs put what the cluster is to do. Nothing here waits: it is used with locks held.
#[derive(Debug)]
pub(in crate::rendezvous) struct Desk {
    clock: Clock,
    trays: Mutex<Trays>,
    put: Notify,
}

impl Desk {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            trays: Mutex::default(),
            put: Notify::new(),
        }
    }

    pub(in crate::rendezvous) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn lock(&self) -> MutexGuard<'_, Trays> {
        self.trays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::rendezvous) fn open(&self, way: OpenWay) {
        self.lock().ways.push_back(way);
        self.put.notify_one();
    }

    pub(in crate::rendezvous) fn publish(&self, tenant: Option<&Arc<str>>, news: Publication) {
        let (address, news) = match news {
            Publication::Joined(record, stamp) => (record.address.clone(), Some((record, stamp))),
            Publication::Left(address) => (address, None),
        };
        let key = (tenant.cloned(), address);
        self.lock().publications.insert(key, news);
        self.put.notify_one();
    }

    /// What the node knows of its cluster, as it was told last.
    pub(in crate::rendezvous) fn status(&self) -> ClusterStatus {
        let trays = self.lock();
        let age = trays
            .current
            .map(|current| now().saturating_duration_since(current));
        ClusterStatus {
            directory_age: age,
            bad_records: trays.bad_records,
            each: trays.trunks.iter().map(Trunk::status).collect(),
            ..trays.status.clone()
        }
    }

    pub(super) fn set_status(&self, status: ClusterStatus) {
        self.lock().status = status;
    }

    pub(super) fn set_trunks(&self, trunks: Vec<Trunk>) {
        self.lock().trunks = trunks;
    }

    /// The directory has shown that it is up to date.
    pub(super) fn set_current(&self) {
        self.lock().current = Some(now());
    }

    pub(super) fn count_bad_record(&self) {
        self.lock().bad_records += 1;
    }

    /// Whether nothing waits to be told to the other nodes.
    pub(super) fn is_told(&self) -> bool {
        self.lock().publications.is_empty()
    }

    /// Returns when something may have been put here. Cancel safe.
    pub(super) async fn put(&self) {
        self.put.notified().await;
    }

    /// What is to be known next of a peer.
    pub(super) fn next_publication(&self) -> Option<((Tenant, Arc<str>), News)> {
        self.lock().publications.pop_first()
    }

    pub(super) fn next_way(&self) -> Option<OpenWay> {
        self.lock().ways.pop_front()
    }
}
