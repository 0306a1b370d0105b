//! What belongs to a stream, on its way from one link to another.

use std::{sync::Arc, time::SystemTime};

use super::{hub_now, inbox::Handled, limited::Limited};
use crate::{
    protocol::event::{DialId, Side, StreamName},
    rendezvous::{
        day::Day,
        hub::Member,
        outbox::{Outbox, Parcel, Push, TryPushError},
        registry::{LinkId, Route},
    },
    websocket::Message,
};

/// A parcel on its way to another link.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) push: Push,
    pub(super) sent: Sent,
    /// How many bytes count for its sender.
    pub(super) counted: usize,
    pub(super) destination: Arc<Destination>,
}

impl Waiting {
    /// The link that it is for.
    pub(super) fn to(&self) -> LinkId {
        self.destination.route.to
    }

    /// Whether it goes on from there to one of several links at another node, which judges those.
    pub(super) fn goes_on(&self) -> bool {
        self.destination.outbox.is_way()
    }

    /// How many bytes that link has taken.
    pub(super) fn taken(&self) -> u64 {
        self.destination.outbox.taken()
    }

    /// Whether its stream has ended meanwhile: it is to be dropped.
    pub(super) fn is_over(&self) -> bool {
        self.sent.is_over(&self.destination.route)
    }
}

/// What to note when a parcel is put in.
#[derive(Debug)]
pub(super) enum Sent {
    Nothing,
    /// An item of so many bytes.
    Item(usize),
    /// The end of a stream.
    End(DialId, Side),
}

impl Sent {
    /// Whether there is nothing any more to which it belongs.
    pub(super) fn is_over(&self, route: &Route) -> bool {
        match self {
            // An accept gives something back for the other stream, too.
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
    /// The text before each item. It is the same every time, so it is there once.
    pub(super) header: Message,
}

/// A parcel that is to be handed on.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) destination: Arc<Destination>,
    pub(super) parcel: Parcel,
    pub(super) sent: Sent,
    /// How many bytes count for its sender.
    pub(super) counted: usize,
}

/// Hands a parcel on, when the quotas allow it.
pub(super) fn forward(member: &Member, delivery: Delivery) -> Handled {
    if delivery.counted > 0
        && let Some(quotas) = member.hub.quotas()
        && let Some(meter) = &delivery.destination.route.meter
    {
        return Handled::Limit(Box::new(Limited {
            pass: quotas.enter(&member.claimant, meter, delivery.counted),
            meter: meter.clone(),
            delivery,
        }));
    }
    put(member, delivery)
}

/// Puts a parcel in where it goes, if there is room.
pub(super) fn put(member: &Member, delivery: Delivery) -> Handled {
    let Delivery {
        destination,
        parcel,
        sent,
        counted,
    } = delivery;
    let flow = destination.route.flow();
    match destination.outbox.try_push(flow, parcel) {
        Ok(()) => note_sent(member, &destination, &sent, counted),
        // The registry is about to tell this link.
        Err(TryPushError::Closed) => {}
        Err(TryPushError::Full(parcel)) => {
            let push = Push::new(destination.outbox.clone(), flow, parcel);
            return Handled::Wait(Waiting {
                push,
                sent,
                counted,
                destination,
            });
        }
    }
    Handled::Done
}

pub(super) fn note_sent(member: &Member, destination: &Destination, sent: &Sent, counted: usize) {
    if counted > 0
        && let Some(meter) = &destination.route.meter
    {
        let today = Day::of(SystemTime::now());
        meter.count(counted as u64, hub_now(), today);
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
