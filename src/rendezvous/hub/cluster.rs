//! What a hub has to do with other nodes of its cluster.

use std::sync::Arc;

use super::{Hub, LinkId, Member, Outbox};
use crate::rendezvous::{
    cluster::{Event, NodeId, OpenWay},
    hub::now,
    registry::{NewWay, Publication},
};

impl Hub {
    /// Has a new way opened.
    pub(super) fn open_way(&self, new: NewWay, outbox: Arc<Outbox>) {
        if let Some(desk) = self.house.desk() {
            desk.open(OpenWay {
                tenant: self.tenant.clone(),
                new,
                outbox,
            });
        }
    }

    /// Has the other nodes know of a join, or of the end of one.
    pub(super) fn publish(&self, publication: Publication) {
        if let Some(desk) = self.house.desk() {
            desk.publish(self.tenant.as_ref(), publication);
        }
    }

    /// A peer is at another node from now on, or not any more.
    pub(in crate::rendezvous) fn handle_cluster(&self, event: Event) {
        self.with(|registry| match event {
            Event::Found {
                address,
                node,
                stamp,
                ..
            } => registry.handle_found(address, node, stamp, now()),
            Event::Lost { address, .. } => registry.handle_lost(&address),
            Event::Gone { .. } => {}
        });
    }

    /// How many peers at other nodes are not announced at the moment.
    pub(in crate::rendezvous) fn unannounced(&self) -> usize {
        self.lock().registry.unannounced()
    }

    /// The place of a way in the hub.
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

    /// A link of another node is one for a client there.
    pub(in crate::rendezvous) fn set_guest(&self, link: LinkId, node: NodeId) {
        self.with(|registry| registry.handle_guest(link, node));
    }
}
