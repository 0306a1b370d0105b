//! The operator's page at `/admin`. It shows what the rendezvous does, and it disconnects and bans peers.
//!
//! An operator logs in with the token and gets a session. The id of the session is another secret, stored in a cookie.
//! Scripts send the token itself. All other visitors see only the login form. No lock in this module is held longer
//! when there are more peers: lists are put together in slices, and charts are rendered once for all listeners.

mod actions;
mod answers;
mod bans;
mod events;
mod guesses;
mod history;
mod keeper;
mod look;
mod page;
mod peers;
mod picture;
mod request;
mod routes;
mod sessions;
mod units;

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::Instant,
};

use libp2p_identity::PeerId;
use tokio::{
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval},
};

pub(super) use self::{bans::Banning, request::Visitor, routes::is_asked_for};
use self::{
    bans::Bans,
    guesses::{Guesses, Secret},
    history::{History, STEP, Sample},
    look::{Live, Look, Now},
    sessions::Sessions,
};
use super::{access::Access, config::Config, hub::Figures, tenants::Tenants};
use crate::{limited::Limited, runtime::now, token::Token};

/// The minimum length of the token, in characters. 16 characters of base64 are 96 bits, which cannot be guessed.
const SHORTEST_TOKEN: usize = 16;
/// The maximum number of listeners to live updates at one time.
const MOST_LISTENERS: usize = 8;
/// The number of heaviest senders that the page shows.
const MOST_USERS: usize = 10;
/// The interval between two updates of the charts for listeners, in seconds.
const PICTURES_EVERY: u64 = 5;
/// The interval between two attempts to save bans after a failure, in seconds.
const KEEP_EVERY: u64 = 10;

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
    #[error("the token for the operator's page has at least {SHORTEST_TOKEN} characters")]
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

    /// Returns an access that refuses banned peers and asks `others` about all remaining ones.
    pub(super) fn guard(&self, others: Option<Arc<dyn Access>>) -> Banning {
        Banning::new(self.bans.clone(), others)
    }
}

/// Warns if others on the network can read the token, as far as the configuration tells at the start.
pub(super) fn warn_of_plain_http(config: &Config) {
    let is_local = config.listen_addr().ip().is_loopback();
    if config.admin().is_some() && config.tls().is_none() && !is_local {
        tracing::warn!(
            "the operator's page is not encrypted: whoever is on the way to this server can read the token; \
             use TLS, or listen on 127.0.0.1 behind a proxy that does"
        );
    }
}

/// The page of a running rendezvous.
pub(super) struct Panel {
    bans: Arc<Bans>,
    guesses: Guesses,
    wrong_tokens: Limited,
    sessions: Mutex<Sessions>,
    history: Mutex<History>,
    live: watch::Sender<Arc<Live>>,
    listeners: Arc<Semaphore>,
    started: Instant,
    is_unproved: bool,
    /// Ensures that the warning about an untrusted proxy is logged only once.
    told_of_proxy: Once,
}

impl fmt::Debug for Panel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panel")
            .field("bans", &self.bans)
            .finish_non_exhaustive()
    }
}

impl Panel {
    pub(super) fn new(admin: &Admin, config: &Config) -> Self {
        Self {
            bans: admin.bans.clone(),
            guesses: Guesses::new(admin.secret.clone()),
            wrong_tokens: Limited::default(),
            sessions: Mutex::default(),
            history: Mutex::default(),
            live: watch::Sender::default(),
            listeners: Arc::new(Semaphore::new(MOST_LISTENERS)),
            started: now(),
            is_unproved: !config.challenge(),
            told_of_proxy: Once::new(),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no change of the bans is being saved. Cancel safe.
    pub(super) async fn rested(&self) {
        self.bans.rested().await;
    }

    /// Samples the figures of the rendezvous every second, for as long as it runs.
    pub(super) async fn watch(&self, tenants: &Tenants) {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for second in 0_u64.. {
            ticks.tick().await;
            let now = self.sample(tenants);
            if second % KEEP_EVERY == 0 {
                self.bans.try_again();
            }
            if self.live.receiver_count() == 0 {
                continue;
            }
            let live = match second % PICTURES_EVERY {
                0 => Live::new(&self.look_at(now, tenants).await, second),
                _ => self.live.borrow().with_figures(&now),
            };
            self.live.send_replace(Arc::new(live));
        }
    }

    fn sample(&self, tenants: &Tenants) -> Now {
        let figures = tenants.figures();
        let relayed = figures.snapshot.relayed_bytes;
        let rate = {
            let mut history = self.history();
            history.add(now(), relayed, Sample::of(&figures, 0));
            history.latest().rate
        };
        self.now_of(figures, rate)
    }

    async fn look(&self, tenants: &Tenants) -> Look {
        let rate = self.history().latest().rate;
        self.look_at(self.now_of(tenants.figures(), rate), tenants)
            .await
    }

    async fn look_at(&self, now: Now, tenants: &Tenants) -> Look {
        // The senders are looked up before the history is locked, so neither lock is taken while the other is held.
        let users = tenants.house().top_peers_in_turns(MOST_USERS).await;
        Look::new(now, &self.history(), users)
    }

    fn now_of(&self, figures: Figures, rate: u64) -> Now {
        Now {
            sample: Sample::of(&figures, rate),
            figures,
            runs_for: now().saturating_duration_since(self.started),
        }
    }
}
