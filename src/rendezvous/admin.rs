//! The operator's page at `/admin`: what the rendezvous does, and who is to go.
//!
//! Whoever has the token logs in, and gets a session, whose id is another secret in a cookie. Scripts show the token
//! itself. Everybody else is shown where to log in, and nothing more. There is no lock in here that is held for longer when there
//! are more peers: the lists are put together some at a time, and the pictures once for all who look.

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
use super::{
    access::Access,
    config::Config,
    hub::{Figures, now},
    tenants::Tenants,
};
use crate::{limited::Limited, token::Token};

/// How many characters the token has at least. 16 of base64 are 96 bits, which nobody guesses.
const SHORTEST_TOKEN: usize = 16;
/// How many may listen to what changes at one time.
const MOST_LISTENERS: usize = 8;
/// How many of those who have sent most are shown.
const MOST_USERS: usize = 10;
/// How many seconds lie between two pictures that they are sent.
const PICTURES_EVERY: u64 = 5;
/// How many seconds lie between two attempts to keep bans that could not be kept.
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
/// Clones have the same bans.
#[derive(Debug, Clone)]
pub struct Admin {
    secret: Secret,
    bans: Arc<Bans>,
}

/// Why there can be no such page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Somebody might guess the token.
    #[error("the token for the operator's page has at least {SHORTEST_TOKEN} characters")]
    ShortToken,
}

impl Admin {
    /// A page for whoever has this token. Of the token, a hash is kept. Nobody is banned, and bans hold until the process ends.
    ///
    /// # Errors
    /// [`AdminError::ShortToken`] if it has less than 16 characters.
    pub fn new(token: &Token) -> Result<Self, AdminError> {
        if token.reveal().len() < SHORTEST_TOKEN {
            return Err(AdminError::ShortToken);
        }
        Ok(Self {
            secret: Secret::new(token),
            bans: Arc::new(Bans::new([], None)),
        })
    }

    /// Bans these peers, and has `keep` called with all who are banned when that has changed, for the next start. Each peer is
    /// there once, by the id by which it was banned.
    ///
    /// `keep` may block: it is called in a thread of its own, with the newest only, and no ban waits for it. When it fails, the
    /// page and the log say so, the change holds until the process ends, and `keep` is called again every ten seconds.
    /// [`Server::shutdown`](super::Server::shutdown) waits for it as long as for links.
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

    /// Has those who are banned kept out, before anybody else is asked about them.
    pub(super) fn guard(&self, others: Option<Arc<dyn Access>>) -> Banning {
        Banning::new(self.bans.clone(), others)
    }
}

/// Says so where others on the network can read the token, as far as is known at the start.
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
    /// That a proxy is not trusted is logged once.
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

    /// Waits until no change of the bans is being kept. Cancel safe.
    pub(super) async fn rested(&self) {
        self.bans.rested().await;
    }

    /// Looks each second at what the rendezvous does, for as long as it runs.
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
        // Neither is looked up while the other is locked.
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
