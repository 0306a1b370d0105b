//! Who may use the rendezvous: what the application decides, and how it is asked.
//!
//! For every join there is one verdict, when the key is proved and with no lock held. Until then the link is not read
//! further. Verdicts that take time are worked on so many at a time, in an order that is fair among origins, and each
//! may take so long. What a verdict allows is kept as a [`Grant`] for as long as the join lasts.

mod count;
mod doorkeeper;
mod grant;
mod join;
mod line;
mod verdict;

use std::{fmt, sync::Arc};

#[cfg(feature = "rendezvous")]
pub(crate) use self::line::Line;
#[cfg(test)]
pub(crate) use self::verdict::granted;
pub use self::{
    count::AccessCount,
    join::Join,
    verdict::{Allowed, Judgement, Verdict},
};
pub(crate) use self::{
    count::by_name,
    doorkeeper::{Asked, Doorkeeper, Judging},
    grant::Grant,
    join::Visit,
};

/// Decides who may use a rendezvous; [`Config::with_access`](super::Config::with_access) has it asked.
///
/// ```
/// use libp2p_websocket_star::rendezvous::{Access, Config, Join, Judgement, Verdict};
///
/// #[derive(Debug)]
/// struct ThisMachine;
///
/// impl Access for ThisMachine {
///     fn judge(&self, join: &Join) -> Judgement {
///         match self.still_allows(join) {
///             true => Verdict::allow().into(),
///             false => Verdict::refuse("this rendezvous is for its own machine").into(),
///         }
///     }
///
///     fn still_allows(&self, join: &Join) -> bool {
///         join.client().is_loopback()
///     }
/// }
///
/// let config = Config::default().with_access(ThisMachine);
/// ```
///
/// A panic in [`judge`](Self::judge), or in a verdict that takes time, costs the link of the peer that wants to join. One in
/// [`still_allows`](Self::still_allows) counts as no, and costs that peer its link.
pub trait Access: fmt::Debug + Send + Sync + 'static {
    /// Says whether a peer may join. It has proved its key, unless
    /// [the challenge is off](super::Config::with_challenge).
    ///
    /// This runs in the task of a link: it must not block. What takes time is [`Judgement::Later`]. Many of those may wait
    /// for their turn, so what needs much memory is better made when the future is polled first.
    fn judge(&self, join: &Join) -> Judgement;

    /// Says whether a peer that was let in may stay. [`Server::recheck_access`](super::Server::recheck_access) has it asked
    /// for everybody. It is also asked about a join that was judged while that went on, or while a peer
    /// [was disconnected](super::Server::disconnect). It must not block either.
    fn still_allows(&self, join: &Join) -> bool;

    /// What it has counted so far, for `/metrics`. This is asked whenever somebody looks there. Default nothing.
    fn counts(&self) -> Vec<AccessCount> {
        Vec::new()
    }
}

impl<A: Access + ?Sized> Access for Arc<A> {
    fn judge(&self, join: &Join) -> Judgement {
        (**self).judge(join)
    }

    fn still_allows(&self, join: &Join) -> bool {
        (**self).still_allows(join)
    }

    fn counts(&self) -> Vec<AccessCount> {
        (**self).counts()
    }
}
