//! Why joins and dials fail.

use std::time::Duration;

use crate::{
    protocol::{
        ProtocolError,
        nonce::NonceError,
        refusal::{self, Refusal},
    },
    words::Words,
};

/// The reason why a join failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The rendezvous refused with this reason. `{}` is a JavaScript error that lost its text.
    #[error("the rendezvous refused the join: {}", Words(.0))]
    Refused(String),
    /// The rendezvous let us join without asking for a proof of our key.
    ///
    /// It would also let anybody else join under our address. `Config::with_allow_join_with_disabled_challenge` allows
    /// such a join.
    #[error(
        "the rendezvous has its challenge disabled: any peer could take our address there \
         (allow_join_with_disabled_challenge is off)"
    )]
    ChallengeDisabled,
    /// The rendezvous asked us to sign something other than two UUIDs of version 4 or of version 8.
    ///
    /// The signature has no domain separation: a signature over data that a rogue server chooses could prove anything,
    /// for example the possession of its Noise key.
    #[error("the rendezvous asked us to sign something that is not a nonce of two UUIDs")]
    InvalidNonce,
    /// The rendezvous asked us to sign a nonce of version 8 that was made for another address. It relays the challenge
    /// of another rendezvous, to join there in our place.
    #[error("the rendezvous asked us to sign a nonce that was made for another address")]
    ForeignNonce,
    /// Our key could not sign.
    #[error("the identity key could not sign the nonce: {0}")]
    Signing(String),
    /// The rendezvous did not answer within the join timeout.
    #[error("the rendezvous did not answer the join within {0:?}")]
    TimedOut(Duration),
    /// The answer was malformed.
    #[error("the rendezvous sent a malformed answer to the join: {0}")]
    Malformed(#[source] ProtocolError),
    /// The rendezvous takes our public key for the answer to an earlier challenge, whose nonce came too late for us.
    /// The deployed servers never forget a nonce while the link lasts. So the client opens a new link if the link has
    /// no connections.
    #[error("the rendezvous waits for the answer to an earlier challenge")]
    StaleChallenge,
    /// We had joined under the address, and since then another node with the same key has joined under it. Dials now go
    /// to that node. Joining again takes the address back. Only this crate's rendezvous reports this.
    #[error("another node with the same key has joined under this address, and now gets its dials")]
    Displaced,
}

impl JoinError {
    /// Returns whether joining again cannot help, because the cause lies in the identity, the address or the
    /// configuration of one side.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::ChallengeDisabled
            | Self::InvalidNonce
            | Self::ForeignNonce
            | Self::Signing(_) => true,
            Self::TimedOut(_) | Self::Malformed(_) | Self::StaleChallenge | Self::Displaced => {
                false
            }
            Self::Refused(reason) => {
                Refusal::of_words(reason).is_some_and(|refusal| refusal.is_permanent())
            }
        }
    }

    /// Returns how long to wait before joining again, if the rendezvous names a time. Only this crate's rendezvous
    /// does: its operator decides which peers may use it, and when.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(reason) => refusal::retry_after(reason),
            _ => None,
        }
    }

    /// Returns the kind of the refusal, if the rendezvous refused in known words.
    pub fn refusal(&self) -> Option<JoinRefusal> {
        let Self::Refused(reason) = self else {
            return None;
        };
        match Refusal::of_words(reason)? {
            Refusal::InvalidMultiaddr => Some(JoinRefusal::Address),
            Refusal::NotAllowed(_)
            | Refusal::NotAllowedNow { .. }
            | Refusal::Undecided
            | Refusal::Overtaken => Some(JoinRefusal::NotAllowed),
            Refusal::NoKey
            | Refusal::UnusableProof
            | Refusal::WrongId
            | Refusal::WrongSignature
            | Refusal::Unnamed => Some(JoinRefusal::Identity),
            Refusal::TooManyJoins | Refusal::JoinRate => Some(JoinRefusal::TooMany),
            _ => None,
        }
    }

    /// Returns the same error with the time that the rendezvous has named replaced by `left`.
    pub(crate) fn with_time_left(&self, left: Duration) -> Self {
        match self {
            Self::Refused(reason) => Self::Refused(refusal::with_time_left(reason, left)),
            error => error.clone(),
        }
    }
}

impl From<NonceError> for JoinError {
    fn from(error: NonceError) -> Self {
        match error {
            NonceError::Form => Self::InvalidNonce,
            NonceError::OtherAddress => Self::ForeignNonce,
        }
    }
}

/// The kind of a refusal with which a rendezvous answers a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinRefusal {
    /// No peer may join there under this address. This crate's rendezvous says so because it is known by other names.
    Address,
    /// The rendezvous does not accept the key or the signature. The npm server gives the same answer for some
    /// addresses.
    Identity,
    /// The operator of the rendezvous does not let this peer join, or not now.
    NotAllowed,
    /// There are too many joins, on one link or in one second.
    TooMany,
}

/// The reason why a dial failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The peer is not at the rendezvous.
    #[error("the peer is not at the rendezvous")]
    PeerNotFound,
    /// The rendezvous does not accept the address that we dial from as ours.
    #[error("the rendezvous does not let us dial from our address")]
    NotAuthorized,
    /// The peer or the rendezvous refused with this reason.
    #[error("the dial was refused: {}", Words(.0))]
    Refused(String),
    /// There was no answer within the dial timeout.
    #[error("no answer to the dial within {0:?}")]
    TimedOut(Duration),
    /// The answer was malformed.
    #[error("the rendezvous sent a malformed answer to the dial: {0}")]
    Malformed(#[source] ProtocolError),
    /// We are not joined at the rendezvous, and could not join.
    #[error("cannot join the rendezvous to dial through it: {0}")]
    Join(#[source] JoinError),
    /// The other peer reset the stream before it answered the dial.
    #[error("the peer reset the connection while it was being dialled")]
    Reset,
    /// The link has the maximum number of pending dials or of connections.
    #[error("too many dials and connections at this rendezvous")]
    TooMany,
}

impl DialError {
    /// Returns how long to wait before dialling the peer again, if the rendezvous names a time.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(reason) => refusal::retry_after(reason),
            Self::Join(error) => error.retry_after(),
            _ => None,
        }
    }
}

impl From<String> for DialError {
    fn from(reason: String) -> Self {
        match Refusal::of_words(&reason) {
            Some(Refusal::PeerNotFound) => Self::PeerNotFound,
            Some(Refusal::NotAuthorized) => Self::NotAuthorized,
            _ => Self::Refused(reason),
        }
    }
}
