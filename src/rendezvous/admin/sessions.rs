//! The operator's sessions. No IO.

use std::{
    fmt,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// How long a session lasts, whatever is done in it.
pub(super) const AGE: Duration = Duration::from_secs(12 * 60 * 60);
/// The maximum number of sessions. A further one ends the oldest.
const MOST: usize = 16;

/// The key that a session is looked up by. It is a hash of the id, so the time that a lookup takes reveals nothing
/// about the id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SessionKey([u8; 32]);

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

impl SessionKey {
    fn of(id: &str) -> Self {
        Self(Sha256::digest(id).into())
    }
}

/// A session that has not ended.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) key: SessionKey,
    /// A secret that each form of the session's pages contains, and that no other page knows.
    pub(super) form: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Returns whether a form comes from one of the session's pages.
    pub(super) fn has_made(&self, form: &[u8]) -> bool {
        self.form.as_bytes().ct_eq(form).into()
    }
}

#[derive(Debug)]
struct Entry {
    session: Session,
    ends: Instant,
    /// The message at the top of the session's next page.
    news: Option<String>,
}

/// All sessions, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Sessions(Vec<Entry>);

impl Sessions {
    /// Begins a session and returns its id.
    pub(super) fn begin(&mut self, now: Instant) -> String {
        self.forget_ended(now);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        let id = hex::encode(rand::random::<[u8; 32]>());
        self.0.push(Entry {
            session: Session {
                key: SessionKey::of(&id),
                form: hex::encode(rand::random::<[u8; 16]>()),
            },
            ends: now + AGE,
            news: None,
        });
        id
    }

    /// Returns the session with this id.
    pub(super) fn find(&mut self, id: &str, now: Instant) -> Option<Session> {
        let entry = self.entry(&SessionKey::of(id), now)?;
        Some(entry.session.clone())
    }

    pub(super) fn goes_on(&mut self, key: &SessionKey, now: Instant) -> bool {
        self.entry(key, now).is_some()
    }

    /// Sets the message at the top of the session's next page.
    pub(super) fn tell(&mut self, key: &SessionKey, news: String, now: Instant) {
        if let Some(entry) = self.entry(key, now) {
            entry.news = Some(news);
        }
    }

    /// Takes the message for the session's next page. It is shown once.
    pub(super) fn take_news(&mut self, key: &SessionKey, now: Instant) -> Option<String> {
        self.entry(key, now)?.news.take()
    }

    pub(super) fn end(&mut self, key: &SessionKey) {
        self.0.retain(|entry| entry.session.key != *key);
    }

    fn entry(&mut self, key: &SessionKey, now: Instant) -> Option<&mut Entry> {
        self.forget_ended(now);
        let mut entries = self.0.iter_mut();
        entries.find(|entry| entry.session.key == *key)
    }

    fn forget_ended(&mut self, now: Instant) {
        self.0.retain(|entry| now < entry.ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lasts_for_its_time_and_is_found_by_its_id_only() {
        let mut sessions = Sessions::default();
        let start = Instant::now();
        let (one, other) = (sessions.begin(start), sessions.begin(start));
        assert_eq!(one.len(), 64);
        let session = sessions.find(&one, start).expect("it goes on");
        assert_ne!(
            session.form,
            sessions.find(&other, start).expect("two").form
        );
        assert!(session.has_made(session.form.as_bytes()));
        for form in ["", "x", &session.form[1..], &one] {
            assert!(!session.has_made(form.as_bytes()), "{form}");
        }
        for id in ["", "x", &one[1..], &session.form] {
            assert!(sessions.find(id, start).is_none(), "{id}");
        }
        let late = start + AGE - Duration::from_millis(1);
        assert!(sessions.goes_on(&session.key, late));
        sessions.tell(&session.key, "done".to_owned(), late);
        assert_eq!(
            sessions.take_news(&session.key, late).as_deref(),
            Some("done")
        );
        assert_eq!(sessions.take_news(&session.key, late), None);
        assert!(!sessions.goes_on(&session.key, start + AGE));
        assert!(sessions.0.is_empty(), "what has ended is forgotten");
    }

    #[test]
    fn one_too_many_ends_the_oldest() {
        let mut sessions = Sessions::default();
        let start = Instant::now();
        let ids: Vec<_> = (0..=MOST).map(|_| sessions.begin(start)).collect();
        assert!(sessions.find(&ids[0], start).is_none());
        assert!(ids[1..].iter().all(|id| sessions.find(id, start).is_some()));
        let key = sessions.find(&ids[1], start).expect("it goes on").key;
        sessions.end(&key);
        assert!(sessions.find(&ids[1], start).is_none());
    }
}
