//! The part of a hub that deals with other nodes of its cluster.

use std::sync::Arc;

use super::{Hub, LinkId, Member, Outbox};
use crate::{
    rendezvous::{
        cluster::{Event, NodeId},
        desk::OpenWay,
        registry::{NewWay, Publication},
    },
    runtime::now,
};

impl Hub {
    /// Asks the cluster to open a new way.
    pub(super) fn open_way(&self, new: NewWay, outbox: Arc<Outbox>) {
        if let Some(desk) = self.house.desk() {
            desk.open(OpenWay {
                tenant: self.tenant.clone(),
                new,
                outbox,
            });
        }
    }

    /// Publishes a join, or the end of a join, to the other nodes.
    pub(super) fn publish(&self, publication: Publication) {
        if let Some(desk) = self.house.desk() {
            desk.publish(self.tenant.as_ref(), publication);
        }
    }

    /// Handles the news that a peer is at another node from now on, or not any more.
    pub(in crate::rendezvous) fn handle_cluster(&self, event: Event) {
        self.with(|registry| match event {
            Event::Found {
                address,
                node,
                stamp,
                ..
            } => registry.handle_found(address, node, stamp, now()),
            Event::Lost { address, .. } => registry.handle_lost(&address),
            Event::Reach { .. } | Event::Gone { .. } => {}
        });
    }

    /// Returns the number of peers at other nodes that are not announced at present.
    pub(in crate::rendezvous) fn unannounced(&self) -> usize {
        self.lock().registry.unannounced()
    }

    /// Returns the member that stands for a way in the hub.
    pub(in crate::rendezvous) fn member_of_way(self: &Arc<Self>, way: OpenWay) -> Member {
        let OpenWay { new, outbox, .. } = way;
        Member {
            hub: self.clone(),
            link: new.way,
            client: new.claimant.client,
            claimant: new.claimant,
            visit: None,
            outbox,
            place: None,
        }
    }

    /// Notes that a link belongs to another node, and is for a client there.
    pub(in crate::rendezvous) fn set_guest(&self, link: LinkId, node: NodeId) {
        self.with(|registry| registry.handle_guest(link, node));
    }
}
