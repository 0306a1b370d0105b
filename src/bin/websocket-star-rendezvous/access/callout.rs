//! Asks a service over HTTP who may join.
//!
//! What it is asked and what it answers is in the README. It is asked when no list knows the peer. An answer that says for
//! how long it is good is kept as long. Whatever goes wrong, the peer is not let in, unless the operator wants it
//! otherwise. Then it is let in if the service cannot be reached, is too slow, or says that it has failed itself: a
//! stranger is not to choose what it chokes on.

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

impl CalloutError {
    /// Whether the service is out of reach, or says that it has failed: nothing that was asked can be the cause.
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
    /// Where everybody is let in as long as the service is out of reach: whether it is.
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
    /// Nobody is asked yet.
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
                "the service that says who may join is asked without TLS: others may change its answers, and it is told no tokens"
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
        // Many may wait for their turn: what asking needs is made then.
        Judgement::later(async move { Box::pin(callout.ask(&join)).await })
    }

    fn question(&self, join: &Join) -> Question {
        Question::of(join, self.client.endpoint().is_private())
    }

    /// Has everybody asked about anew who joins from now on.
    pub fn forget(&self) {
        self.cache().clear();
    }

    /// Whether a peer has joined because the service has let it in.
    pub fn has_let_in(&self, join: &Join) -> bool {
        self.guests.has(join.address())
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be said without asking.
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
        // It may be known by now.
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
            // It is there, but not of any use.
            Some(outage) => outage.is_over(),
            None => {}
        }
        self.counts.count(Counted::RefusedUndecided);
        Verdict::refuse_for(AGAIN, "it cannot be decided now")
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

    /// As the service has answered; counted as the one or the other.
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
        match callout(false).judge(&join()) {
            Judgement::Later(future) => assert!(size_of_val(&*future) <= 256),
            Judgement::Now(verdict) => panic!("{verdict:?}"),
        }
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
            // Those who come now are let in at once.
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
        // Each of them, and the one who comes after it.
        assert_eq!(of("allowed", "fail_open"), Some(12));
        assert_eq!(of("refused", "undecided"), Some(7));
        assert_eq!(of("failed_questions", "server_error"), Some(2));
        assert_eq!(of("failed_questions", "status"), Some(4));
    }
}
