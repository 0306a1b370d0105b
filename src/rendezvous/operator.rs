//! The operator of a rendezvous: the token that proves who it is, and the peers that it has banned.

mod bans;
mod guesses;
mod keeper;

use std::{io, sync::Arc};

use libp2p_identity::PeerId;

use self::guesses::Secret;
pub(super) use self::{
    bans::{Banning, Bans, Holds, TooMany},
    guesses::{Guessed, Guesses},
};
use super::access::Access;
use crate::token::Token;

/// The minimum length of the token, in characters. 16 characters of base64 are 96 bits, which cannot be guessed.
const SHORTEST_TOKEN: usize = 16;

/// The operator's page, for [`Config::with_admin`](super::Config::with_admin).
///
/// ```
/// use libp2p_websocket_star::rendezvous::{Admin, Config};
///
/// let token = "a-secret-that-is-long-enough".parse()?;
/// let config = Config::default().with_admin(Admin::new(&token)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Clones share the same bans.
#[derive(Debug, Clone)]
pub struct Admin {
    secret: Secret,
    bans: Arc<Bans>,
}

/// The reason why an operator's page cannot be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The token is so short that it might be guessed.
    #[error("the token for the operator's page must have at least {SHORTEST_TOKEN} characters")]
    ShortToken,
}

impl Admin {
    /// Creates a page for operators with this token. Only a hash of the token is kept. At first no peer is banned, and
    /// bans last until the process ends.
    ///
    /// # Errors
    /// [`AdminError::ShortToken`] if the token has fewer than 16 characters.
    pub fn new(token: &Token) -> Result<Self, AdminError> {
        if token.reveal().len() < SHORTEST_TOKEN {
            return Err(AdminError::ShortToken);
        }
        Ok(Self {
            secret: Secret::new(token),
            bans: Arc::new(Bans::new([], None)),
        })
    }

    /// Bans these peers, and sets `keep`, which saves the bans for the next start. Whenever the bans change, `keep` is
    /// called with all banned peers. Each peer is listed once, by the id by which it was banned.
    ///
    /// `keep` may block: it runs in a thread of its own and gets only the newest list, and no ban waits for it. If it
    /// fails, the page and the log say so, the change lasts until the process ends, and `keep` is called again every
    /// ten seconds. [`Server::shutdown`](super::Server::shutdown) waits for `keep` as long as it waits for links.
    #[must_use]
    pub fn with_bans(
        self,
        banned: impl IntoIterator<Item = PeerId>,
        keep: impl Fn(&[PeerId]) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let bans = Bans::new(banned, Some(Box::new(keep)));
        Self {
            bans: Arc::new(bans),
            ..self
        }
    }

    pub(super) fn bans(&self) -> &Arc<Bans> {
        &self.bans
    }

    /// Returns the check of the tokens that are shown on the page.
    pub(super) fn guesses(&self) -> Guesses {
        Guesses::new(self.secret.clone())
    }

    /// Returns an access that refuses banned peers and asks `others` about all remaining ones.
    pub(super) fn guard(&self, others: Option<Arc<dyn Access>>) -> Banning {
        Banning::new(self.bans.clone(), others)
    }
}
