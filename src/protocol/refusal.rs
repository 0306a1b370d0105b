//! The words with which a rendezvous refuses a request: the string in its answer.
//!
//! The client and the server both use this module. Where the npm server has words for a refusal, they are used here.
//! The other words are this crate's.

use std::{fmt, time::Duration};

use super::socket_io;

/// The words before the reason why a request is malformed.
const MALFORMED: &str = "Malformed request: ";
/// The words that say that a peer is not allowed to join. An explanation may follow.
const NOT_ALLOWED: &str = "Not allowed";
/// The words before the number of seconds after which the peer may try again.
const NOT_ALLOWED_NOW: &str = "Not allowed now, again in ";
/// The words after that number. An explanation may follow.
const SECONDS: &str = " s";
/// The words after the peer whose daily quota is spent.
#[cfg(feature = "rendezvous-server")]
const DAY_SPENT: &str = " has spent its daily quota";
/// The words before the reason why another node cannot be reached.
#[cfg(feature = "cluster")]
const UNREACHABLE: &str = "Peer cannot be reached at its rendezvous: ";
/// The separator before an explanation.
const BECAUSE: &str = ": ";

/// Declares each refusal once: its variant and its words.
macro_rules! refusals {
    ($($(#[$doc:meta])* $refusal:ident = $words:literal,)*) => {
        /// The reason why a rendezvous refuses a request.
        ///
        /// `Display` writes the words that are sent over the wire, and [`of_words`](Self::of_words) reads them.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) enum Refusal {
            $($(#[$doc])* $refusal,)*
            /// The request's arguments are malformed, for this reason.
            Malformed(String),
            /// A join: the peer is not allowed. The string is an explanation, or empty.
            NotAllowed(String),
            /// A join: the peer is not allowed now.
            NotAllowedNow {
                /// The time after which the peer may try again, in seconds.
                after: u64,
                /// An explanation, or an empty string.
                words: String,
            },
            /// A dial: the daily quota of one of its peers is spent. On the wire this is a
            /// [`NotAllowedNow`](Self::NotAllowedNow).
            #[cfg(feature = "rendezvous-server")]
            DaySpent {
                /// The time after which the peer may try again, in seconds.
                after: u64,
                /// The peer whose quota is spent, in words.
                whose: String,
            },
            /// A dial: the peer is at another node of the cluster, which cannot be reached for this reason.
            #[cfg(feature = "cluster")]
            Unreachable(String),
        }

        impl Refusal {
            #[cfg(test)]
            const ALL: [Self; [$($words),*].len()] = [$(Self::$refusal),*];

            /// Returns the refusal that has these words; `None` for unknown words.
            pub(crate) fn of_words(words: &str) -> Option<Self> {
                match words {
                    $($words => Some(Self::$refusal),)*
                    _ => Self::with_words(words),
                }
            }
        }

        impl fmt::Display for Refusal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$refusal => f.write_str($words),)*
                    Self::Malformed(reason) => write!(f, "{MALFORMED}{reason}"),
                    Self::NotAllowed(words) => {
                        f.write_str(NOT_ALLOWED)?;
                        because(words, f)
                    }
                    Self::NotAllowedNow { after, words } => {
                        write!(f, "{NOT_ALLOWED_NOW}{after}{SECONDS}")?;
                        because(words, f)
                    }
                    #[cfg(feature = "rendezvous-server")]
                    Self::DaySpent { after, whose } => {
                        write!(f, "{NOT_ALLOWED_NOW}{after}{SECONDS}")?;
                        write!(f, "{BECAUSE}{whose}{DAY_SPENT}")
                    }
                    #[cfg(feature = "cluster")]
                    Self::Unreachable(words) => write!(f, "{UNREACHABLE}{words}"),
                }
            }
        }
    };
}

refusals! {
    /// A join: nobody may join under its address.
    InvalidMultiaddr = "Invalid multiaddr",
    /// A join: it came without a public key.
    NoKey = "Crypto Challenge required but no Id provided",
    /// A join: its key or signature cannot be processed.
    UnusableProof = "Crypto error",
    /// A join: its key is not the one of the peer id.
    WrongId = "Id is not matching",
    /// A join: its signature is wrong.
    WrongSignature = "Signature Invalid",
    /// A JavaScript error that lost its text. The npm server gives it for unusable keys and addresses.
    Unnamed = "{}",
    /// A join: its link has the maximum number of addresses.
    TooManyJoins = "Too many addresses on one link",
    /// A join: its link or its origin joins too often.
    JoinRate = "Too many joins a second",
    /// A dial: the dialer that it names has not joined on its link.
    NotAuthorized = "Not authorized for this address",
    /// A dial: the dialled peer is not at this rendezvous.
    PeerNotFound = "Peer not found",
    /// A dial: its link dials too often.
    DialRate = "Too many dials a second",
    /// A dial: its dial id is in use.
    DialIdInUse = "Dial id is in use",
    /// A dial: its link has the maximum number of dials.
    TooManyDials = "Too many dials on one link",
    /// A dial: the dialled peer has the maximum number of dials.
    PeerBusy = "Peer has too many dials",
    /// A dial: the dialled peer did not answer in time.
    DialTimedOut = "Peer did not answer the dial in time",
    /// A dial: one of its peers left before the dial was answered.
    PeerLeft = "Peer left before it answered the dial",
    /// A dial: the server is shutting down.
    ShuttingDown = "Rendezvous is shutting down",
    /// The request is not one of websocket-star.
    Unknown = "Unknown request",
    /// A join: the decision whether it is allowed did not come in time.
    Undecided = "Not allowed now, again in 5 s: nobody has decided in time",
    /// A join: its decision took long, and meanwhile another link has proved the same key and has joined.
    Overtaken = "Not allowed now, again in 60 s: another link has joined under this address since",
}

/// Writes an explanation, if there is one.
fn because(words: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match words {
        "" => Ok(()),
        words => write!(f, "{BECAUSE}{words}"),
    }
}

/// Returns a time in whole seconds, at least one. Rounds up, so that nobody tries again too early.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    let begun = u64::from(time.subsec_nanos() > 0);
    time.as_secs().saturating_add(begun).max(1)
}

/// Returns the explanation after the words of a refusal; `None` if the words are those of another refusal.
fn told(rest: &str) -> Option<&str> {
    match rest {
        "" => Some(""),
        rest => rest.strip_prefix(BECAUSE),
    }
}

/// Returns the number of seconds in a refusal that names a time, and its explanation.
fn time_in(words: &str) -> Option<(u64, &str)> {
    let (after, rest) = split_at_time(words)?;
    let words = told(rest.strip_prefix(SECONDS)?)?;
    Some((socket_io::number(after).ok()?, words))
}

/// Splits words that may name a time: returns the digits of the time, which may be none, and the rest.
fn split_at_time(words: &str) -> Option<(&str, &str)> {
    let rest = words.strip_prefix(NOT_ALLOWED_NOW)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some(rest.split_at(digits))
}

/// Returns the time after which a request that was refused in these words may be made again, if the words name one.
pub(crate) fn retry_after(words: &str) -> Option<Duration> {
    time_in(words).map(|(after, _)| Duration::from_secs(after))
}

/// Returns the same words with the time that they name replaced by `left`.
pub(crate) fn with_time_left(words: &str, left: Duration) -> String {
    match split_at_time(words) {
        Some((_, rest)) => format!("{NOT_ALLOWED_NOW}{}{rest}", whole_seconds(left)),
        None => words.to_owned(),
    }
}

impl Refusal {
    /// Reads a refusal that carries words of its own.
    fn with_words(words: &str) -> Option<Self> {
        if let Some(reason) = words.strip_prefix(MALFORMED) {
            return Some(Self::Malformed(reason.to_owned()));
        }
        if let Some((after, words)) = time_in(words) {
            let words = words.to_owned();
            return Some(Self::NotAllowedNow { after, words });
        }
        let words = told(words.strip_prefix(NOT_ALLOWED)?)?;
        Some(Self::NotAllowed(words.to_owned()))
    }

    /// Returns the refusal of a dial because the daily quota of `whose` is spent. `after` is the rest of the day in
    /// seconds.
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn day_spent(after: u64, whose: impl fmt::Display) -> Self {
        let whose = whose.to_string();
        Self::DaySpent { after, whose }
    }

    /// Returns whether repeating the same request cannot help, because the cause lies in the identity, the address or
    /// the configuration of one side.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::InvalidMultiaddr
            | Self::NoKey
            | Self::UnusableProof
            | Self::WrongId
            | Self::WrongSignature
            | Self::Unnamed
            | Self::Malformed(_)
            | Self::NotAllowed(_)
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
            | Self::NotAllowedNow { .. }
            | Self::Undecided
            | Self::Overtaken
            | Self::ShuttingDown => false,
            #[cfg(feature = "rendezvous-server")]
            Self::DaySpent { .. } => false,
            #[cfg(feature = "cluster")]
            Self::Unreachable(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_read_from_its_own_words() {
        let not_now = |after, words: &str| Refusal::NotAllowedNow {
            after,
            words: words.to_owned(),
        };
        let with_words = [
            Refusal::Malformed("no key".to_owned()),
            Refusal::NotAllowed(String::new()),
            Refusal::NotAllowed("now, again in 5 s: x".to_owned()),
            not_now(0, ""),
            not_now(u64::MAX, "the office is closed"),
        ];
        for refusal in Refusal::ALL.into_iter().chain(with_words) {
            assert_eq!(Refusal::of_words(&refusal.to_string()), Some(refusal));
        }
        for words in [
            "",
            "peer not found",
            "Peer not found.",
            "Malformed",
            "Not allowed.",
            "Not allowed now",
            "Not allowed now, again in 5",
            "Not allowed now, again in 5 m",
            "Not allowed now, again in  s",
            "Not allowed now, again in -5 s",
            "Not allowed now, again in +5 s",
            "Not allowed now, again in 5 seconds",
            "Not allowed now, again in 18446744073709551616 s",
        ] {
            assert_eq!(Refusal::of_words(words), None, "{words}");
        }
    }

    #[test]
    fn a_refusal_is_for_good_or_says_when_to_come_again() {
        let of = |words: &str| {
            let refusal = Refusal::of_words(words).expect("known");
            (refusal.is_permanent(), retry_after(words))
        };
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(of("Not allowed"), (true, None));
        assert_eq!(of("Not allowed: not on the list"), (true, None));
        let words = "Not allowed now, again in 90 s: the office is closed";
        assert_eq!(of(words), (false, seconds(90)));
        assert_eq!(of(&Refusal::Undecided.to_string()), (false, seconds(5)));
        assert_eq!(of(&Refusal::Overtaken.to_string()), (false, seconds(60)));
        assert_eq!(of("Too many joins a second"), (false, None));
    }

    #[test]
    fn of_the_time_that_a_refusal_names_some_may_be_over() {
        let left = |refusal: Refusal, millis| {
            with_time_left(&refusal.to_string(), Duration::from_millis(millis))
        };
        let full = Refusal::NotAllowedNow {
            after: 90,
            words: "full".to_owned(),
        };
        assert_eq!(left(full, 29_001), "Not allowed now, again in 30 s: full");
        let words = "Not allowed now, again in 1 s: nobody has decided in time";
        assert_eq!(left(Refusal::Undecided, 0), words);
        for other in [Refusal::JoinRate, Refusal::NotAllowed("no".to_owned())] {
            assert_eq!(left(other.clone(), 1000), other.to_string());
        }
    }

    /// The words are from `libp2p-websocket-star-rendezvous` 0.4.1.
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
