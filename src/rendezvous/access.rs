//! Who may use the rendezvous: what the application decides, and how it is asked.
//!
//! For every join there is one verdict, when the key is proved and with no lock held. Until then the link is not read
//! further. Verdicts that take time are worked on so many at a time, in an order that is fair among origins, and each
//! may take so long. What a verdict allows is kept as a [`Grant`] for as long as the join lasts.

mod doorkeeper;
mod grant;
mod join;
mod line;
mod verdict;

use std::{fmt, sync::Arc};

#[cfg(test)]
pub(crate) use self::verdict::granted;
pub(crate) use self::{
    doorkeeper::{Asked, Doorkeeper, Judging},
    grant::Grant,
    join::Visit,
};
pub use self::{
    join::Join,
    verdict::{Allowed, Judgement, Verdict},
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
///         match join.client().is_loopback() {
///             true => Verdict::allow().into(),
///             false => Verdict::refuse("this rendezvous is for its own machine").into(),
///         }
///     }
/// }
///
/// let config = Config::default().with_access(ThisMachine);
/// ```
///
/// A panic in one of these methods, or in a verdict that takes time, costs the link of the peer that wants to join.
pub trait Access: fmt::Debug + Send + Sync + 'static {
    /// Says whether a peer may join. It has proved its key, unless
    /// [the challenge is off](super::Config::with_challenge).
    ///
    /// This runs in the task of a link: it must not block. What takes time is [`Judgement::Later`].
    fn judge(&self, join: &Join) -> Judgement;

    /// Says whether a peer that was let in may stay; [`Server::recheck_access`](super::Server::recheck_access) has it
    /// asked for everybody. It must not block either.
    ///
    /// Unless this is implemented, everybody may stay.
    fn still_allows(&self, join: &Join) -> bool {
        let _ = join;
        true
    }
}

impl<A: Access + ?Sized> Access for Arc<A> {
    fn judge(&self, join: &Join) -> Judgement {
        (**self).judge(join)
    }

    fn still_allows(&self, join: &Join) -> bool {
        (**self).still_allows(join)
    }
}
