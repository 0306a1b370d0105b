//! Asks an external service over HTTP who may join.
//!
//! The documentation describes the requests and the answers. The service is asked only about peers that are on no list.
//! An answer that says how long it is valid is cached for that time. If anything goes wrong, the peer is not let in,
//! unless the operator has chosen to fail open. Then it is let in if the service cannot be reached, is too slow, or
//! reports that it has failed itself. It is not let in after other errors, because a stranger could cause them with the
//! right input.

mod answer;
mod cache;
mod client;
mod connect;
mod endpoint;
mod guests;
mod outage;

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
    outage::Outage,
};
use super::counts::{Counted, Counts};

/// How long a peer is told to wait before it tries again, if the service could not be asked about it.
const AGAIN: Duration = Duration::from_secs(5);
/// The shortest time between two warnings that the service cannot be asked.
const QUIET: Duration = Duration::from_secs(1);

/// How the service is asked.
#[derive(Debug, Clone)]
pub struct CalloutSettings {
    pub endpoint: Endpoint,
    /// The file with the root certificates to trust for the service; `None` for the web's authorities.
    pub roots: Option<PathBuf>,
    pub timeout: Duration,
    pub fail_open: bool,
    /// The number of requests at one time; the same number of idle connections is kept.
    pub in_flight: usize,
}

/// The reason why there is no answer.
#[derive(Debug, thiserror::Error)]
enum CalloutError {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl CalloutError {
    /// Returns whether the service is out of reach or reports that it has failed, so that the question cannot be the
    /// cause.
    fn is_outage(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Client(error) => error.is_outage(),
            Self::Answer(_) => false,
        }
    }

    fn counted(&self) -> Counted {
        match self {
            Self::TimedOut(_) => Counted::FailedTimeout,
            Self::Client(error) => match error {
                ClientError::Lookup(_) => Counted::FailedLookup,
                ClientError::Connect(_) => Counted::FailedConnect,
                ClientError::Tls(_) => Counted::FailedTls,
                ClientError::Http(_) | ClientError::Request(_) => Counted::FailedHttp,
                ClientError::Status(500..) => Counted::FailedServer,
                ClientError::Status(_) => Counted::FailedStatus,
                ClientError::TooLong => Counted::FailedTooLong,
            },
            Self::Answer(_) => Counted::FailedAnswer,
        }
    }
}

pub struct Callout {
    client: Client,
    cache: Mutex<Cache>,
    guests: Arc<Guests>,
    /// The state of an outage if the operator has chosen to fail open; otherwise `None`.
    outage: Option<Outage>,
    timeout: Duration,
    last_warning: Mutex<Option<Instant>>,
    counts: Arc<Counts>,
}

impl fmt::Debug for Callout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callout")
            .field("client", &self.client)
            .field("timeout", &self.timeout)
            .field("outage", &self.outage)
            .finish_non_exhaustive()
    }
}

impl Callout {
    /// Creates the client. Nothing is sent yet.
    ///
    /// # Errors
    /// If the root certificates cannot be used.
    pub fn new(settings: &CalloutSettings, counts: Arc<Counts>) -> Result<Self, RootsError> {
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
                "the access service is asked without TLS: others on the way can change its answers, so it gets no tokens"
            );
        }
        Ok(Self {
            client: Client::new(endpoint.clone(), roots.as_deref(), *in_flight)?,
            cache: Mutex::default(),
            guests: Arc::default(),
            timeout: *timeout,
            outage: fail_open.then(Outage::default),
            last_warning: Mutex::default(),
            counts,
        })
    }

    pub fn judge(self: &Arc<Self>, join: &Join) -> Judgement {
        let question = self.question(join);
        if let Some(verdict) = self.known(join, &question) {
            return verdict.into();
        }
        let (callout, join) = (self.clone(), join.clone());
        // Many joins may wait for their turn, so the question is made again when it is asked, instead of being kept.
        Judgement::later(async move { Box::pin(callout.ask(&join)).await })
    }

    fn question(&self, join: &Join) -> Question {
        Question::of(join, self.client.endpoint().is_private())
    }

    /// Clears the cached answers, so that the service is asked again about every join from now on.
    pub fn forget(&self) {
        self.cache().clear();
    }

    /// Returns whether a peer has joined because the service has let it in.
    pub fn has_let_in(&self, join: &Join) -> bool {
        self.guests.has(join.address())
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the verdict that can be given without asking: from the cache, or during an outage.
    fn known(&self, join: &Join, question: &Question) -> Option<Verdict> {
        let now = Instant::now();
        let answer = self.cache().get(question.key(), now);
        if let Some(answer) = answer {
            let by = (Counted::AllowedByCache, Counted::RefusedByCache);
            return Some(self.verdict(join, &answer, by));
        }
        let outage = self.outage.as_ref()?;
        outage.is_on(now).then(|| self.fail_open(join))
    }

    async fn ask(&self, join: &Join) -> Verdict {
        let question = self.question(join);
        // The answer may be in the cache by now.
        if let Some(verdict) = self.known(join, &question) {
            return verdict;
        }
        let round = self.cache().round();
        match self.answer(&question).await {
            Ok(answer) => {
                if let Some(outage) = &self.outage {
                    outage.is_over();
                }
                let by = (Counted::AllowedByService, Counted::RefusedByService);
                let verdict = self.verdict(join, &answer, by);
                let (client, now) = (join.client(), Instant::now());
                self.cache()
                    .insert(*question.key(), client, answer, round, now);
                verdict
            }
            Err(error) => self.failed(join, &error),
        }
    }

    fn failed(&self, join: &Join, error: &CalloutError) -> Verdict {
        self.counts.count(error.counted());
        self.warn(error);
        match &self.outage {
            Some(outage) if error.is_outage() => {
                outage.is_there(Instant::now());
                return self.fail_open(join);
            }
            // The service can be reached, but its answer is of no use.
            Some(outage) => outage.is_over(),
            None => {}
        }
        self.counts.count(Counted::RefusedUndecided);
        Verdict::refuse_for(AGAIN, "access cannot be checked now")
    }

    fn fail_open(&self, join: &Join) -> Verdict {
        self.counts.count(Counted::AllowedByFailOpen);
        self.let_in(join)
    }

    async fn answer(&self, question: &Question) -> Result<Answer, CalloutError> {
        let asked = self.client.post(question.body());
        let answered = tokio::time::timeout(self.timeout, asked).await;
        let body = answered.map_err(|_| CalloutError::TimedOut(self.timeout))??;
        Ok(Answer::parse(&body)?)
    }

    /// Turns the answer into a verdict, and counts it: as the first of `by` if the peer is let in, as the second if
    /// not.
    fn verdict(&self, join: &Join, answer: &Answer, by: (Counted, Counted)) -> Verdict {
        self.counts.count(if answer.allow { by.0 } else { by.1 });
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

    /// Logs a warning, but not more often than once in [`QUIET`], because strangers can cause such errors at will.
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
        tracing::warn!(%service, error = %one_line(error), "the access service gave no valid answer");
    }
}

/// Returns the error with its causes, with control characters escaped, so that it stays in one line.
fn one_line(error: &CalloutError) -> String {
    let told = crate::with_sources(error);
    told.chars()
        .flat_map(char::escape_debug)
        .take(400)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callout(fail_open: bool) -> Arc<Callout> {
        let settings = CalloutSettings {
            endpoint: "http://127.0.0.1:1/".parse().expect("a URL"),
            roots: None,
            timeout: Duration::from_secs(3),
            fail_open,
            in_flight: 64,
        };
        let callout = Callout::new(&settings, Arc::default());
        Arc::new(callout.expect("no roots are needed"))
    }

    fn join() -> Join {
        let token = "t".repeat(500).parse().expect("a token");
        Join::new(libp2p_identity::PeerId::random(), [192, 0, 2, 1].into()).with_token(token)
    }

    #[test]
    fn a_join_that_waits_for_its_turn_needs_little_memory() {
        let Judgement::Later(future) = callout(false).judge(&join()) else {
            panic!("it is judged at once");
        };
        assert!(size_of_val(&*future) <= 256);
    }

    #[test]
    fn only_what_no_stranger_can_cause_opens_the_door() {
        let io = || std::io::Error::other("x");
        let callout = callout(true);
        let outages = [
            CalloutError::TimedOut(Duration::from_secs(3)),
            ClientError::Lookup(Arc::new(io())).into(),
            ClientError::Connect(io()).into(),
            ClientError::Tls(io()).into(),
            ClientError::Status(500).into(),
            ClientError::Status(503).into(),
        ];
        let others = [
            ClientError::Status(204).into(),
            ClientError::Status(301).into(),
            ClientError::Status(400).into(),
            ClientError::Status(429).into(),
            ClientError::TooLong.into(),
            CalloutError::Answer(AnswerError::Json),
            CalloutError::Answer(AnswerError::Allow),
        ];
        for error in &outages {
            assert!(callout.failed(&join(), error).is_allowed(), "{error}");
            // During an outage, joins are let in at once.
            assert!(matches!(callout.judge(&join()), Judgement::Now(_)));
        }
        for error in &others {
            assert!(!callout.failed(&join(), error).is_allowed(), "{error}");
            assert!(matches!(callout.judge(&join()), Judgement::Later(_)));
        }
        let closed = self::callout(false);
        for error in outages.iter().chain(&others) {
            assert!(!closed.failed(&join(), error).is_allowed(), "{error}");
        }
        let counts = callout.counts.all();
        let of = |name, by| {
            let mut found = counts.iter().filter(|c| (c.name, c.by) == (name, by));
            found.next().map(|count| count.count)
        };
        // Two joins for each outage: the one that failed and the one after it.
        assert_eq!(of("allowed", "fail_open"), Some(12));
        assert_eq!(of("refused", "undecided"), Some(7));
        assert_eq!(of("failed_questions", "server_error"), Some(2));
        assert_eq!(of("failed_questions", "status"), Some(4));
    }
}
