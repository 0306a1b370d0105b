//! A transport whose events are all checked, and futures that are polled by hand.

use std::{
    collections::VecDeque,
    fmt::Debug,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::FutureExt as _;
use libp2p::{
    Multiaddr,
    core::{
        Endpoint, Transport,
        transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
    },
};

use super::{
    order::{Kind, Order},
    steps,
};
use crate::support::{counter::Counter, log, within};

pub type Event<T> = TransportEvent<<T as Transport>::ListenerUpgrade, <T as Transport>::Error>;
type Failed<T> = TransportError<<T as Transport>::Error>;

pub const DIALER: DialOpts = DialOpts {
    role: Endpoint::Dialer,
    port_use: PortUse::Reuse,
};

/// Any transport, alone or composed.
pub struct Node<T: Transport> {
    pub transport: T,
    order: Order,
    /// Events that arrived while the test waited for something else.
    early: VecDeque<Event<T>>,
}

impl<T: Transport + Unpin> Node<T>
where
    T::Error: Debug,
{
    pub fn new(transport: T) -> Self {
        log();
        Self {
            transport,
            order: Order::default(),
            early: VecDeque::new(),
        }
    }

    /// Registers a listener that was started directly at a transport which is now a part of this one.
    pub fn knows(mut self, id: ListenerId) -> Self {
        self.order.listens(id);
        self
    }

    pub fn listen_on(&mut self, addr: &Multiaddr) -> Result<ListenerId, Failed<T>> {
        let id = ListenerId::next();
        self.transport.listen_on(id, addr.clone())?;
        self.order.listens(id);
        Ok(id)
    }

    /// Listens, and waits until the address is joined.
    pub async fn listen(&mut self, addr: &Multiaddr) -> (ListenerId, Multiaddr) {
        let id = self.listen_on(addr).expect("a good address");
        match self.event().await {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            } if listener_id == id => (id, listen_addr),
            other => panic!("not joined: {other:?}"),
        }
    }

    pub fn remove(&mut self, id: ListenerId) -> bool {
        self.transport.remove_listener(id)
    }

    pub fn dial(&mut self, addr: &Multiaddr) -> T::Dial {
        match self.transport.dial(addr.clone(), DIALER) {
            Ok(dial) => dial,
            Err(error) => panic!("{addr}: {error:?}"),
        }
    }

    /// Polls the transport, and checks the order of its events.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event<T>> {
        let polled = Pin::new(&mut self.transport).poll(cx);
        if let Poll::Ready(event) = &polled
            && let Err(breach) = self.order.see(event)
        {
            panic!("{breach}: {event:?}, after {:?}", self.order);
        }
        polled
    }

    /// Returns the next event.
    pub async fn event(&mut self) -> Event<T> {
        if let Some(event) = self.early.pop_front() {
            return event;
        }
        within("an event", poll_fn(|cx| self.poll(cx))).await
    }

    /// Returns the next event, if there is one now.
    pub fn event_now(&mut self) -> Option<Event<T>> {
        let early = self.early.pop_front();
        early.or_else(|| poll_fn(|cx| self.poll(cx)).now_or_never())
    }

    /// Polls the transport until `other` is done.
    pub async fn during<F: Future>(&mut self, other: F) -> F::Output {
        let mut other = std::pin::pin!(other);
        let both = poll_fn(|cx| {
            while let Poll::Ready(event) = self.poll(cx) {
                self.early.push_back(event);
            }
            other.as_mut().poll(cx)
        });
        within("something else", both).await
    }

    /// Returns the next incoming connection, which must be the next event.
    pub async fn accept(&mut self) -> (ListenerId, T::Output) {
        match self.event().await {
            TransportEvent::Incoming {
                listener_id,
                upgrade,
                ..
            } => match within("an upgrade", upgrade).await {
                Ok(connection) => (listener_id, connection),
                Err(error) => panic!("not accepted: {error:?}"),
            },
            other => panic!("no connection: {other:?}"),
        }
    }

    /// Takes all events that are ready, and returns all events of a listener so far.
    pub fn events_of(&mut self, id: ListenerId) -> &[Kind] {
        while self.event_now().is_some() {}
        self.order.of(id)
    }
}

/// A future that is polled by hand, and only when it was woken.
pub struct ByHand<F: Future> {
    future: Pin<Box<F>>,
    counter: Arc<Counter>,
    /// The number of wakes at the last poll.
    polled_at: Option<usize>,
}

impl<F: Future> ByHand<F> {
    pub fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            counter: Arc::default(),
            polled_at: None,
        }
    }

    /// Returns whether it must be polled.
    fn is_due(&self) -> bool {
        self.polled_at
            .is_none_or(|wakes| self.counter.wakes() > wakes)
    }

    fn poll(&mut self) -> Poll<F::Output> {
        self.polled_at = Some(self.counter.wakes());
        let waker = Waker::from(self.counter.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Runs the future for that many steps of all other tasks.
    pub async fn run(&mut self, count: usize) -> Option<F::Output> {
        for _ in 0..count {
            if self.is_due()
                && let Poll::Ready(output) = self.poll()
            {
                return Some(output);
            }
            steps(1).await;
        }
        None
    }

    /// Polls the future that many times, each time after it was woken.
    pub async fn polls(&mut self, count: usize) -> Option<F::Output> {
        for _ in 0..count {
            super::until("the future to be woken", || self.is_due()).await;
            if let Poll::Ready(output) = self.poll() {
                return Some(output);
            }
        }
        None
    }
}
