//! Asks a service over HTTP who may join.
//!
//! What it is asked and what it answers is in the README. It is asked when no list knows the peer. An answer that says for
//! how long it is good is kept as long. Whatever goes wrong, the peer is not let in, unless the operator wants it
//! otherwise.

mod answer;
mod cache;
mod client;
mod connect;
mod endpoint;
mod guests;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p_websocket_star::rendezvous::{Allowed, Join, Judgement, Verdict};

pub use self::endpoint::{Endpoint, EndpointError, RootsError};
use self::{
    answer::{Answer, AnswerError, Question},
    cache::Cache,
    client::{Client, ClientError},
    guests::Guests,
};

/// When somebody may come again about whom the service could not be asked.
const AGAIN: Duration = Duration::from_secs(5);
/// How often at most it is said that the service cannot be asked.
const QUIET: Duration = Duration::from_secs(1);

/// How the service is asked.
#[derive(Debug, Clone)]
pub struct CalloutSettings {
    pub endpoint: Endpoint,
    /// Who vouches for the certificate of the service, if not the web's authorities.
    pub roots: Option<PathBuf>,
    pub timeout: Duration,
    pub fail_open: bool,
    /// How many requests are under way at one time; as many connections are kept.
    pub in_flight: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum CalloutError {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

pub struct Callout {
    client: Client,
    cache: Mutex<Cache>,
    guests: Arc<Guests>,
    timeout: Duration,
    fail_open: bool,
    last_warning: Mutex<Option<Instant>>,
}

impl fmt::Debug for Callout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callout")
            .field("client", &self.client)
            .field("timeout", &self.timeout)
            .field("fail_open", &self.fail_open)
            .finish_non_exhaustive()
    }
}

impl Callout {
    /// Nobody is asked yet.
    ///
    /// # Errors
    /// If the root certificates cannot be used.
    pub fn new(settings: &CalloutSettings) -> Result<Self, RootsError> {
        let CalloutSettings {
            endpoint,
            roots,
            timeout,
            fail_open,
            in_flight,
        } = settings;
        if !endpoint.is_private() {
            tracing::warn!(
                service = %endpoint,
                "the service that says who may join is asked without TLS: others may read the tokens and change the answers"
            );
        }
        Ok(Self {
            client: Client::new(endpoint.clone(), roots.as_deref(), *in_flight)?,
            cache: Mutex::default(),
            guests: Arc::default(),
            timeout: *timeout,
            fail_open: *fail_open,
            last_warning: Mutex::default(),
        })
    }

    pub fn judge(self: &Arc<Self>, join: &Join) -> Judgement {
        let question = Question::of(join);
        let known = self.cache().get(question.key(), Instant::now());
        if let Some(answer) = known {
            return self.verdict(join, &answer).into();
        }
        let (callout, join) = (self.clone(), join.clone());
        Judgement::later(async move { callout.ask(&join, &question).await })
    }

    /// Whether a peer has joined because the service has let it in.
    pub fn has_let_in(&self, join: &Join) -> bool {
        self.guests.has(join.address())
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, join: &Join, question: &Question) -> Verdict {
        // It may be known by now.
        let known = self.cache().get(question.key(), Instant::now());
        if let Some(answer) = known {
            return self.verdict(join, &answer);
        }
        let round = self.cache().round();
        match self.answer(question).await {
            Ok(answer) => {
                let verdict = self.verdict(join, &answer);
                let (client, now) = (join.client(), Instant::now());
                self.cache()
                    .insert(*question.key(), client, answer, round, now);
                verdict
            }
            Err(error) => {
                self.warn(&error);
                match self.fail_open {
                    true => self.let_in(join),
                    false => Verdict::refuse_for(AGAIN, "it cannot be decided now"),
                }
            }
        }
    }

    async fn answer(&self, question: &Question) -> Result<Answer, CalloutError> {
        let asked = self.client.post(question.body());
        let answered = tokio::time::timeout(self.timeout, asked).await;
        let body = answered.map_err(|_| CalloutError::TimedOut(self.timeout))??;
        Ok(Answer::parse(&body)?)
    }

    fn verdict(&self, join: &Join, answer: &Answer) -> Verdict {
        match answer {
            Answer { allow: true, .. } => self.let_in(join),
            Answer {
                reason,
                retry_after: Some(time),
                ..
            } => Verdict::refuse_for(*time, reason),
            Answer { reason, .. } => Verdict::refuse(reason),
        }
    }

    fn let_in(&self, join: &Join) -> Verdict {
        let guest = self.guests.enter(join.address());
        Allowed::default().with_guard(guest).into()
    }

    /// Strangers can cause it as often as they like.
    fn warn(&self, error: &CalloutError) {
        let now = Instant::now();
        let mut last = self
            .last_warning
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < QUIET) {
            return;
        }
        *last = Some(now);
        drop(last);
        let service = self.client.endpoint();
        tracing::warn!(%service, error = %one_line(error), "cannot ask who may join");
    }
}

/// With its causes, and with nothing in it that begins another line.
fn one_line(error: &CalloutError) -> String {
    let told = crate::with_sources(error);
    told.chars()
        .flat_map(char::escape_debug)
        .take(400)
        .collect()
}
