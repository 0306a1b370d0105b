//! The words in which a rendezvous refuses a request: the string that answers it.
//!
//! Both ends take them from here. Those that the npm server knows are in its words, and the others
//! are this crate's.

use std::fmt;

/// What stands before the reason why a request is malformed.
const MALFORMED: &str = "Malformed request: ";

/// Declares each refusal once: the variant and its words.
macro_rules! refusals {
    ($($(#[$doc:meta])* $refusal:ident = $words:literal,)*) => {
        /// Why a rendezvous refuses a request.
        ///
        /// `Display` gives the words that go over the wire, and [`of_words`](Self::of_words) reads them.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) enum Refusal {
            $($(#[$doc])* $refusal,)*
            /// Its arguments cannot be understood, for this reason.
            Malformed(String),
        }

        impl Refusal {
            #[cfg(test)]
            const ALL: [Self; [$($words),*].len()] = [$(Self::$refusal),*];

            /// The refusal that is told in these words; `None` for words that nobody is known to use.
            pub(crate) fn of_words(words: &str) -> Option<Self> {
                match words {
                    $($words => Some(Self::$refusal),)*
                    _ => {
                        let reason = words.strip_prefix(MALFORMED)?;
                        Some(Self::Malformed(reason.to_owned()))
                    }
                }
            }
        }

        impl fmt::Display for Refusal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$refusal => f.write_str($words),)*
                    Self::Malformed(reason) => write!(f, "{MALFORMED}{reason}"),
                }
            }
        }
    };
}

refusals! {
    /// A join: its address is none that may be joined.
    InvalidMultiaddr = "Invalid multiaddr",
    /// A join: it came without a public key.
    NoKey = "Crypto Challenge required but no Id provided",
    /// A join: its key or signature cannot be processed.
    UnusableProof = "Crypto error",
    /// A join: its key is not the one of the peer id.
    WrongId = "Id is not matching",
    /// A join: its signature is wrong.
    WrongSignature = "Signature Invalid",
    /// A JavaScript error that has lost its text; the npm server gives it for unusable keys and addresses.
    Unnamed = "{}",
    /// A join: its link has as many addresses as it may.
    TooManyJoins = "Too many addresses on one link",
    /// A join: its link, or its origin, joins too often.
    JoinRate = "Too many joins a second",
    /// A dial: it names a dialler that has not joined on its link.
    NotAuthorized = "Not authorized for this address",
    /// A dial: the dialled peer is not here.
    PeerNotFound = "Peer not found",
    /// A dial: its link dials too often.
    DialRate = "Too many dials a second",
    /// A dial: its dial id is in use.
    DialIdInUse = "Dial id is in use",
    /// A dial: its link has as many as it may.
    TooManyDials = "Too many dials on one link",
    /// A dial: the dialled peer has as many as it may.
    PeerBusy = "Peer has too many dials",
    /// A dial: the dialled peer did not answer in time.
    DialTimedOut = "Peer did not answer the dial in time",
    /// A dial: one of its peers left before it was answered.
    PeerLeft = "Peer left before it answered the dial",
    /// A dial: the server is being shut down.
    ShuttingDown = "Rendezvous is shutting down",
    /// A request that is none of websocket-star.
    Unknown = "Unknown request",
}

impl Refusal {
    /// Whether the same request is refused again however often it is made: its cause lies in the
    /// identity, the address or the configuration of one side.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::InvalidMultiaddr
            | Self::NoKey
            | Self::UnusableProof
            | Self::WrongId
            | Self::WrongSignature
            | Self::Unnamed
            | Self::Malformed(_)
            | Self::Unknown => true,
            Self::TooManyJoins
            | Self::JoinRate
            | Self::NotAuthorized
            | Self::PeerNotFound
            | Self::DialRate
            | Self::DialIdInUse
            | Self::TooManyDials
            | Self::PeerBusy
            | Self::DialTimedOut
            | Self::PeerLeft
            | Self::ShuttingDown => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_read_from_its_own_words() {
        let malformed = Refusal::Malformed("no key".to_owned());
        for refusal in Refusal::ALL.into_iter().chain([malformed]) {
            assert_eq!(Refusal::of_words(&refusal.to_string()), Some(refusal));
        }
        for words in ["", "peer not found", "Peer not found.", "Malformed"] {
            assert_eq!(Refusal::of_words(words), None);
        }
    }

    /// From `libp2p-websocket-star-rendezvous` 0.4.1.
    #[test]
    fn the_npm_servers_words_are_known() {
        let known = |words| Refusal::of_words(words).map(|refusal| refusal.is_permanent());
        for words in [
            "Invalid multiaddr",
            "Crypto Challenge required but no Id provided",
            "Crypto error",
            "Id is not matching",
            "Signature Invalid",
            "{}",
        ] {
            assert_eq!(known(words), Some(true), "{words}");
        }
        for words in ["Not authorized for this address", "Peer not found"] {
            assert_eq!(known(words), Some(false), "{words}");
        }
    }
}
