//! Access control: the application decides who may use the rendezvous. This module asks it.
//!
//! Each join gets one verdict. It is asked for after the key is proved and with no lock held. The link is not read
//! further until the verdict is there. Verdicts that take time are worked on in an order that is fair among origins;
//! their number at one time and the time for each are limited. What a verdict allows is kept as a [`Grant`] for as long
//! as the join lasts.

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

/// Decides who may use a rendezvous; set it with [`Config::with_access`](super::Config::with_access).
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
/// A panic in [`judge`](Self::judge), or in a verdict that takes time, closes the link of the peer that wants to join.
/// A panic in [`still_allows`](Self::still_allows) counts as `false`, so the link of that peer is closed.
pub trait Access: fmt::Debug + Send + Sync + 'static {
    /// Decides whether a peer may join. The peer has proved its key, unless
    /// [the challenge is off](super::Config::with_challenge).
    ///
    /// This runs in the task of a link, so it must not block. Return [`Judgement::Later`] for a decision that takes
    /// time. Many such futures may wait for their turn, so allocate large memory only when the future is first polled.
    fn judge(&self, join: &Join) -> Judgement;

    /// Returns whether a peer that was let in may stay. [`Server::recheck_access`](super::Server::recheck_access) calls
    /// this for every joined peer. It is also called for a join that was judged during such a check, or while a peer
    /// [was disconnected](super::Server::disconnect). It must not block either.
    fn still_allows(&self, join: &Join) -> bool;

    /// Returns the application's own counters, for `/metrics`. Called for each request to `/metrics` that covers all
    /// tenants. By default there are none.
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
