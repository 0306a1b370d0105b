//! What is put into an outbox, and what it costs there.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    rendezvous::{gate::Gate, registry::Welcome},
    websocket::Message,
};

/// What a queued message costs beside its bytes: its slots here and with the WebSocket, and its header.
pub(super) const OVERHEAD: usize = 128;

/// What goes onto the link without anything else in between.
#[derive(Debug)]
pub(in crate::rendezvous) enum Parcel {
    /// One message.
    One(Message),
    /// What a peer tells the sender of a stream. It goes before the items of its dial.
    Accept(Message),
    /// What the server itself says of a dial: the answer to its dialler, the end of a stream. It goes behind the data
    /// of the dial.
    Notice(Message),
    /// The text that announces an item, and the item.
    Item(Message, Message),
    /// The answer to a join. With a gate it waits, with all behind it, until others have been told something.
    Welcome(Box<Welcome>, Option<Arc<Gate>>),
    /// Announcements. They are never queued.
    News(Bytes),
}

fn cost(message: &Message) -> usize {
    message.len() + OVERHEAD
}

impl Parcel {
    pub(in crate::rendezvous) fn cost(&self) -> usize {
        match self {
            Self::One(message) | Self::Accept(message) | Self::Notice(message) => cost(message),
            Self::Item(header, data) => cost(header) + cost(data),
            Self::Welcome(welcome, _) => welcome.len() + OVERHEAD,
            Self::News(_) => 0,
        }
    }

    pub(super) fn messages(&self) -> usize {
        match self {
            Self::Item(..) => 2,
            _ => 1,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        match self {
            Self::Welcome(_, gate) => gate.as_ref().is_some_and(|gate| !gate.is_open()),
            _ => false,
        }
    }
}
