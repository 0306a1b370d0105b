//! What is announced.

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

/// One peer at one address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) peer: PeerId,
    pub(super) address: Multiaddr,
}
