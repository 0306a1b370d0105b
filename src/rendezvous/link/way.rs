//! What belongs to a stream, on its way from one link to another.

use std::{sync::Arc, time::SystemTime};

use crate::{
    protocol::event::{DialId, Side, StreamName},
    rendezvous::{
        day::Day,
        hub::Member,
        outbox::{Outbox, Parcel, Push, TryPushError},
        registry::{LinkId, Route},
    },
    runtime::now,
    websocket::Message,
};

/// A parcel that waits for room at its destination.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) push: Push,
    pub(super) sent: Sent,
    /// The number of bytes that are charged to the sender.
    pub(super) counted: usize,
    pub(super) destination: Arc<Destination>,
}

impl Waiting {
    /// Returns the destination's link.
    pub(super) fn to(&self) -> LinkId {
        self.destination.route.to
    }

    /// Returns whether the destination is a way, which leads to several links at another node. That node judges those
    /// links itself.
    pub(super) fn goes_on(&self) -> bool {
        self.destination.outbox.is_way()
    }

    /// Returns the number of bytes that the destination has taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.destination.outbox.taken()
    }

    /// Returns whether the parcel's stream has ended meanwhile, so that the parcel has to be dropped.
    pub(super) fn is_over(&self) -> bool {
        self.sent.is_over(&self.destination.route)
    }
}

/// What to record when a parcel is put in.
#[derive(Debug)]
pub(super) enum Sent {
    Nothing,
    /// An item with this number of bytes.
    Item(usize),
    /// The end of a stream.
    End(DialId, Side),
}

impl Sent {
    /// Returns whether that to which the parcel belongs is over.
    pub(super) fn is_over(&self, route: &Route) -> bool {
        match self {
            // An accept may also return credit of the dial's other stream, so it counts until both are over.
            Self::Nothing => route.is_dial_over(),
            Self::Item(_) | Self::End(..) => route.is_over(),
        }
    }
}

/// The other end of a stream.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) route: Route,
    pub(super) outbox: Arc<Outbox>,
    /// The text frame before each item. It is the same for every item, so it is encoded once.
    pub(super) header: Message,
}

/// A parcel to be relayed.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) destination: Arc<Destination>,
    pub(super) parcel: Parcel,
    pub(super) sent: Sent,
    /// The number of bytes that are charged to the sender.
    pub(super) counted: usize,
}

/// Puts a parcel into its destination's outbox. Returns the parcel if there is no room.
pub(super) fn put(member: &Member, delivery: Delivery) -> Option<Waiting> {
    let Delivery {
        destination,
        parcel,
        sent,
        counted,
    } = delivery;
    let flow = destination.route.flow();
    match destination.outbox.try_push(flow, parcel) {
        Ok(()) => note_sent(member, &destination, &sent, counted),
        // The registry is about to notify this link.
        Err(TryPushError::Closed) => {}
        Err(TryPushError::Full(parcel)) => {
            let push = Push::new(destination.outbox.clone(), flow, parcel);
            return Some(Waiting {
                push,
                sent,
                counted,
                destination,
            });
        }
    }
    None
}

pub(super) fn note_sent(member: &Member, destination: &Destination, sent: &Sent, counted: usize) {
    if counted > 0
        && let Some(meter) = &destination.route.meter
    {
        let today = Day::of(SystemTime::now());
        meter.count(counted as u64, now(), today);
    }
    match sent {
        Sent::Nothing => {}
        Sent::Item(bytes) => member.hub.count_relayed(*bytes),
        Sent::End(dial_id, sender) => {
            let stream = StreamName {
                dial_id: dial_id.as_str(),
                sender: *sender,
            };
            member
                .hub
                .with(|registry| registry.handle_end(member.link, stream));
        }
    }
}
