//! Compares what clients show with the admin token, and limits the wrong guesses.
//!
//! An origin may be wrong 10 times at once, and then once a second, whatever its neighbours do. All origins together
//! are wrong 640 times a second at most: each comparison waits for its turn, the turns go round among origins, and a
//! wrong guess holds its turn for 100 ms. So a client that knows the token waits for at most one guess of each other
//! origin, and not for all the guesses that they send.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    rendezvous::{access::Line, origin::Claimant, rate::Rate, rates::Rates},
    runtime::now,
    token::Token,
};

/// How many times an origin may be wrong each second, and how many times at once, for each unit of its weight.
const PER_SECOND: u32 = 1;
const AT_ONCE: u32 = 10;
/// The number of comparisons in progress at one time, and how long a wrong one takes.
const TURNS: usize = 64;
const PAUSE: Duration = Duration::from_millis(100);

/// Returns the claimant without the limit of its group, so that only its own guesses count. There is no limit for a
/// whole IPv6 /48, because neighbours could then lock out the operator. The limit for all origins together still holds.
fn alone(who: &Claimant) -> Claimant {
    Claimant {
        group_limit: u32::MAX,
        ..*who
    }
}

/// The admin token, of which only a hash is kept.
#[derive(Clone)]
pub(in crate::rendezvous) struct Secret([u8; 32]);

impl Secret {
    pub(in crate::rendezvous) fn new(token: &Token) -> Self {
        Self(Sha256::digest(token.reveal()).into())
    }

    /// Compares in constant time: whole hashes are compared, so the time that it takes reveals nothing.
    fn is(&self, shown: &[u8]) -> bool {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        self.0.ct_eq(&shown).into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The result of a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rendezvous) enum Guessed {
    Right,
    Wrong,
    /// The guess was not compared, because the origin was wrong too often.
    TooOften,
}

#[derive(Debug)]
pub(in crate::rendezvous) struct Guesses {
    secret: Secret,
    wrong: Mutex<Rates>,
    line: Arc<Line>,
}

impl Guesses {
    pub(in crate::rendezvous) fn new(secret: Secret) -> Self {
        Self {
            secret,
            wrong: Mutex::new(Rates::new(Rate::new(PER_SECOND, AT_ONCE))),
            line: Line::new(TURNS),
        }
    }

    /// Compares what a client shows. A guess that was compared counts, even if the client does not wait for the answer.
    pub(in crate::rendezvous) async fn guess(&self, shown: &[u8], who: &Claimant) -> Guessed {
        if !self.may_guess(who) {
            return Guessed::TooOften;
        }
        let mut turn = self.line.enter(who);
        poll_fn(|cx| turn.poll(cx)).await;
        let guessed = self.compare(shown, who);
        if guessed == Guessed::Wrong {
            // The pause goes on in its own task when the client hangs up. Otherwise a client that gets no answer at
            // once would know that it was wrong, and could hang up to free its turn.
            let pause = tokio::spawn(async move {
                tokio::time::sleep(PAUSE).await;
                drop(turn);
            });
            // This fails only if the runtime ends.
            let _ = pause.await;
        }
        guessed
    }

    fn may_guess(&self, who: &Claimant) -> bool {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.may_spend(&alone(who), now())
    }

    /// Checks the limit and compares, both under one lock, so that no other guess comes in between.
    fn compare(&self, shown: &[u8], who: &Claimant) -> Guessed {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let who = &alone(who);
        match wrong.may_spend(who, now()) {
            false => Guessed::TooOften,
            true if self.secret.is(shown) => Guessed::Right,
            true => {
                wrong.try_spend(who, now());
                Guessed::Wrong
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::rendezvous::origin::Weights;

    const TOKEN: &str = "a-token-that-nobody-guesses";

    fn guesses() -> Guesses {
        Guesses::new(Secret::new(&TOKEN.parse().expect("a token")))
    }

    fn claimant(text: &str) -> Claimant {
        Weights::default().claimant(text.parse().expect("an address"))
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_whole_token_is_right() {
        let guesses = guesses();
        for (n, shown) in ["", "x", &TOKEN[1..], "a-token-that-nobody-guesses2"]
            .into_iter()
            .enumerate()
        {
            let who = claimant(&format!("192.0.2.{n}"));
            let guessed = guesses.guess(shown.as_bytes(), &who).await;
            assert_eq!(guessed, Guessed::Wrong, "{shown}");
        }
        let guessed = guesses.guess(TOKEN.as_bytes(), &claimant("::1")).await;
        assert_eq!(guessed, Guessed::Right);
        assert!(!format!("{guesses:?}").contains("nobody"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_is_wrong_so_often_and_right_as_often_as_it_likes() {
        let guesses = guesses();
        let who = claimant("192.0.2.1");
        for _ in 0..100 {
            let guessed = guesses.guess(TOKEN.as_bytes(), &who).await;
            assert_eq!(guessed, Guessed::Right);
        }
        let mut wrong = 0;
        for _ in 0..1000 {
            match guesses.guess(b"x", &who).await {
                Guessed::Wrong => wrong += 1,
                other => assert_eq!(other, Guessed::TooOften),
            }
        }
        // The first 10 take a second together, in which the origin may be wrong once more.
        assert_eq!(wrong, 11);
        let guessed = guesses.guess(TOKEN.as_bytes(), &who).await;
        assert_eq!(
            guessed,
            Guessed::TooOften,
            "the right token is refused like a guess"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        let guessed = guesses.guess(TOKEN.as_bytes(), &who).await;
        assert_eq!(guessed, Guessed::Right);
    }

    #[tokio::test(start_paused = true)]
    async fn neighbours_in_a_48_lock_nobody_out() {
        let guesses = guesses();
        for n in 1..=50 {
            let who = claimant(&format!("2001:db8:0:{n}::1"));
            let all = join_all((0..20).map(|_| guesses.guess(b"x", &who))).await;
            let wrong = all.into_iter().filter(|g| *g == Guessed::Wrong).count();
            assert!((10..=12).contains(&wrong), "{n}: {wrong}");
        }
        let operator = claimant("2001:db8:0:ffff::1");
        let guessed = guesses.guess(TOKEN.as_bytes(), &operator).await;
        assert_eq!(guessed, Guessed::Right);
        let neighbour = guesses.guess(b"x", &claimant("2001:db8:0:50::2")).await;
        assert_eq!(neighbour, Guessed::TooOften, "a /64 is one");
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_at_once_count_as_those_one_after_another() {
        let guesses = guesses();
        let who = claimant("192.0.2.1");
        let all = join_all((0..1000).map(|_| guesses.guess(b"x", &who))).await;
        let wrong = all.into_iter().filter(|g| *g == Guessed::Wrong).count();
        assert!((10..=12).contains(&wrong), "{wrong}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_hangs_up_has_guessed_all_the_same() {
        let guesses = guesses();
        let start = now();
        for n in 0..TURNS {
            let who = claimant(&format!("192.0.2.{n}"));
            let guess = guesses.guess(b"x", &who);
            let answered = tokio::time::timeout(Duration::from_millis(1), guess).await;
            assert!(answered.is_err(), "{n}");
        }
        let guessed = guesses.guess(TOKEN.as_bytes(), &claimant("::1")).await;
        assert_eq!(guessed, Guessed::Right);
        assert!(now() - start >= PAUSE, "no turn was free before");
        tokio::time::sleep(PAUSE * 2).await;
        let who = claimant("198.51.100.1");
        for _ in 0..AT_ONCE {
            let guess = guesses.guess(b"x", &who);
            let _ = tokio::time::timeout(Duration::from_millis(1), guess).await;
        }
        let guessed = guesses.guess(b"x", &who).await;
        assert_eq!(guessed, Guessed::TooOften);
    }

    #[tokio::test(start_paused = true)]
    async fn all_together_are_wrong_so_often_and_the_operator_gets_in_meanwhile() {
        let guesses = guesses();
        let start = now();
        let strangers = join_all((0..5000).map(|n: u32| {
            let who = claimant(&format!("10.0.{}.{}", n >> 8, n & 255));
            let guesses = &guesses;
            async move {
                for _ in 0..3 {
                    guesses.guess(b"x", &who).await;
                }
                now() - start
            }
        }));
        let operator = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let guessed = guesses.guess(TOKEN.as_bytes(), &claimant("::1")).await;
            assert_eq!(guessed, Guessed::Right);
            now() - start
        };
        let (strangers, operator) = futures::future::join(strangers, operator).await;
        let last = strangers.into_iter().max().expect("some");
        // 15,000 guesses at 640 a second, and at most one round of 5,000 before the operator's.
        assert!(last >= Duration::from_secs(23), "{last:?}");
        assert!(operator < Duration::from_secs(9), "{operator:?}");
    }
}
