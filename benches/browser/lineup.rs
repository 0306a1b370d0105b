//! The rows of the table: the nodes that are compared.

use crate::native::Native;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Id {
    /// The transport alone.
    Raw,
    RawPlain,
    /// The transport with noise and yamux.
    Swarm,
    SwarmPlain,
    Npm,
    HiddenSwarm,
    HiddenSwarmPlain,
}

impl Id {
    pub const ALL: [Self; 7] = [
        Self::Raw,
        Self::RawPlain,
        Self::Swarm,
        Self::SwarmPlain,
        Self::Npm,
        Self::HiddenSwarm,
        Self::HiddenSwarmPlain,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::RawPlain => "raw, plain WebSocket",
            Self::Swarm => "noise and yamux",
            Self::SwarmPlain => "noise and yamux, plain WebSocket",
            Self::Npm => "npm client 0.10.2, raw",
            Self::HiddenSwarm => "hidden, noise and yamux",
            Self::HiddenSwarmPlain => "hidden, noise and yamux, plain WebSocket",
        }
    }

    /// Returns the page that the row runs in.
    pub fn page(self) -> &'static str {
        match self {
            Self::Npm => "npm.html",
            Self::Raw | Self::RawPlain => "raw/node.html",
            _ => "node.html",
        }
    }

    /// Returns the function that starts the node in the page, and the address that the node dials.
    pub fn start(self, native: &Native) -> (&'static str, &str) {
        match self {
            Self::Raw | Self::RawPlain | Self::Npm => ("startRaw", &native.raw),
            _ => ("start", &native.swarm),
        }
    }

    /// Returns whether the page has no `WebSocketStream`, as in browsers without support for it. The npm client never
    /// uses it.
    pub fn is_plain(self) -> bool {
        matches!(
            self,
            Self::RawPlain | Self::SwarmPlain | Self::HiddenSwarmPlain
        )
    }

    /// Returns whether the page is hidden behind another one.
    pub fn is_hidden(self) -> bool {
        matches!(self, Self::HiddenSwarm | Self::HiddenSwarmPlain)
    }
}
