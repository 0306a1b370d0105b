//! The operator's page at `/admin`. It shows what the rendezvous does, and it disconnects and bans peers.
//!
//! An operator logs in with the token and gets a session. The id of the session is another secret, stored in a cookie.
//! Scripts send the token itself. All other visitors see only the login form. No lock in this module is held longer
//! when there are more peers: lists are put together in slices, and charts are rendered once for all listeners.

mod actions;
mod answers;
mod events;
mod history;
mod look;
mod page;
mod peers;
mod picture;
mod request;
mod routes;
mod sessions;
mod units;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::Instant,
};

use tokio::{
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval},
};

use self::{
    history::{History, STEP, Sample},
    look::{Live, Look, Now},
    sessions::Sessions,
};
pub(super) use self::{request::Visitor, routes::is_asked_for};
use super::{
    config::Config,
    hub::Figures,
    operator::{Admin, Bans, Guesses},
    tenants::Tenants,
};
use crate::{log_limit::LogLimit, runtime::now};

/// The maximum number of listeners to live updates at one time.
const MOST_LISTENERS: usize = 8;
/// The number of heaviest senders that the page shows.
const MOST_USERS: usize = 10;
/// The interval between two updates of the charts for listeners, in seconds.
const PICTURES_EVERY: u64 = 5;
/// The interval between two attempts to save bans after a failure, in seconds.
const KEEP_EVERY: u64 = 10;

/// Warns if others on the network can read the token, as far as the configuration tells at the start.
pub(super) fn warn_of_plain_http(config: &Config) {
    let is_local = config.listen_addr().ip().is_loopback();
    if config.admin().is_some() && config.tls().is_none() && !is_local {
        tracing::warn!(
            "the operator's page is not encrypted, so others on the network can read the token; \
             use TLS, or listen on 127.0.0.1 behind a proxy that does"
        );
    }
}

/// The page of a running rendezvous.
pub(super) struct Panel {
    bans: Arc<Bans>,
    guesses: Guesses,
    wrong_tokens: LogLimit,
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
            bans: admin.bans().clone(),
            guesses: admin.guesses(),
            wrong_tokens: LogLimit::default(),
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
