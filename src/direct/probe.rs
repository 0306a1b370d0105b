//! Pings of direct connections, separate from those of the application.

use std::{
    fmt,
    task::{Context, Poll},
};

use libp2p_core::upgrade::ReadyUpgrade;
use libp2p_ping as ping;
use libp2p_swarm::{
    ConnectionHandler, ConnectionHandlerEvent, StreamProtocol, SubstreamProtocol, THandler,
    handler::ConnectionEvent,
};

/// libp2p's ping under another name, because only one handler of a connection can answer each name.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/websocket-star/probe/1.0.0");

type Ping = THandler<ping::Behaviour>;

/// The handler of one direct connection.
pub struct Handler {
    ping: Ping,
    /// Whether the connection must not be closed when idle, because it is to take over from a connection through a
    /// rendezvous.
    kept: bool,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

impl Handler {
    pub(super) fn new(ping: Ping) -> Self {
        Self { ping, kept: true }
    }

    fn offer() -> SubstreamProtocol<ReadyUpgrade<StreamProtocol>> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }
}

/// What the behaviour tells the handler.
#[derive(Debug, Clone, Copy)]
pub enum Command {
    /// The connection is to take over from one through a rendezvous.
    Keep,
    /// The connection has taken over. From now on it is treated like any other.
    TakenOver,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = <Ping as ConnectionHandler>::ToBehaviour;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        Self::offer()
    }

    fn connection_keep_alive(&self) -> bool {
        self.kept
    }

    fn on_behaviour_event(&mut self, command: Command) {
        self.kept = matches!(command, Command::Keep);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        self.ping.poll(cx).map(|event| match event {
            ConnectionHandlerEvent::OutboundSubstreamRequest { .. } => {
                ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: Self::offer(),
                }
            }
            other => other,
        })
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        self.ping.on_connection_event(event);
    }
}
