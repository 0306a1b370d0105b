//! Peer discovery: the announcements of the rendezvous, as a stream of [`Event`]s.
//!
//! A rendezvous announces each peer when it joins and then again in rounds. It never announces that a peer has left. A
//! peer address therefore expires when it was not announced for three rounds. The length of a round is measured from
//! the announcements: 10 s with few peers, many minutes with very many. Before it is known, addresses expire when the
//! rendezvous has announced nothing for three times 20 minutes, or for less once a peer was repeated. In any case an
//! address that is not announced is listed for at most a day. A peer that is dialled and not found expires at once.
//!
//! Whatever the rendezvous do, memory is bounded and the links never wait for a subscriber. A capacity bounds the known
//! addresses, newcomers wait until there is room, and each [`Discovery`] remembers at most as many reported addresses,
//! whether it is polled or not. Each rendezvous has its own part of the capacity and takes nothing from the others.

mod key;
mod part;
mod table;

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    ops::ControlFlow,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures::Stream;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use web_time::Instant;

pub(crate) use self::table::{Place, room};
use self::{key::Key, table::Table};
use crate::{
    address::Rendezvous,
    hints::Hints,
    runtime::{Timer, now},
};

/// What the announcements of a rendezvous say about a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer can be dialled at this address.
    Discovered {
        /// The peer.
        peer: PeerId,
        /// The peer's address in the libp2p form, which ends in `/p2p/<peer>`.
        address: Multiaddr,
    },
    /// A discovered address was not announced for three rounds of its rendezvous, or the peer was not found there.
    ///
    /// Connections to the peer are not affected.
    Expired {
        /// The peer.
        peer: PeerId,
        /// The address as it was discovered.
        address: Multiaddr,
    },
}

/// A subscription to the peers that the rendezvous announce.
///
/// The stream yields the changes since it was last polled: [`Event::Discovered`] for an address that it has not
/// reported yet, and [`Event::Expired`] for a reported address that is gone. An address that came and went in between
/// is left out. So a subscription that is polled rarely or never loses nothing but duplicates, and needs no more
/// memory. An address is never discovered twice without expiring in between.
///
/// A clone is a separate subscription, which first reports every known peer. Cloning and dropping are both cheap.
///
/// The stream ends when the transport is gone, after everything that was announced before. From then on, addresses no
/// longer expire.
///
/// To make a swarm learn the addresses, pass the subscription to a [`Behaviour`](crate::Behaviour).
///
/// ```
/// use futures::StreamExt;
/// use libp2p_websocket_star::{Discovery, Event};
///
/// async fn watch(mut discovery: Discovery) {
///     while let Some(event) = discovery.next().await {
///         match event {
///             Event::Discovered { peer, address } => println!("{peer} is at {address}"),
///             Event::Expired { peer, .. } => println!("{peer} has not been heard of lately"),
///             _ => {}
///         }
///     }
/// }
/// ```
///
/// # Panics
/// Polling it outside a tokio runtime with its timer enabled panics once a peer is known.
///
/// # Cancel safety
/// `next()` may be cancelled at any time; no event is lost.
pub struct Discovery {
    shared: Arc<Mutex<Shared>>,
    id: u64,
    /// Fires when the next address may have expired.
    timer: Timer,
}

/// The announcing side, which the links use. When the last clone is dropped, the subscriptions end.
#[derive(Debug, Clone)]
pub(crate) struct Announcer(Arc<Source>);

/// The owner of the announcing side, shared by the clones of the [`Announcer`].
struct Source(Arc<Mutex<Shared>>);

struct Shared {
    local: PeerId,
    table: Table,
    subscribers: Vec<(u64, Subscriber)>,
    next_id: u64,
    /// Whether all announcers are gone.
    closed: bool,
    hints: Arc<Hints>,
    #[cfg(feature = "direct")]
    activity: Arc<crate::activity::Activity>,
}

/// What a [`Discovery`] has reported. It reports an expiry before it reports anything new, so `told` stays within the
/// capacity of the table.
#[derive(Default)]
struct Subscriber {
    /// All listings up to this one have been processed.
    cursor: u64,
    told: HashSet<Arc<Key>>,
    /// Addresses that were reported and are no longer listed.
    gone: BTreeSet<Arc<Key>>,
    waker: Option<Waker>,
}

/// Creates a table of at most `capacity` addresses at each rendezvous at which this node listens, and its first
/// subscription.
pub(crate) fn channel(
    local: PeerId,
    announce_interval: Duration,
    capacity: usize,
) -> (Announcer, Discovery) {
    let shared = Arc::new(Mutex::new(Shared {
        local,
        table: Table::new(local, announce_interval, capacity),
        subscribers: Vec::new(),
        next_id: 0,
        closed: false,
        hints: Arc::default(),
        #[cfg(feature = "direct")]
        activity: Arc::default(),
    }));
    let discovery = Discovery::subscribe(&shared);
    (Announcer(Arc::new(Source(shared))), discovery)
}

impl Announcer {
    /// Notes that `peer` is announced at `place`. `address` is its address there, in the libp2p form. Never waits for a
    /// subscriber.
    pub(crate) fn announce(&self, place: Place<'_>, peer: PeerId, address: Multiaddr) {
        let wakers = lock(&self.0.0).announce(place, peer, address, now());
        // Wakes after the lock is released, because a woken subscriber takes the lock first.
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Removes a peer that was not found at `rendezvous`.
    pub(crate) fn retract(&self, rendezvous: &Rendezvous, peer: &PeerId) {
        let wakers = lock(&self.0.0).retract(rendezvous, peer);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Returns whether a peer is listed at `rendezvous`.
    pub(crate) fn lists(&self, rendezvous: &Rendezvous, peer: &PeerId) -> bool {
        lock(&self.0.0).table.lists(rendezvous, peer)
    }

    /// Notes that the link to `rendezvous` is lost or closed. It also removes all expired addresses, at any rendezvous:
    /// if no [`Discovery`] is polled, nothing else removes them.
    pub(crate) fn close(&self, rendezvous: &Rendezvous) {
        let wakers = lock(&self.0.0).lose(rendezvous, now());
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Creates a subscription, which first reports every known peer.
    pub(crate) fn subscribe(&self) -> Discovery {
        Discovery::subscribe(&self.0.0)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let wakers = lock(&self.0).close();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Discovery {
    fn subscribe(shared: &Arc<Mutex<Shared>>) -> Self {
        Self {
            id: lock(shared).subscribe(),
            shared: Arc::clone(shared),
            timer: Timer::default(),
        }
    }

    /// Returns the peer of the transport's key.
    pub fn local_peer(&self) -> PeerId {
        lock(&self.shared).local
    }

    /// Returns the hints, with which the behaviour tells the transport about its swarm.
    pub(crate) fn hints(&self) -> Arc<Hints> {
        lock(&self.shared).hints.clone()
    }

    /// Returns the counters of the transport's connections.
    #[cfg(feature = "direct")]
    pub(crate) fn activity(&self) -> Arc<crate::activity::Activity> {
        lock(&self.shared).activity.clone()
    }
}

impl Stream for Discovery {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            let (next, wakers) = lock(&self.shared).poll(self.id, now(), cx.waker());
            wakers.into_iter().for_each(Waker::wake);
            match next {
                ControlFlow::Break(item) => return Poll::Ready(item),
                ControlFlow::Continue(Some(at)) => ready!(self.timer.poll(at, cx)),
                ControlFlow::Continue(None) => {
                    self.timer.stop();
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Clone for Discovery {
    fn clone(&self) -> Self {
        Self::subscribe(&self.shared)
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        lock(&self.shared)
            .subscribers
            .retain(|(id, _)| *id != self.id);
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").finish_non_exhaustive()
    }
}

fn find(subscribers: &mut [(u64, Subscriber)], id: u64) -> Option<&mut Subscriber> {
    let mut all = subscribers.iter_mut();
    let found = all.find(|(known, _)| *known == id)?;
    Some(&mut found.1)
}

impl Shared {
    fn subscribe(&mut self) -> u64 {
        self.next_id += 1;
        self.subscribers.push((self.next_id, Subscriber::default()));
        self.next_id
    }

    /// Returns the wakers to wake, as do `expire`, `retract`, `lose` and `close`.
    fn announce(
        &mut self,
        place: Place<'_>,
        peer: PeerId,
        address: Multiaddr,
        now: Instant,
    ) -> Vec<Waker> {
        let Some(listed) = self.table.announce(place, peer, address, now) else {
            return Vec::new();
        };
        let mut wakers = self.unlisted(&listed.gave_way);
        let subscribers = self.subscribers.iter_mut();
        wakers.extend(subscribers.filter_map(|(_, s)| s.listed(&listed.key)));
        wakers
    }

    fn expire(&mut self, now: Instant) -> Vec<Waker> {
        if self.closed {
            return Vec::new();
        }
        let expired = self.table.expire(now);
        self.unlisted(&expired)
    }

    fn retract(&mut self, rendezvous: &Rendezvous, peer: &PeerId) -> Vec<Waker> {
        let retracted = self.table.retract(rendezvous, peer);
        self.unlisted(retracted.as_slice())
    }

    fn lose(&mut self, rendezvous: &Rendezvous, now: Instant) -> Vec<Waker> {
        self.table.close(rendezvous, now);
        self.expire(now)
    }

    fn unlisted(&mut self, keys: &[Arc<Key>]) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for (_, subscriber) in &mut self.subscribers {
            for key in keys {
                wakers.extend(subscriber.unlisted(key));
            }
        }
        wakers
    }

    fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        let subscribers = self.subscribers.iter_mut();
        subscribers.filter_map(|(_, s)| s.waker.take()).collect()
    }

    /// Returns the subscriber's next item, or the time at which to check for expired addresses if nothing wakes it
    /// before that. Also returns the wakers of other subscribers.
    fn poll(
        &mut self,
        id: u64,
        now: Instant,
        waker: &Waker,
    ) -> (ControlFlow<Option<Event>, Option<Instant>>, Vec<Waker>) {
        if let Some(subscriber) = find(&mut self.subscribers, id) {
            // It is being polled, so expiries need not wake it.
            subscriber.waker = None;
        }
        let wakers = self.expire(now);
        (self.next(id, now, waker), wakers)
    }

    fn next(
        &mut self,
        id: u64,
        now: Instant,
        waker: &Waker,
    ) -> ControlFlow<Option<Event>, Option<Instant>> {
        let Some(subscriber) = find(&mut self.subscribers, id) else {
            return ControlFlow::Break(None);
        };
        if let Some(event) = subscriber.next(&self.table) {
            return ControlFlow::Break(Some(event));
        }
        if self.closed {
            return ControlFlow::Break(None);
        }
        subscriber.waker = Some(waker.clone());
        // A repeated announcement of a reported address wakes no subscriber. But it can bring expiries forward, because
        // it may show that the rounds of its rendezvous are short.
        let recheck = now + self.table.recheck();
        ControlFlow::Continue(self.table.next_expiry(now).map(|at| at.min(recheck)))
    }
}

impl Subscriber {
    fn listed(&mut self, key: &Arc<Key>) -> Option<Waker> {
        // If the key was reported, the end of that listing has already taken the waker.
        self.gone.remove(key);
        self.waker.take()
    }

    fn unlisted(&mut self, key: &Arc<Key>) -> Option<Waker> {
        if !self.told.contains(key) {
            return None;
        }
        self.gone.insert(Arc::clone(key));
        self.waker.take()
    }

    fn next(&mut self, table: &Table) -> Option<Event> {
        // Expiries come before anything new. Otherwise `told` could outgrow the table.
        if let Some(key) = self.gone.pop_first() {
            self.told.remove(&key);
            let Key { peer, address } = Arc::unwrap_or_clone(key);
            return Some(Event::Expired { peer, address });
        }
        while let Some((listing, key)) = table.listed_after(self.cursor) {
            self.cursor = listing;
            // An earlier listing may have been reported, and its end not noticed.
            if self.told.insert(Arc::clone(key)) {
                let Key { peer, address } = (**key).clone();
                return Some(Event::Discovered { peer, address });
            }
        }
        None
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
