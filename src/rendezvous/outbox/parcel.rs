//! What is put into an outbox, and what it costs there.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    rendezvous::{gate::Gate, registry::Welcome},
    websocket::Message,
};

/// What a queued message costs beside its bytes, in bytes: its slots here and in the WebSocket's queue, and its header.
pub(super) const OVERHEAD: usize = 128;

/// What is written to a link as one piece.
#[derive(Debug)]
pub(in crate::rendezvous) enum Parcel {
    /// One message.
    One(Message),
    /// A receiver's accept for the sender of a stream. It goes before the items of its dial.
    Accept(Message),
    /// What the server itself says about a dial: the answer to its dialer, or the end of a stream. It goes behind the
    /// data of the dial.
    Notice(Message),
    /// The text that announces an item, and the item itself.
    Item(Message, Message),
    /// The answer to a join. With a gate, it waits until others have been told of the newcomer, and all behind it
    /// waits, too.
    Welcome(Box<Welcome>, Option<Arc<Gate>>),
    /// Announcements, which are never queued.
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
