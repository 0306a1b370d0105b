//! The order of events that libp2p documents. It is checked for every event of every test.

use std::collections::{BTreeSet, HashMap};

use libp2p::{
    Multiaddr,
    core::transport::{ListenerId, TransportEvent},
};

/// The kind of an event, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NewAddress,
    AddressExpired,
    Incoming,
    Error,
    Closed,
    ClosedByError,
}

/// The state of the listeners according to their events so far.
#[derive(Debug, Default)]
pub struct Order {
    listeners: HashMap<ListenerId, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    addresses: BTreeSet<Multiaddr>,
    events: Vec<Kind>,
    closed: bool,
}

impl Order {
    /// Records that `listen_on` has accepted this id.
    pub fn listens(&mut self, id: ListenerId) {
        self.listeners.entry(id).or_default();
    }

    /// Returns the events of a listener so far.
    pub fn of(&self, id: ListenerId) -> &[Kind] {
        self.listeners.get(&id).map_or(&[], |seen| &seen.events)
    }

    /// Takes the next event. The error says which rule it breaks.
    pub fn see<U, E>(&mut self, event: &TransportEvent<U, E>) -> Result<(), &'static str> {
        let (id, kind) = kind(event);
        let seen = self
            .listeners
            .get_mut(&id)
            .ok_or("of a listener that nobody asked for")?;
        if seen.closed {
            return Err("after the listener was closed");
        }
        seen.events.push(kind);
        match event {
            TransportEvent::NewAddress { listen_addr, .. } => {
                let is_new = seen.addresses.insert(listen_addr.clone());
                is_new
                    .then_some(())
                    .ok_or("an address that is not new to the listener")
            }
            TransportEvent::AddressExpired { listen_addr, .. } => {
                let was_there = seen.addresses.remove(listen_addr);
                was_there.then_some(()).ok_or("an address that was not new")
            }
            TransportEvent::Incoming { local_addr, .. } => {
                let is_there = seen.addresses.contains(local_addr);
                is_there
                    .then_some(())
                    .ok_or("a connection at an address that is not announced")
            }
            TransportEvent::ListenerClosed { reason, .. } => {
                seen.closed = true;
                // If the caller has removed the listener, it knows that the addresses are gone.
                let told = reason.is_ok() || seen.addresses.is_empty();
                told.then_some(())
                    .ok_or("failed with addresses that have not expired")
            }
            TransportEvent::ListenerError { .. } => Ok(()),
        }
    }
}

fn kind<U, E>(event: &TransportEvent<U, E>) -> (ListenerId, Kind) {
    match event {
        TransportEvent::NewAddress { listener_id, .. } => (*listener_id, Kind::NewAddress),
        TransportEvent::AddressExpired { listener_id, .. } => (*listener_id, Kind::AddressExpired),
        TransportEvent::Incoming { listener_id, .. } => (*listener_id, Kind::Incoming),
        TransportEvent::ListenerError { listener_id, .. } => (*listener_id, Kind::Error),
        TransportEvent::ListenerClosed {
            listener_id,
            reason,
        } => match reason {
            Ok(()) => (*listener_id, Kind::Closed),
            Err(_) => (*listener_id, Kind::ClosedByError),
        },
    }
}

/// Tests this checker itself: each rule is broken once.
#[test]
fn the_judge_of_the_order_finds_every_breach() {
    type Event = TransportEvent<(), ()>;
    let id = ListenerId::next();
    let addr = |n| Multiaddr::empty().with(libp2p::multiaddr::Protocol::Memory(n));
    let new = |n| Event::NewAddress {
        listener_id: id,
        listen_addr: addr(n),
    };
    let expired = |n| Event::AddressExpired {
        listener_id: id,
        listen_addr: addr(n),
    };
    let incoming = |n| Event::Incoming {
        listener_id: id,
        upgrade: (),
        local_addr: addr(n),
        send_back_addr: addr(0),
    };
    let closed = |reason| Event::ListenerClosed {
        listener_id: id,
        reason,
    };
    let error = || Event::ListenerError {
        listener_id: id,
        error: (),
    };
    let good: [Vec<Event>; 4] = [
        vec![error(), new(1), new(2), incoming(1), closed(Ok(()))],
        vec![
            new(1),
            incoming(1),
            expired(1),
            error(),
            new(1),
            incoming(1),
        ],
        vec![new(1), expired(1), closed(Err(()))],
        vec![closed(Ok(()))],
    ];
    for events in good {
        let mut order = Order::default();
        order.listens(id);
        for event in &events {
            assert_eq!(order.see(event), Ok(()), "{events:?}");
        }
        assert_eq!(order.of(id).len(), events.len());
    }
    let bad: [Vec<Event>; 9] = [
        vec![incoming(1)],
        vec![new(1), incoming(2)],
        vec![new(1), expired(1), incoming(1)],
        vec![new(1), new(1)],
        vec![expired(1)],
        vec![new(1), expired(1), expired(1)],
        vec![new(1), closed(Err(()))],
        vec![closed(Ok(())), closed(Ok(()))],
        vec![new(1), closed(Ok(())), expired(1)],
    ];
    for events in bad {
        let mut order = Order::default();
        order.listens(id);
        let mut verdicts: Vec<_> = events.iter().map(|event| order.see(event)).collect();
        assert!(verdicts.pop().expect("events").is_err(), "{events:?}");
        assert!(verdicts.iter().all(Result::is_ok), "{events:?}");
    }
    assert!(Order::default().see(&error()).is_err());
}
