//! Why an upgrade fails.

/// Why there is no direct connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither node reaches the other one: a NAT or firewall between them cannot be punched.
    #[error("the nodes cannot reach each other directly")]
    Unreachable,
    /// Another behaviour of this node refuses a second connection, for example because of a limit of one connection for
    /// each peer.
    #[error("another behaviour of this node refuses the direct connection")]
    Denied,
    /// The other node does not have this behaviour, or has no address to send.
    #[error("the other node does not support direct connections, or has no address to send")]
    NoPart,
}
