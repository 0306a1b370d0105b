//! The life of a link: open, serve, lose, wait, open again, until nothing uses it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    sync::atomic::Ordering::Relaxed,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures::{
    channel::mpsc,
    future::{Either, select},
};
use libp2p_core::transport::ListenerId;
use web_time::Instant;

use super::{
    Command, Context, LinkEvent, Mailbox,
    active::{Active, Lost},
    backoff::Backoff,
    socket,
    users::{Dial, Listener, Users},
};
use crate::{
    address::{Rendezvous, StarAddr},
    error::{DialError, Error, JoinError, LinkError},
    protocol::event::DialId,
    runtime::{Changed, Changes, Timer, now},
    sync::lock,
};

/// The task of one link.
pub(super) struct Driver {
    pub(super) rendezvous: Rendezvous,
    pub(super) url: Arc<str>,
    routes: socket::Routes,
    pub(super) context: Arc<Context>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) users: Users,
    pub(super) events: Events,
    pub(super) changes: Changes,
    backoff: Backoff,
}

/// The reason why an attempt to open the link was abandoned.
enum Interrupted {
    Unused,
    /// The network has changed.
    Changed,
}

/// The effect of a command on the open link.
pub(super) enum Change {
    Listen(StarAddr),
    Leave(StarAddr),
    Dial(DialId),
    CancelDial(DialId),
    None,
}

impl Driver {
    pub(super) fn new(
        rendezvous: Rendezvous,
        context: Arc<Context>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let routes = lock(&context.routes).take(&rendezvous);
        let backoff = Backoff::new(context.backoff);
        Self {
            url: rendezvous.to_string().into(),
            rendezvous,
            routes,
            events: Events::new(context.events.clone()),
            context,
            mailbox,
            users: Users::default(),
            changes: Changes::default(),
            backoff,
        }
    }

    pub(super) async fn run(mut self) {
        let mut wait = Duration::ZERO;
        while self.pause(wait).await {
            match self.open().await {
                None => return,
                #[cfg(target_arch = "wasm32")]
                Some(Err(error @ LinkError::NotAllowed(_))) => {
                    tracing::debug!(%error, "the browser does not allow the link");
                    self.not_allowed(&self.link_error(error));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "the link cannot be opened");
                    self.context.counts.links_failed.fetch_add(1, Relaxed);
                    self.lost(&self.link_error(error));
                }
                Some(Ok((ws, open))) => {
                    tracing::debug!("the link is open");
                    let host = self.routes.latest();
                    lock(&self.mailbox.standing).leads_to(host);
                    let since = now();
                    let active = Active::new(&mut self, ws, &open);
                    let error = match active.run().await {
                        Lost::Unused => return,
                        Lost::GaveWay => return self.gave_way(),
                        Lost::Resting => {
                            tracing::debug!(
                                "the link is closed until the rendezvous accepts joins again"
                            );
                            self.closed();
                            wait = Duration::ZERO;
                            continue;
                        }
                        Lost::Stale => self.join_error(JoinError::StaleChallenge),
                        Lost::Failed(error) => self.link_error(error),
                    };
                    tracing::debug!(%error, "the link is lost");
                    self.context.counts.links_lost.fetch_add(1, Relaxed);
                    self.closed();
                    self.backoff.was_up(now().saturating_duration_since(since));
                    self.lost(&error);
                }
            }
            wait = self.backoff.wait();
        }
    }

    /// Opens the link. Returns `None` if the link becomes unused or gives way meanwhile. Starts again when the network
    /// changes.
    async fn open(
        &mut self,
    ) -> Option<Result<(socket::WebSocket, crate::protocol::engine_io::Open), LinkError>> {
        let (rendezvous, context) = (self.rendezvous.clone(), self.context.clone());
        let mailbox = self.mailbox.clone();
        let permitted = |addresses: Vec<SocketAddr>| {
            let addresses = context.permitted(&rendezvous, addresses, |addr| addr.ip())?;
            mailbox.resolved(&addresses);
            Ok(addresses)
        };
        let mut routes = std::mem::take(&mut self.routes);
        let result = loop {
            let opening = pin!(socket::open(
                &rendezvous,
                &context.socket,
                &mut routes,
                permitted
            ));
            match select(opening, pin!(self.interrupted())).await {
                Either::Left((result, _)) => break Some(result),
                Either::Right((Interrupted::Unused, _)) => break None,
                Either::Right((Interrupted::Changed, _)) => {}
            }
        };
        self.routes = routes;
        result
    }

    /// Waits until an attempt to open the link that starts now should be abandoned.
    async fn interrupted(&mut self) -> Interrupted {
        // This limits the attempts when the network changes again and again.
        let earliest = now() + self.context.backoff.0;
        let (mut timer, mut changed) = (Timer::default(), false);
        poll_fn(|cx| {
            if self.poll_unused(cx).is_ready() {
                return Poll::Ready(Interrupted::Unused);
            }
            changed |= self.poll_changed(cx) == Some(Changed::Network);
            match changed {
                true => timer.poll(earliest, cx).map(|()| Interrupted::Changed),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Waits before the next attempt. A dial shortens the wait to the first wait of the back-off. So does a change of
    /// the network, or a page that is shown again. While the rendezvous has told all users of the link to come again
    /// later, nothing shortens the wait. Returns `false` if the link becomes unused or gives way meanwhile.
    async fn pause(&mut self, wait: Duration) -> bool {
        let start = now();
        let (latest, earliest) = (start + wait, start + wait.min(self.context.backoff.0));
        let (mut timer, mut changed) = (Timer::default(), false);
        poll_fn(|cx| {
            if self.poll_unused(cx).is_ready() {
                return Poll::Ready(false);
            }
            changed |= self.poll_changed(cx).is_some();
            let end = match self.users.dials.is_empty() && !changed {
                true => latest,
                false => earliest,
            };
            let end = self
                .users
                .rest_until(now())
                .map_or(end, |rested| rested.max(end));
            match end <= start {
                true => Poll::Ready(true),
                false => timer.poll(end, cx).map(|()| true),
            }
        })
        .await
    }

    /// Returns what has changed. A change resets the back-off.
    fn poll_changed(&mut self, cx: &mut TaskContext<'_>) -> Option<Changed> {
        let change = self.changes.poll(cx)?;
        self.backoff = Backoff::new(self.context.backoff);
        Some(change)
    }

    /// Handles commands while the link is not open. Becomes ready when nothing uses the link any more, or when it gives
    /// way.
    fn poll_unused(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.mailbox.register(cx.waker());
        while let Some(command) = self.mailbox.pop() {
            self.apply(command);
        }
        if self.mailbox.gives_way() {
            self.gave_way();
            return Poll::Ready(());
        }
        self.refuse_dials();
        self.poll_events(cx);
        let unused = self.users.is_empty() && self.events.is_empty();
        if unused && self.mailbox.close_if_idle(|| {}) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Fails the dials at once if the link would be opened only for them and the rendezvous has refused us.
    fn refuse_dials(&mut self) {
        let now = now();
        if self.users.dials.is_empty() || self.users.may_join(now) {
            return;
        }
        if let Some(error) = self.refusal(now) {
            let error = self.dial_error(DialError::Join(error));
            self.users.fail_dials(&error);
        }
    }

    /// Returns why the rendezvous does not let us join, if it is too early to ask again.
    pub(super) fn refusal(&self, now: Instant) -> Option<JoinError> {
        lock(&self.context.refusals).of(&self.rendezvous, now)
    }

    /// Passes events to the transport. Without a transport there are no listeners.
    pub(super) fn poll_events(&mut self, cx: &mut TaskContext<'_>) {
        if self.events.poll(cx) == Err(Disconnected) {
            self.users.listeners.clear();
        }
    }

    /// Applies a command, and returns the change for the open link.
    pub(super) fn apply(&mut self, command: Command) -> Change {
        match command {
            Command::Listen { listener, address } => {
                let state = Listener::new(address.clone(), self.context.backoff);
                self.users.listeners.push((listener, state));
                Change::Listen(address)
            }
            Command::Unlisten(listener) => match self.users.take_listener(listener) {
                Some(state) => Change::Leave(state.address),
                None => Change::None,
            },
            Command::Dial { dial_id, to, reply } => {
                if self.users.dials.len() >= self.context.connections {
                    // The dialer may have gone.
                    let _ = reply.send(Err(self.dial_error(DialError::TooMany)));
                    return Change::None;
                }
                self.users
                    .dials
                    .insert(dial_id.clone(), Dial::new(to, reply));
                Change::Dial(dial_id)
            }
            Command::CancelDial(dial_id) => {
                self.users.dials.remove(&dial_id);
                Change::CancelDial(dial_id)
            }
        }
    }

    /// Tells all users that the link is not open, or not open any more.
    fn lost(&mut self, error: &Error) {
        for (listener, state) in &mut self.users.listeners {
            let was_joined = state.left(now());
            let is_restart = matches!(
                error,
                Error::Link {
                    error: LinkError::Restarting,
                    ..
                }
            );
            self.events.push(match was_joined && is_restart {
                true => LinkEvent::Left(*listener),
                false => LinkEvent::Failed(*listener, error.clone()),
            });
        }
        self.users.fail_dials(error);
    }

    /// Tells all users that the link is not open and will not be.
    #[cfg(target_arch = "wasm32")]
    fn not_allowed(&mut self, error: &Error) {
        for (listener, _) in self.users.listeners.drain(..) {
            self.events.push(LinkEvent::Closed(listener, error.clone()));
        }
        self.lost(error);
    }

    /// Withdraws the announcements of this rendezvous.
    pub(super) fn closed(&self) {
        self.context.announcer.close(&self.rendezvous);
    }

    /// Tells all users that another link takes the place of this one.
    fn gave_way(&mut self) {
        let most = self.context.dial_links;
        self.lost(&Error::TooManyRendezvous { most });
    }

    fn link_error(&self, error: LinkError) -> Error {
        Error::Link {
            rendezvous: self.url.clone(),
            error,
        }
    }

    pub(super) fn dial_error(&self, error: DialError) -> Error {
        Error::Dial {
            rendezvous: self.url.clone(),
            error,
        }
    }

    pub(super) fn join_error(&self, error: JoinError) -> Error {
        Error::Join {
            rendezvous: self.url.clone(),
            error,
        }
    }
}

/// A task also ends if it panics or if its runtime ends. This notifies everything that waits for it.
impl Drop for Driver {
    fn drop(&mut self) {
        let routes = std::mem::take(&mut self.routes);
        lock(&self.context.routes).keep(&self.rendezvous, routes);
        let commands = self.mailbox.close_and_take();
        let asked = commands.iter().filter_map(|command| match command {
            Command::Listen { listener, .. } => Some(*listener),
            _ => None,
        });
        let untold = self.events.untold();
        let listeners = self.users.listeners.iter().map(|(listener, _)| *listener);
        let error = self.link_error(LinkError::TaskEnded);
        let orphans = listeners.chain(asked).chain(untold);
        self.context.orphans.add(orphans, &error);
    }
}

/// The error if the transport is gone.
#[derive(Debug, PartialEq, Eq)]
struct Disconnected;

/// The events on their way to the transport.
pub(super) struct Events {
    queue: VecDeque<LinkEvent>,
    sender: mpsc::Sender<LinkEvent>,
}

impl Events {
    fn new(sender: mpsc::Sender<LinkEvent>) -> Self {
        Self {
            queue: VecDeque::new(),
            sender,
        }
    }

    pub(super) fn push(&mut self, event: LinkEvent) {
        self.queue.push_back(event);
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the closed listeners of which the transport was not notified yet.
    fn untold(&self) -> impl Iterator<Item = ListenerId> {
        self.queue.iter().filter_map(|event| match event {
            LinkEvent::Closed(listener, _) => Some(*listener),
            _ => None,
        })
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Disconnected> {
        while !self.queue.is_empty() {
            match self.sender.poll_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => {
                    if let Some(event) = self.queue.pop_front() {
                        // `poll_ready` has just reserved room for it.
                        let _ = self.sender.start_send(event);
                    }
                }
                Poll::Ready(Err(_)) => {
                    self.queue.clear();
                    return Err(Disconnected);
                }
            }
        }
        Ok(())
    }
}
