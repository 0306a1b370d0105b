//! The return to a rendezvous, for peers whose direct connection is lost.

use std::{collections::HashMap, error::Error, io, time::Duration};

use libp2p_identity::PeerId;
use libp2p_swarm::{ConnectionError, ConnectionId};
use multiaddr::Multiaddr;
use web_time::Instant;

/// The peer that had dialled through the rendezvous dials again at once. The other one dials this much later, if it is
/// still not connected.
const SECOND: Duration = Duration::from_secs(1);
/// The wait between the first two attempts, which doubles each time. The link to the rendezvous may have to be opened
/// again first.
const AGAIN: Duration = Duration::from_secs(2);
const ATTEMPTS: u8 = 6;

/// The attempts to reach a peer through its rendezvous again.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) at: Instant,
    pub(super) address: Multiaddr,
    pub(super) dialling: Option<ConnectionId>,
    left: u8,
}

impl Back {
    pub(super) fn new(now: Instant, address: Multiaddr, dialled: bool) -> Self {
        Self {
            at: if dialled { now } else { now + SECOND },
            address,
            dialling: None,
            left: ATTEMPTS,
        }
    }

    /// Returns whether an attempt is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.dialling.is_none() && now >= self.at
    }

    pub(super) fn dials(&mut self, id: ConnectionId) {
        self.dialling = Some(id);
        self.left -= 1;
    }

    /// Notes that the dial has failed. Returns whether there will be another one.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.dialling = None;
        self.at = now + AGAIN * 2_u32.pow(u32::from(ATTEMPTS - 1 - self.left));
        self.left > 0
    }
}

/// The number of peers whose losses are remembered.
const MAX_LOSSES: usize = 1024;
/// The time without a new upgrade after the first loss. It doubles after each further loss.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Losses of direct connections. They delay the next upgrade, so that no peer switches between both kinds of connection
/// all the time.
#[derive(Debug, Default)]
pub(super) struct Losses(HashMap<PeerId, Loss>);

#[derive(Debug)]
struct Loss {
    wait: Duration,
    until: Instant,
}

impl Losses {
    pub(super) fn add(&mut self, peer: PeerId, now: Instant) {
        self.0.retain(|_, loss| now < loss.until + LONGEST_WAIT);
        if self.0.len() >= MAX_LOSSES && !self.0.contains_key(&peer) {
            let soonest = self.0.iter().min_by_key(|(_, loss)| loss.until);
            let soonest = soonest.map(|(peer, _)| *peer);
            soonest.and_then(|peer| self.0.remove(&peer));
        }
        let before = self.0.get(&peer).map(|loss| loss.wait);
        let wait = before.map_or(FIRST_WAIT, |wait| (wait * 2).min(LONGEST_WAIT));
        let until = now + wait;
        self.0.insert(peer, Loss { wait, until });
    }

    /// Returns the time before which no upgrade may begin, if it has not passed.
    pub(super) fn wait_for(&self, peer: &PeerId, now: Instant) -> Option<Instant> {
        let until = self.0.get(peer)?.until;
        (now < until).then_some(until)
    }
}

/// Returns whether a connection ended because its path is lost, and not because one of the peers closed it.
pub(super) fn is_loss(cause: Option<&ConnectionError>) -> bool {
    let Some(ConnectionError::IO(error)) = cause else {
        return false;
    };
    let mut error: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = error {
        error = match inner.downcast_ref::<io::Error>() {
            Some(io) if is_path_gone(io.kind()) => return true,
            Some(io) => io.get_ref().map(|inner| inner as _),
            None => inner.source(),
        };
    }
    false
}

fn is_path_gone(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::TimedOut
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_wait_longer_each_time_and_are_forgotten() {
        let (mut losses, peer, start) = (Losses::default(), PeerId::random(), Instant::now());
        assert_eq!(losses.wait_for(&peer, start), None);
        losses.add(peer, start);
        assert_eq!(losses.wait_for(&peer, start), Some(start + FIRST_WAIT));
        losses.add(peer, start);
        assert_eq!(losses.wait_for(&peer, start), Some(start + 2 * FIRST_WAIT));
        for _ in 0..100 {
            losses.add(peer, start);
        }
        assert_eq!(losses.wait_for(&peer, start), Some(start + LONGEST_WAIT));
        let later = start + 2 * LONGEST_WAIT;
        assert_eq!(losses.wait_for(&peer, later), None);
        losses.add(peer, later);
        assert_eq!(losses.wait_for(&peer, later), Some(later + FIRST_WAIT));
    }

    #[test]
    fn losses_are_bounded() {
        let (mut losses, now) = (Losses::default(), Instant::now());
        for _ in 0..2 * MAX_LOSSES {
            losses.add(PeerId::random(), now);
        }
        assert_eq!(losses.0.len(), MAX_LOSSES);
    }

    #[test]
    fn a_path_that_is_gone_is_told_from_an_end_that_was_wanted() {
        let lost = |error: io::Error| is_loss(Some(&ConnectionError::IO(error)));
        assert!(lost(io::ErrorKind::TimedOut.into()));
        let inner = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(lost(io::Error::other(io::Error::other(inner))));
        assert!(!lost(io::ErrorKind::UnexpectedEof.into()));
        assert!(!lost(io::Error::other("closed by the remote")));
        assert!(!is_loss(Some(&ConnectionError::KeepAliveTimeout)));
        assert!(!is_loss(None));
    }
}
