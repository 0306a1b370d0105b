//! The questions to the service, and its answers.

use std::{sync::Arc, time::Duration};

use libp2p_identity::PeerId;
use libp2p_websocket_star::rendezvous::{Join, Token};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The longest lifetime and the longest retry time of an answer.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The number of bytes that are kept of the reason for a refusal.
const MAX_REASON: usize = 200;

/// All that is known about a join, as JSON.
pub struct Question {
    body: String,
    key: Key,
}

/// Identifies a question: a hash of its text. The text may contain a token, which cannot be found out from the hash.
pub type Key = [u8; 32];

impl Question {
    /// Creates the question about a join; with its token, if the connection to the service is private.
    pub fn of(join: &Join, with_token: bool) -> Self {
        let mut json = json!({
            "peer": join.peer().map(PeerId::to_base58),
            "proved": join.is_proved(),
            "address": join.address(),
            "client": join.client().to_string(),
            "host": join.host(),
        });
        let token = join.token().filter(|_| with_token).map(Token::reveal);
        for (name, value) in [("tenant", join.tenant()), ("token", token)] {
            if let (Some(value), Value::Object(fields)) = (value, &mut json) {
                fields.insert(name.to_owned(), value.into());
            }
        }
        let body = json.to_string();
        Self {
            key: Sha256::digest(&body).into(),
            body,
        }
    }

    pub fn body(&self) -> &str {
        &self.body
    }

    pub fn key(&self) -> &Key {
        &self.key
    }
}

/// The reason why a response is not a valid answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("the answer is not JSON")]
    Json,
    #[error("the field \"allow\" of the answer is neither true nor false")]
    Allow,
    #[error("the field \"{0}\" of the answer is not valid")]
    Field(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub allow: bool,
    /// The reason that the peer is given, if it is not let in.
    pub reason: Arc<str>,
    /// The time after which the peer may try again.
    pub retry_after: Option<Duration>,
    /// The time for which the answer is valid.
    pub ttl: Duration,
}

impl Answer {
    /// Parses an answer. A field that is `null` counts as missing, and unknown fields are ignored.
    ///
    /// # Errors
    /// If the body is not JSON, `allow` is not a boolean, or another known field has the wrong type.
    pub fn parse(body: &[u8]) -> Result<Self, AnswerError> {
        let json: Value = serde_json::from_slice(body).map_err(|_| AnswerError::Json)?;
        let allow = field(&json, "allow").and_then(Value::as_bool);
        let reason = match field(&json, "reason") {
            None => "",
            Some(reason) => reason.as_str().ok_or(AnswerError::Field("reason"))?,
        };
        Ok(Self {
            allow: allow.ok_or(AnswerError::Allow)?,
            reason: beginning(reason, MAX_REASON).into(),
            retry_after: seconds(&json, "retry_after_s")?,
            ttl: seconds(&json, "ttl_s")?.unwrap_or_default(),
        })
    }
}

/// Returns the value of a field, unless it is `null`.
fn field<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    json.get(name).filter(|value| !value.is_null())
}

/// Reads a number of seconds, which need not be whole. More than a day counts as a day.
fn seconds(json: &Value, name: &'static str) -> Result<Option<Duration>, AnswerError> {
    let Some(value) = field(json, name) else {
        return Ok(None);
    };
    let number = value.as_f64().filter(|number| *number >= 0.0);
    let number = number.ok_or(AnswerError::Field(name))?;
    Ok(Some(Duration::from_secs_f64(
        number.min(LONGEST.as_secs_f64()),
    )))
}

fn beginning(text: &str, max: usize) -> &str {
    let mut ends = (0..=max.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::*;

    #[test]
    fn an_answer_says_plainly_what_is_to_be_done() {
        let answer = |allow, reason: &str, retry_after, ttl| {
            Ok(Answer {
                allow,
                reason: reason.into(),
                retry_after,
                ttl,
            })
        };
        let seconds = Duration::from_secs;
        let parse = |text: &str| Answer::parse(text.as_bytes());
        let now = Duration::ZERO;
        assert_eq!(parse(r#"{"allow":true}"#), answer(true, "", None, now));
        let all = r#" {"allow":false,"reason":"late","retry_after_s":90,"ttl_s":1.5,"x":[]} "#;
        let ttl = Duration::from_millis(1500);
        assert_eq!(parse(all), answer(false, "late", Some(seconds(90)), ttl));
        let nulls = r#"{"allow":true,"reason":null,"retry_after_s":null,"ttl_s":null}"#;
        assert_eq!(parse(nulls), answer(true, "", None, now));
        let negative_zero = r#"{"allow":true,"ttl_s":-0,"retry_after_s":-0.0}"#;
        assert_eq!(parse(negative_zero), answer(true, "", Some(now), now));
        let long = r#"{"allow":true,"ttl_s":1e300,"retry_after_s":86401}"#;
        assert_eq!(parse(long), answer(true, "", Some(LONGEST), LONGEST));
    }

    #[test]
    fn whatever_else_is_no_answer() {
        let deep = "[".repeat(10_000);
        for (text, error) in [
            ("", AnswerError::Json),
            ("true", AnswerError::Allow),
            ("{", AnswerError::Json),
            ("{}", AnswerError::Allow),
            (&deep, AnswerError::Json),
            (r#"{"allow":true} {"allow":false}"#, AnswerError::Json),
            (r#"{"allow":"true"}"#, AnswerError::Allow),
            (r#"{"allow":1}"#, AnswerError::Allow),
            (r#"{"allow":null}"#, AnswerError::Allow),
            (r#"{"Allow":true}"#, AnswerError::Allow),
            (r#"[{"allow":true}]"#, AnswerError::Allow),
            (r#"{"allow":true,"reason":7}"#, AnswerError::Field("reason")),
            (r#"{"allow":true,"ttl_s":"1"}"#, AnswerError::Field("ttl_s")),
            (r#"{"allow":true,"ttl_s":-1}"#, AnswerError::Field("ttl_s")),
            (r#"{"allow":true,"ttl_s":1e999}"#, AnswerError::Json),
            (r#"{"allow":true,"ttl_s":NaN}"#, AnswerError::Json),
            (
                r#"{"allow":false,"retry_after_s":[]}"#,
                AnswerError::Field("retry_after_s"),
            ),
        ] {
            assert_eq!(Answer::parse(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(Answer::parse(b"\xff"), Err(AnswerError::Json));
    }

    #[test]
    fn of_a_long_reason_the_beginning_is_kept() {
        let text = format!(r#"{{"allow":false,"reason":"a{}"}}"#, "é".repeat(10_000));
        let answer = Answer::parse(text.as_bytes()).expect("an answer");
        assert_eq!(answer.reason.len(), MAX_REASON - 1);
        assert_eq!(beginning("ab", 5), "ab");
        assert_eq!(beginning("é", 1), "");
    }

    #[test]
    fn all_that_is_known_is_asked_and_makes_another_question() {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let plain = Join::new(peer, [192, 0, 2, 1].into());
        let token = |text: &str| text.parse::<Token>().expect("a token");
        let joins = [
            plain.clone(),
            plain.clone().without_proof(),
            plain.clone().with_address("/ip4/192.0.2.9"),
            plain.clone().with_host("star.example"),
            plain.clone().with_tenant("blue"),
            plain.clone().with_token(token("one")),
            plain.clone().with_token(token("two")),
            Join::new(peer, [192, 0, 2, 2].into()),
        ];
        let keys: std::collections::HashSet<_> = joins
            .iter()
            .map(|join| *Question::of(join, true).key())
            .collect();
        assert_eq!(keys.len(), joins.len());
        let all = plain.with_host("star.example").with_tenant("blue");
        let all = all.with_token(token("one"));
        let asked: Value = serde_json::from_str(Question::of(&all, true).body()).expect("JSON");
        let expected = json!({
            "peer": peer.to_base58(),
            "proved": true,
            "address": "",
            "client": "192.0.2.1",
            "host": "star.example",
            "tenant": "blue",
            "token": "one",
        });
        assert_eq!(asked, expected);
        let private = Question::of(&all, false);
        assert!(!private.body().contains("token"), "{}", private.body());
    }
}
