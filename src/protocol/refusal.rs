//! The words in which a rendezvous refuses a request: the string that answers it.
//!
//! Both ends take them from here. Those that the npm server knows are in its words, and the others
//! are this crate's.

use std::{fmt, time::Duration};

use super::socket_io;

/// What stands before the reason why a request is malformed.
const MALFORMED: &str = "Malformed request: ";
/// What says that somebody is not let in, with or without words behind it.
const NOT_ALLOWED: &str = "Not allowed";
/// What stands before the number of seconds after which somebody may come again.
const NOT_ALLOWED_NOW: &str = "Not allowed now, again in ";
/// What stands behind it, with or without words.
const SECONDS: &str = " s";
/// What stands behind whoever has spent the quota of a day.
#[cfg(feature = "rendezvous-server")]
const DAY_SPENT: &str = " has sent what it may send in a day";
/// What stands before the reason why another node cannot be reached.
#[cfg(feature = "cluster")]
const UNREACHABLE: &str = "Peer cannot be reached at its rendezvous: ";
/// What stands before such words.
const BECAUSE: &str = ": ";

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
            /// A join: it is not allowed to this peer, in these words, which may be none.
            NotAllowed(String),
            /// A join: it is not allowed to this peer now.
            NotAllowedNow {
                /// When it may come again, in seconds.
                after: u64,
                /// In these words, which may be none.
                words: String,
            },
            /// A dial: the quota of one of its peers is spent for today. It is told as not allowed now.
            #[cfg(feature = "rendezvous-server")]
            DaySpent {
                /// When it may come again, in seconds.
                after: u64,
                /// Whose quota it is.
                whose: String,
            },
            /// A dial: the peer is at another node of the cluster, which cannot be reached, for this reason.
            #[cfg(feature = "cluster")]
            Unreachable(String),
        }

        impl Refusal {
            #[cfg(test)]
            const ALL: [Self; [$($words),*].len()] = [$(Self::$refusal),*];

            /// The refusal that is told in these words; `None` for words that nobody is known to use.
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
    /// A join: nobody has decided in time whether it is allowed.
    Undecided = "Not allowed now, again in 5 s: nobody has decided in time",
    /// A join: it took long to decide, and another link has proved the same key since, and has joined.
    Overtaken = "Not allowed now, again in 60 s: another link has joined under this address since",
}

/// Writes the words of whoever does not allow something, if there are any.
fn because(words: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match words {
        "" => Ok(()),
        words => write!(f, "{BECAUSE}{words}"),
    }
}

/// In whole seconds, at least one: nobody is to come too early.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    let begun = u64::from(time.subsec_nanos() > 0);
    time.as_secs().saturating_add(begun).max(1)
}

/// The words behind a refusal; `None` if it is another one.
fn told(rest: &str) -> Option<&str> {
    match rest {
        "" => Some(""),
        rest => rest.strip_prefix(BECAUSE),
    }
}

/// After how many seconds somebody may come again who is refused in these words, and the words behind that.
fn time_in(words: &str) -> Option<(u64, &str)> {
    let (after, rest) = split_at_time(words)?;
    let words = told(rest.strip_prefix(SECONDS)?)?;
    Some((socket_io::number(after).ok()?, words))
}

/// The digits of the time in such words, which may be none, and what stands behind them.
fn split_at_time(words: &str) -> Option<(&str, &str)> {
    let rest = words.strip_prefix(NOT_ALLOWED_NOW)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some(rest.split_at(digits))
}

/// When a request may be made again that was refused in these words, if they say so.
pub(crate) fn retry_after(words: &str) -> Option<Duration> {
    time_in(words).map(|(after, _)| Duration::from_secs(after))
}

/// The same words, where so much is left of the time that they name.
pub(crate) fn with_time_left(words: &str, left: Duration) -> String {
    match split_at_time(words) {
        Some((_, rest)) => format!("{NOT_ALLOWED_NOW}{}{rest}", whole_seconds(left)),
        None => words.to_owned(),
    }
}

impl Refusal {
    /// One of those that have words of their own.
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

    /// A dial: that one's quota is spent for today, of which so many seconds are left.
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn day_spent(after: u64, whose: impl fmt::Display) -> Self {
        let whose = whose.to_string();
        Self::DaySpent { after, whose }
    }

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
