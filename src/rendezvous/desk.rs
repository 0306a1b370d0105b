//! What the hubs of a node and its cluster pass to each other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use super::{
    cluster::{Clock, ClusterStatus, NodeId, PeerRecord, Tenant, TrunkCounts},
    outbox::Outbox,
    registry::{NewWay, Publication},
};
use crate::{protocol::nonce::Stamp, runtime::now};

/// A way that has to be opened: a link of ours to another node, for the dials of one link here.
#[derive(Debug)]
pub(super) struct OpenWay {
    pub(super) tenant: Tenant,
    pub(super) new: NewWay,
    pub(super) outbox: Arc<Outbox>,
}

/// The latest news about a peer: its record, or `None` if it has left.
type News = Option<(Arc<PeerRecord>, Stamp)>;

#[derive(Debug, Default)]
struct Trays {
    /// Only the latest news for each address.
    publications: BTreeMap<(Tenant, Arc<str>), News>,
    /// At most one for each pair of a link and a node.
    ways: VecDeque<OpenWay>,
    status: ClusterStatus,
    trunks: Vec<(NodeId, Arc<TrunkCounts>)>,
    /// The last time that the directory has shown that it is up to date.
    current: Option<Instant>,
    bad_records: u64,
}

/// Where the hubs put what the cluster has to do. They do so with locks held, so the methods for hubs never wait.
#[derive(Debug)]
pub(super) struct Desk {
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

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn lock(&self) -> MutexGuard<'_, Trays> {
        self.trays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, way: OpenWay) {
        self.lock().ways.push_back(way);
        self.put.notify_one();
    }

    pub(super) fn publish(&self, tenant: Option<&Arc<str>>, news: Publication) {
        let (address, news) = match news {
            Publication::Joined(record, stamp) => (record.address.clone(), Some((record, stamp))),
            Publication::Left(address) => (address, None),
        };
        let key = (tenant.cloned(), address);
        self.lock().publications.insert(key, news);
        self.put.notify_one();
    }

    /// Returns what the node knows of its cluster, as reported last.
    pub(super) fn status(&self) -> ClusterStatus {
        let trays = self.lock();
        let age = trays
            .current
            .map(|current| now().saturating_duration_since(current));
        let trunks = trays.trunks.iter();
        let trunks = trunks.map(|(node, counts)| counts.status(node.clone()));
        ClusterStatus {
            directory_age: age,
            bad_records: trays.bad_records,
            each: trunks.collect(),
            ..trays.status.clone()
        }
    }

    pub(super) fn set_status(&self, status: ClusterStatus) {
        self.lock().status = status;
    }

    pub(super) fn set_trunks(&self, trunks: Vec<(NodeId, Arc<TrunkCounts>)>) {
        self.lock().trunks = trunks;
    }

    /// Notes that the directory has shown that it is up to date.
    pub(super) fn set_current(&self) {
        self.lock().current = Some(now());
    }

    pub(super) fn count_bad_record(&self) {
        self.lock().bad_records += 1;
    }

    /// Returns whether no news waits here for the other nodes.
    pub(super) fn is_told(&self) -> bool {
        self.lock().publications.is_empty()
    }

    /// Returns when something may have been put here. Cancel safe.
    pub(super) async fn put(&self) {
        self.put.notified().await;
    }

    /// Takes the next news about a peer.
    pub(super) fn next_publication(&self) -> Option<((Tenant, Arc<str>), News)> {
        self.lock().publications.pop_first()
    }

    pub(super) fn next_way(&self) -> Option<OpenWay> {
        self.lock().ways.pop_front()
    }
}
