//! Who is measured beside whom.

use crate::native::Native;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Id {
    /// The transport alone.
    Raw,
    RawPlain,
    /// With noise and yamux.
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

    /// The page that it is in.
    pub fn page(self) -> &'static str {
        match self {
            Self::Npm => "npm.html",
            Self::Raw | Self::RawPlain => "raw/node.html",
            _ => "node.html",
        }
    }

    /// What starts it in the page, and whom it dials.
    pub fn start(self, native: &Native) -> (&'static str, &str) {
        match self {
            Self::Raw | Self::RawPlain | Self::Npm => ("startRaw", &native.raw),
            _ => ("start", &native.swarm),
        }
    }

    /// Whether it has no `WebSocketStream`, as in browsers that do not know it. The npm client never uses it.
    pub fn is_plain(self) -> bool {
        matches!(
            self,
            Self::RawPlain | Self::SwarmPlain | Self::HiddenSwarmPlain
        )
    }

    /// Whether its page is hidden behind another one.
    pub fn is_hidden(self) -> bool {
        matches!(self, Self::HiddenSwarm | Self::HiddenSwarmPlain)
    }
}
