//! What is refused, counted by reason: requests, links that are not let in, links that are closed.

use std::fmt;

use crate::protocol::refusal::Refusal;

/// Declares the reasons once: the variants, their names, and the list of all reasons.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal,)*) => {
        /// Why a request or a link was refused, or a link was closed.
        ///
        /// `Display` gives the short name that is the label `reason` in `/metrics`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Refused {
            $($(#[$doc])* $reason,)*
        }

        impl Refused {
            const ALL: [Self; [$($name),*].len()] = [$(Self::$reason),*];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// A join: the address may not be joined.
    InvalidMultiaddr = "invalid_multiaddr",
    /// A join: it came without a public key.
    NoKey = "no_key",
    /// A join: its public key or signature cannot be read.
    UnusableProof = "unusable_key_or_signature",
    /// A join: its public key belongs to another peer id.
    WrongId = "wrong_id",
    /// A join: its signature is wrong.
    WrongSignature = "wrong_signature",
    /// A join: its link has as many addresses as it may have.
    TooManyJoins = "too_many_joins",
    /// A join: its link, or its origin, joins too often.
    JoinRate = "join_rate",
    /// A join: the operator does not allow it.
    NotAllowed = "not_allowed",
    /// A join: the operator does not allow it now; the peer may come again.
    NotAllowedNow = "not_allowed_now",
    /// A join: it was not decided in time whether it is allowed.
    Undecided = "undecided",
    /// A join: the decision took so long that another link has proved the same key since, and has joined.
    Overtaken = "overtaken",
    /// A dial: it names a dialer that has not joined on its link.
    NotAuthorized = "not_authorized",
    /// A dial: the dialled peer is not here.
    PeerNotFound = "peer_not_found",
    /// A dial: its dial id is in use.
    DialIdInUse = "dial_id_in_use",
    /// A dial: its link, or its origin, dials too often.
    DialRate = "dial_rate",
    /// A dial: its link has as many pending or open dials as it may have.
    TooManyDials = "too_many_dials",
    /// A dial: the dialled peer has as many pending or open dials as it may have.
    PeerBusy = "peer_busy",
    /// A dial: the dialled peer did not answer in time.
    DialTimedOut = "dial_timed_out",
    /// A dial: one of its peers left before it was answered.
    PeerLeft = "peer_left",
    /// A dial: the peer is at another node of the cluster, and that node cannot be reached.
    Unreachable = "unreachable",
    /// A dial that is reset: its receiver took too little for too long, and held up its sender.
    HeldUp = "held_up",
    /// A dial that is refused or ended: one of its peers, that peer's origin, or the tenant has spent its quota for the
    /// day.
    DaySpent = "day_spent",
    /// A request whose arguments cannot be understood.
    MalformedRequest = "malformed_request",
    /// A request that is not part of the websocket-star protocol.
    UnknownRequest = "unknown_request",
    /// A dial or a new link: the server is shutting down.
    ShuttingDown = "shutting_down",
    /// A connection, before it asked for anything: there are too many, and its origin has its share of them.
    TooManyConnections = "too_many_connections",
    /// A connection, before it asked for anything: its origin connects too often.
    ConnectionRate = "connection_rate",
    /// A connection of a trusted proxy: it does not begin with a valid header of the PROXY protocol, although the
    /// configuration requires one.
    ProxyHeader = "proxy_header",
    /// An HTTP request: its origin sends too many.
    RequestRate = "request_rate",
    /// An HTTP request: it has a wrong token for the operator's page.
    WrongAdminToken = "wrong_admin_token",
    /// An HTTP request to a [`Service`](super::Service): the application does not say where it comes from.
    NoClientAddr = "no_client_addr",
    /// An HTTP request: it asks for a host that no tenant has.
    UnknownHost = "unknown_host",
    /// A connection that is closed: its place went to an origin that has fewer connections.
    ConnectionGaveWay = "connection_gave_way",
    /// A new link: the server has as many links as it may have, and its origin has its share of them.
    TooManyLinks = "too_many_links",
    /// A new link: its origin has as many links as it may have.
    TooManyLinksPerIp = "too_many_links_per_ip",
    /// A link that is closed: its place went to an origin that has fewer links.
    LinkGaveWay = "link_gave_way",
    /// A link that is closed: no memory was left, and it held most of the origin that held most.
    Memory = "memory",
    /// A link that is closed: its peer is no longer allowed to be here.
    NoLongerAllowed = "no_longer_allowed",
    /// A link that is closed: the operator has disconnected its peer.
    Disconnected = "disconnected",
    /// A link that is closed: it did not join in time.
    JoinTimedOut = "join_timed_out",
    /// A link that is closed: it has reached the largest age of a link.
    LinkAge = "link_age",
    /// A link that is closed: it gave no sign of life for too long.
    Silent = "silent",
    /// A link that is closed: it took nothing of what was sent to it for too long.
    Stalled = "stalled",
    /// A link that is closed: it took too little of what others waited to send to it.
    Slow = "slow",
    /// A link that is closed: it did not read the answers to its requests.
    UnreadAnswers = "unread_answers",
    /// A link that is closed: it sent a message that is too long.
    MessageTooLong = "message_too_long",
    /// A link that is closed: it sent something that the protocol does not allow.
    ProtocolViolation = "protocol_violation",
}

impl From<&Refusal> for Refused {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::InvalidMultiaddr | Refusal::Unnamed => Self::InvalidMultiaddr,
            Refusal::NoKey => Self::NoKey,
            Refusal::UnusableProof => Self::UnusableProof,
            Refusal::WrongId => Self::WrongId,
            Refusal::WrongSignature => Self::WrongSignature,
            Refusal::TooManyJoins => Self::TooManyJoins,
            Refusal::JoinRate => Self::JoinRate,
            Refusal::NotAllowed(_) => Self::NotAllowed,
            Refusal::NotAllowedNow { .. } => Self::NotAllowedNow,
            Refusal::Undecided => Self::Undecided,
            Refusal::Overtaken => Self::Overtaken,
            Refusal::NotAuthorized => Self::NotAuthorized,
            Refusal::PeerNotFound => Self::PeerNotFound,
            Refusal::DialRate => Self::DialRate,
            Refusal::DialIdInUse => Self::DialIdInUse,
            Refusal::TooManyDials => Self::TooManyDials,
            Refusal::PeerBusy => Self::PeerBusy,
            Refusal::DialTimedOut => Self::DialTimedOut,
            Refusal::PeerLeft => Self::PeerLeft,
            Refusal::DaySpent { .. } => Self::DaySpent,
            Refusal::ShuttingDown => Self::ShuttingDown,
            #[cfg(feature = "cluster")]
            Refusal::Unreachable(_) => Self::Unreachable,
            Refusal::Malformed(_) => Self::MalformedRequest,
            Refusal::Unknown => Self::UnknownRequest,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The number of refusals since the server was started, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusals([u64; Refused::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self([0; Refused::ALL.len()])
    }
}

impl Refusals {
    /// Returns the number of refusals for this reason.
    pub fn get(&self, reason: Refused) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// Returns every reason with its count, including those that never occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Refused, u64)> {
        Refused::ALL.into_iter().zip(self.0)
    }

    /// Returns the sum of both counts.
    pub(super) fn plus(self, other: Self) -> Self {
        let mut sum = self;
        for (count, more) in sum.0.iter_mut().zip(other.0) {
            *count += more;
        }
        sum
    }

    pub(super) fn count(&mut self, reason: Refused) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_is_counted_apart_under_a_name_of_its_own() {
        let mut refusals = Refusals::default();
        for (n, reason) in (1..).zip(Refused::ALL) {
            for _ in 0..n {
                refusals.count(reason);
            }
        }
        assert!((1..).zip(refusals.iter()).all(|(n, (_, count))| n == count));
        assert!((1..).zip(Refused::ALL).all(|(n, r)| refusals.get(r) == n));
        let names: HashSet<_> = Refused::ALL.iter().map(Refused::to_string).collect();
        assert_eq!(names.len(), Refused::ALL.len());
        let is_label = |name: &String| name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase());
        assert!(names.iter().all(is_label), "{names:?}");
    }
}
