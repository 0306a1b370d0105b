//! The changes of the page, as server-sent events.
//!
//! A listener holds the next event and no queue. So a slow listener misses seconds, and a listener that reads nothing
//! is dropped by its connection. A listener ends with its session, and with the server.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, watch};

use super::{
    Panel,
    look::Live,
    sessions::{AGE, SessionKey},
};
use crate::{rendezvous::tenants::Tenants, runtime::now};

/// The beginning of the stream. It says how long a browser waits before it connects again, in milliseconds.
const RETRY: &str = "retry: 2000\n\n";
/// The end of the stream when the session is over.
const OVER: &str = "event: over\ndata: \n\n";

/// A client that listens to the events.
struct Listener {
    panel: Arc<Panel>,
    tenants: Arc<Tenants>,
    /// The session that the client was let in with; `None` if it has shown the token.
    session: Option<SessionKey>,
    /// The time at which a client that has shown the token has to show it again.
    ends: Instant,
    live: watch::Receiver<Arc<Live>>,
    /// The number of the parts beside the figures that the client got last.
    number: u64,
    state: State,
    _place: OwnedSemaphorePermit,
    /// Keeps the connection open beyond the age limit of connections.
    _lasting: OwnedMutexGuard<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begins,
    GoesOn,
    IsOver,
}

/// Returns the events for one listener.
pub(super) fn listen(
    panel: Arc<Panel>,
    tenants: Arc<Tenants>,
    session: Option<SessionKey>,
    place: OwnedSemaphorePermit,
    lasting: OwnedMutexGuard<()>,
) -> BoxStream<'static, Bytes> {
    let mut live = panel.live.subscribe();
    let number = live.borrow_and_update().number;
    let listener = Listener {
        panel,
        tenants,
        session,
        ends: now() + AGE,
        live,
        number,
        state: State::Begins,
        _place: place,
        _lasting: lasting,
    };
    let events = stream::unfold(listener, |mut listener| async {
        let next = listener.next().await?;
        Some((next, listener))
    });
    events.boxed()
}

impl Listener {
    async fn next(&mut self) -> Option<Bytes> {
        match self.state {
            State::IsOver => return None,
            State::Begins => {
                self.state = State::GoesOn;
                let live = Live::new(&self.panel.look(&self.tenants).await, self.number);
                let all = [RETRY.as_bytes(), &live.figures, &live.others];
                return Some(all.concat().into());
            }
            State::GoesOn => {}
        }
        tokio::select! {
            changed = self.live.changed() => changed.ok()?,
            () = self.tenants.house().stopping() => return None,
        }
        if !self.may_go_on() {
            self.state = State::IsOver;
            return Some(Bytes::from_static(OVER.as_bytes()));
        }
        let live = self.live.borrow_and_update().clone();
        if live.number == self.number {
            return Some(live.figures.clone());
        }
        self.number = live.number;
        Some([&*live.figures, &*live.others].concat().into())
    }

    fn may_go_on(&self) -> bool {
        match &self.session {
            Some(key) => self.panel.sessions().goes_on(key, now()),
            None => now() < self.ends,
        }
    }
}
