//! The handler of one connection through a rendezvous: it runs the handshake of an upgrade, and observes whether any
//! stream is open.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use either::Either;
use libp2p_dcutr as dcutr;
use libp2p_swarm::{
    ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol, THandler, THandlerInEvent, dummy,
    handler::ConnectionEvent,
};
use web_time::Instant;

use crate::runtime::{Timer, now};

/// The handler that dcutr creates for a connection that it considers relayed.
type Inner = THandler<dcutr::Behaviour>;

/// The number of handshakes of the other node that are processed on one connection. dcutr counts them in one byte, and
/// keeps some state for each.
const MAX_HANDSHAKES: u8 = 32;
/// The time for which an idle connection is kept after a handshake can begin on it.
const KEPT: Duration = Duration::from_secs(20);

/// The handler of one connection through a rendezvous.
pub struct Handler {
    inner: Inner,
    /// The handler that replaces `inner` at the next handshake of the other node.
    next: Option<Box<Inner>>,
    handshakes: u8,
    no_streams: Arc<AtomicBool>,
    /// The time until which the connection is to be kept.
    kept: Option<Instant>,
    timer: Timer,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("handshakes", &self.handshakes)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

impl Handler {
    /// Creates a handler. `inner` is the handler of an upgrade that begins with the connection, if any.
    pub(super) fn new(inner: Option<Inner>) -> Self {
        Self {
            kept: inner.is_some().then(|| now() + KEPT),
            inner: inner.unwrap_or(Either::Right(dummy::ConnectionHandler)),
            next: None,
            handshakes: 0,
            no_streams: Arc::default(),
            timer: Timer::default(),
        }
    }
}

/// What the behaviour tells the handler.
pub enum Command {
    /// Note in this flag when the connection has no streams except those of pings.
    Watch(Arc<AtomicBool>),
    /// Check the streams now.
    Look,
    /// Another upgrade begins, which this node leads.
    Lead(Box<Inner>),
    /// The other node may begin another upgrade.
    Follow(Box<Inner>),
    /// An event from dcutr.
    Inner(THandlerInEvent<dcutr::Behaviour>),
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Watch(_) => "Watch",
            Self::Look => "Look",
            Self::Lead(_) => "Lead",
            Self::Follow(_) => "Follow",
            Self::Inner(_) => "Inner",
        })
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = <Inner as ConnectionHandler>::ToBehaviour;
    type InboundProtocol = <Inner as ConnectionHandler>::InboundProtocol;
    type OutboundProtocol = <Inner as ConnectionHandler>::OutboundProtocol;
    type InboundOpenInfo = <Inner as ConnectionHandler>::InboundOpenInfo;
    type OutboundOpenInfo = <Inner as ConnectionHandler>::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    /// The swarm calls this only if the connection has no stream that keeps it alive. The streams of ping do not keep
    /// it alive.
    fn connection_keep_alive(&self) -> bool {
        self.no_streams.store(true, Relaxed);
        self.kept.is_some()
    }

    fn on_behaviour_event(&mut self, command: Command) {
        match command {
            Command::Watch(no_streams) => self.no_streams = no_streams,
            // Nothing to do: this event makes the swarm poll the connection, and that is enough.
            Command::Look => {}
            Command::Lead(inner) => {
                self.inner = *inner;
                self.kept = Some(now() + KEPT);
            }
            Command::Follow(inner) => {
                // A handshake in progress continues.
                match self.inner {
                    Either::Left(_) => self.next = Some(inner),
                    Either::Right(_) => self.inner = *inner,
                }
                self.kept = Some(now() + KEPT);
            }
            Command::Inner(event) => self.inner.on_behaviour_event(event),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<
        ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>,
    > {
        if let Some(until) = self.kept
            && self.timer.poll(until, cx).is_ready()
        {
            self.kept = None;
        }
        self.inner.poll(cx)
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        if let ConnectionEvent::FullyNegotiatedInbound(_) = event {
            if self.handshakes == MAX_HANDSHAKES {
                return;
            }
            self.handshakes += 1;
            if let Some(next) = self.next.take() {
                self.inner = *next;
            }
        }
        self.inner.on_connection_event(event);
    }
}
