//! Writes the bans down for the next start, one write at a time.
//!
//! Only callers that want to know the result wait for a write. During a write, only the newest set of bans is
//! remembered for the next one. So a write that hangs delays no change, and no queue builds up behind it. The writer
//! has a thread of its own, because a runtime that ends would wait for a blocking task.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use libp2p_identity::PeerId;
use tokio::sync::watch;

use crate::words::Words;

/// Writes down all banned peers for the next start.
pub(in crate::rendezvous) type Keep = dyn Fn(&[PeerId]) -> io::Result<()> + Send + Sync;

#[derive(Default)]
struct State {
    /// The newest set of bans, and its number.
    newest: Arc<[PeerId]>,
    number: u64,
    /// The number of the last set that was written or failed, and the error if it failed.
    done: u64,
    error: Option<String>,
    is_writing: bool,
}

struct Shared {
    keep: Box<Keep>,
    state: watch::Sender<State>,
}

/// A handle to the writer. Clones share the writer.
#[derive(Clone)]
pub(in crate::rendezvous) struct Keeper(Arc<Shared>);

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    pub(in crate::rendezvous) fn new(keep: Box<Keep>) -> Self {
        let state = watch::Sender::new(State::default());
        Self(Arc::new(Shared { keep, state }))
    }

    /// Has this set written in place of all earlier ones, and returns its number. Does not wait for the write.
    pub(in crate::rendezvous) fn write(&self, newest: Vec<PeerId>) -> u64 {
        let (mut number, mut begins) = (0, false);
        self.0.state.send_modify(|state| {
            state.newest = newest.into();
            state.number += 1;
            number = state.number;
            begins = !std::mem::replace(&mut state.is_writing, true);
        });
        if begins {
            self.begin();
        }
        number
    }

    /// Writes the newest set again if the last write failed.
    pub(in crate::rendezvous) fn try_again(&self) {
        let begins = self.0.state.send_if_modified(|state| {
            let begins = state.error.is_some() && !state.is_writing;
            state.is_writing |= begins;
            begins
        });
        if begins {
            self.begin();
        }
    }

    /// Returns whether the last set could not be written.
    pub(in crate::rendezvous) fn has_failed(&self) -> bool {
        self.0.state.borrow().error.is_some()
    }

    /// Waits until this set or a newer one is written, or has failed. Cancel safe.
    pub(in crate::rendezvous) async fn written(&self, number: u64) -> Result<(), String> {
        let mut state = self.0.state.subscribe();
        let done = state.wait_for(|state| state.done >= number).await;
        // This fails only without a sender, and `self` holds the sender.
        let error = done.map_or(None, |state| state.error.clone());
        error.map_or(Ok(()), Err)
    }

    /// Waits until nothing is being written. Cancel safe.
    pub(in crate::rendezvous) async fn rested(&self) {
        let mut state = self.0.state.subscribe();
        // This cannot fail: `self` holds the sender.
        let _ = state.wait_for(|state| !state.is_writing).await;
    }

    fn begin(&self) {
        let keeper = self.clone();
        let writer = thread::Builder::new().name("bans".to_owned());
        let begun = writer.spawn(move || while keeper.write_newest() {});
        if let Err(error) = begun {
            let newest = self.0.state.borrow().number;
            // A newer set waits for the next call of `try_again`.
            self.done(newest, Err(error));
            self.0.state.send_modify(|state| state.is_writing = false);
        }
    }

    /// Writes the newest set. Returns whether there is a newer one by then.
    fn write_newest(&self) -> bool {
        let (number, newest) = {
            let state = self.0.state.borrow();
            (state.number, state.newest.clone())
        };
        let written = catch_unwind(AssertUnwindSafe(|| (self.0.keep)(&newest)));
        let written = written.unwrap_or_else(|_| Err(io::Error::other("saving the bans panicked")));
        self.done(number, written)
    }

    /// Notes the result for a set. Returns whether the writer has to go on with a newer one.
    fn done(&self, number: u64, written: io::Result<()>) -> bool {
        let error = written.err().map(|error| Words(error).to_string());
        let (mut before, mut goes_on) = (None, false);
        self.0.state.send_modify(|state| {
            state.done = number;
            before = std::mem::replace(&mut state.error, error.clone());
            goes_on = state.number > number;
            state.is_writing = goes_on;
        });
        // A failed write is tried again and again, but each error is logged once only.
        match (error, before) {
            (Some(error), before) if before.as_ref() != Some(&error) => {
                tracing::error!(error, "the bans could not be saved");
            }
            (None, Some(_)) => tracing::info!("the bans are saved again"),
            _ => {}
        }
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn while_one_set_is_written_only_the_newest_waits() {
        let (may_go_on, gate) = mpsc::sync_channel::<()>(1);
        let (seen, sets) = mpsc::sync_channel(9);
        let gate = std::sync::Mutex::new(gate);
        let keeper = Keeper::new(Box::new(move |peers| {
            seen.send(peers.len()).expect("looked at");
            gate.lock().expect("no panic").recv().expect("the test");
            Ok(())
        }));
        let peers: Vec<_> = (0..100).map(|_| PeerId::random()).collect();
        keeper.write(peers[..1].to_vec());
        // The writer is busy now.
        assert_eq!(sets.recv().expect("a set"), 1);
        for number in 2..=100 {
            assert_eq!(keeper.write(peers[..number].to_vec()), number as u64);
        }
        may_go_on.send(()).expect("a writer");
        assert_eq!(keeper.written(1).await, Ok(()));
        may_go_on.send(()).expect("a writer");
        assert_eq!(keeper.written(100).await, Ok(()));
        keeper.rested().await;
        assert_eq!(sets.try_iter().collect::<Vec<_>>(), [100]);
    }

    #[tokio::test]
    async fn what_failed_is_tried_again_and_what_did_not_is_left() {
        let (answer, answers) = mpsc::sync_channel::<Option<&str>>(9);
        let answers = std::sync::Mutex::new(answers);
        let keeper = Keeper::new(Box::new(move |_| {
            let answer = answers.lock().expect("no panic").try_recv();
            match answer.expect("one answer for each call") {
                None => Ok(()),
                Some("a panic") => std::panic::resume_unwind(Box::new(())),
                Some(error) => Err(io::Error::other(error)),
            }
        }));
        for error in ["no room", "a panic"] {
            answer.send(Some(error)).expect("a writer");
        }
        let number = keeper.write(vec![PeerId::random()]);
        assert_eq!(keeper.written(number).await, Err("no room".to_owned()));
        assert!(keeper.has_failed());
        keeper.try_again();
        keeper.rested().await;
        assert_eq!(
            keeper.written(number).await,
            Err("saving the bans panicked".to_owned())
        );
        answer.send(None).expect("a writer");
        keeper.try_again();
        keeper.rested().await;
        assert_eq!(keeper.written(number).await, Ok(()));
        assert!(!keeper.has_failed());
        // Nothing is left to write: another call of the writer would find no answer and panic.
        keeper.try_again();
        keeper.rested().await;
        assert!(!keeper.has_failed());
    }
}
