//! A link's life: open it, serve it, lose it, wait, open it again; until nobody uses it.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures::{
    channel::{mpsc, oneshot},
    future::{Either, select},
};
use libp2p_core::transport::ListenerId;
use web_time::Instant;

use super::{
    Command, Context, LinkEvent, Mailbox,
    active::{Active, Lost},
    backoff::Backoff,
    lock, socket,
};
use crate::{
    address::{Rendezvous, StarAddr},
    connection::Connection,
    error::{DialError, Error, JoinError, LinkError},
    protocol::event::DialId,
    runtime::{Changed, Changes, Timer, now},
};

/// The longest that a rendezvous may have a listener wait before it joins again. It may say more; nobody is to be kept away
/// for good by what one answer says.
const LONGEST_OBEYED: Duration = Duration::from_secs(60 * 60);

/// The task of one link.
pub(super) struct Driver {
    pub(super) rendezvous: Rendezvous,
    url: Arc<str>,
    routes: socket::Routes,
    pub(super) context: Arc<Context>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) users: Users,
    pub(super) events: Events,
    pub(super) changes: Changes,
    backoff: Backoff,
}

/// Why an attempt to open the link was given up.
enum Interrupted {
    Unused,
    /// The network is another one now.
    Changed,
}

/// Those for whom the link is open, beside the connections.
#[derive(Default)]
pub(super) struct Users {
    pub(super) listeners: HashMap<ListenerId, Listener>,
    pub(super) dials: HashMap<DialId, Dial>,
}

pub(super) struct Listener {
    pub(super) address: StarAddr,
    /// Since when it is joined.
    joined: Option<Instant>,
    backoff: Backoff,
    /// When to try to join again on this link, after a refusal that may pass.
    pub(super) retry: Option<Instant>,
    /// When to try to join again at the earliest, on this link or another, because the rendezvous has said so.
    not_before: Option<Instant>,
}

impl Listener {
    fn new(address: StarAddr, backoff: (Duration, Duration)) -> Self {
        Self {
            address,
            joined: None,
            backoff: Backoff::new(backoff),
            retry: None,
            not_before: None,
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        self.joined.is_some()
    }

    pub(super) fn joined(&mut self, now: Instant) {
        self.joined.get_or_insert(now);
        self.not_before = None;
    }

    /// A link has opened: whether to join on it now. If it is too early, sets when to.
    pub(super) fn may_join(&mut self, now: Instant) -> bool {
        self.retry = self.rests_until(now);
        self.retry.is_none()
    }

    /// Until when it is not to join, because the rendezvous has said so.
    fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|until| *until > now)
    }

    /// It could not join, or is not joined any more: sets when to try again, unless that would not help.
    pub(super) fn failed(&mut self, now: Instant, error: &JoinError) {
        self.left(now);
        let wait = match error {
            // Two nodes with one key would take turns as fast as they can.
            JoinError::Displaced => self.backoff.longest_wait(),
            _ => self.backoff.wait(),
        };
        let told = error.retry_after().map(|after| after.min(LONGEST_OBEYED));
        let wait = told.map_or(wait, |told| told.max(wait));
        self.not_before = told.map(|_| now + wait);
        self.retry = (!error.is_permanent()).then(|| now + wait);
    }

    /// The waits begin anew after it was joined for long.
    fn left(&mut self, now: Instant) {
        if let Some(since) = self.joined.take() {
            self.backoff.was_up(now.saturating_duration_since(since));
        }
        self.retry = None;
    }
}

pub(super) struct Dial {
    pub(super) to: StarAddr,
    /// The spellings that the rendezvous was asked for.
    pub(super) asked_for: Vec<String>,
    /// Until when all of them are tried, from the time when the link was there.
    pub(super) deadline: Option<Instant>,
    pub(super) reply: oneshot::Sender<Result<Connection, Error>>,
}

/// What a command is to the open link.
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
        loop {
            if !self.rest().await {
                return;
            }
            match self.open().await {
                None => return,
                #[cfg(target_arch = "wasm32")]
                Some(Err(error @ LinkError::NotAllowed(_))) => {
                    tracing::debug!(%error, "the browser does not allow the link");
                    self.not_allowed(&self.link_error(error));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "the link cannot be opened");
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
                            tracing::debug!("the link is left until it may be used again");
                            self.closed();
                            continue;
                        }
                        Lost::Stale => self.join_error(JoinError::StaleChallenge),
                        Lost::Failed(error) => self.link_error(error),
                    };
                    tracing::debug!(%error, "the link is lost");
                    self.closed();
                    self.backoff.was_up(now().saturating_duration_since(since));
                    self.lost(&error);
                }
            }
            let wait = self.backoff.wait();
            if !self.pause(wait).await {
                return;
            }
        }
    }

    /// Waits as long as all who use the link have been told to come again later; `false` if it is given up meanwhile.
    async fn rest(&mut self) -> bool {
        let mut timer = Timer::default();
        poll_fn(|cx| {
            if self.poll_unused(cx).is_ready() {
                return Poll::Ready(false);
            }
            match self.users.rest_until(now()) {
                Some(until) => timer.poll(until, cx).map(|()| true),
                None => Poll::Ready(true),
            }
        })
        .await
    }

    /// Opens the link, unless it is given up meanwhile. When the network has changed, it begins anew.
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

    /// Waits until an attempt to open the link that begins now is of no use.
    async fn interrupted(&mut self) -> Interrupted {
        // Whoever changes networks without end does not try without end.
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

    /// Waits before the next attempt; a dial cuts the wait to the first of the back-off, and so does a change of the network.
    /// `false` if the link is given up meanwhile.
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
            timer.poll(end, cx).map(|()| true)
        })
        .await
    }

    /// What has changed. Waits begin anew then.
    fn poll_changed(&mut self, cx: &mut TaskContext<'_>) -> Option<Changed> {
        let change = self.changes.poll(cx)?;
        self.backoff = Backoff::new(self.context.backoff);
        Some(change)
    }

    /// Deals with commands while the link is not open. Ready when nobody uses it any more.
    fn poll_unused(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.mailbox.register(cx.waker());
        while let Some(command) = self.mailbox.pop() {
            self.apply(command);
        }
        if self.mailbox.gives_way() {
            self.gave_way();
            return Poll::Ready(());
        }
        self.poll_events(cx);
        let unused = self.users.is_empty() && self.events.is_empty();
        if unused && self.mailbox.close(|| {}) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Hands events to the transport. Without a transport there are no listeners.
    pub(super) fn poll_events(&mut self, cx: &mut TaskContext<'_>) {
        if self.events.poll(cx) == Err(Disconnected) {
            self.users.listeners.clear();
        }
    }

    /// Takes a command into account; the open link has to be told of the change.
    pub(super) fn apply(&mut self, command: Command) -> Change {
        match command {
            Command::Listen { listener, address } => {
                let state = Listener::new(address.clone(), self.context.backoff);
                self.users.listeners.insert(listener, state);
                Change::Listen(address)
            }
            Command::Unlisten(listener) => match self.users.listeners.remove(&listener) {
                Some(state) => Change::Leave(state.address),
                None => Change::None,
            },
            Command::Dial { dial_id, to, reply } => {
                if self.users.dials.len() >= self.context.connections {
                    // The dialler may have gone.
                    let _ = reply.send(Err(self.dial_error(DialError::TooMany)));
                    return Change::None;
                }
                let dial = Dial {
                    to,
                    asked_for: Vec::new(),
                    deadline: None,
                    reply,
                };
                self.users.dials.insert(dial_id.clone(), dial);
                Change::Dial(dial_id)
            }
            Command::CancelDial(dial_id) => {
                self.users.dials.remove(&dial_id);
                Change::CancelDial(dial_id)
            }
        }
    }

    /// Tells everybody that the link is not, or no longer, open.
    fn lost(&mut self, error: &Error) {
        for (listener, state) in &mut self.users.listeners {
            state.left(now());
            self.events
                .push(LinkEvent::Failed(*listener, error.clone()));
        }
        for (_, dial) in self.users.dials.drain() {
            // The dialler may have gone.
            let _ = dial.reply.send(Err(error.clone()));
        }
    }

    /// Tells everybody that the link is not open and will not be.
    #[cfg(target_arch = "wasm32")]
    fn not_allowed(&mut self, error: &Error) {
        for (listener, _) in self.users.listeners.drain() {
            self.events.push(LinkEvent::Closed(listener, error.clone()));
        }
        self.lost(error);
    }

    /// Nothing is announced here any more.
    pub(super) fn closed(&self) {
        self.context.announcer.close(&self.rendezvous);
    }

    /// Another link has the place of this one.
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

/// A task can also end because it panics, or because its runtime ends. Then nobody may be left waiting for it.
impl Drop for Driver {
    fn drop(&mut self) {
        let routes = std::mem::take(&mut self.routes);
        lock(&self.context.routes).keep(&self.rendezvous, routes);
        let commands = self.mailbox.shut();
        let asked = commands.iter().filter_map(|command| match command {
            Command::Listen { listener, .. } => Some(*listener),
            _ => None,
        });
        let untold = self.events.untold();
        let listeners = self.users.listeners.keys().copied();
        let error = self.link_error(LinkError::TaskEnded);
        let orphans = listeners.chain(asked).chain(untold);
        self.context.orphans.add(orphans, &error);
    }
}

impl Users {
    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.dials.is_empty()
    }

    /// Until when there is nothing to do on the link: all of its users are listeners that are to join later.
    pub(super) fn rest_until(&self, now: Instant) -> Option<Instant> {
        if !self.dials.is_empty() {
            return None;
        }
        let listeners = self.listeners.values();
        // What is not there is less than any time.
        listeners.map(|listener| listener.rests_until(now)).min()?
    }

    pub(super) fn listener_at(
        &mut self,
        address: &StarAddr,
    ) -> Option<(ListenerId, &mut Listener)> {
        let found = self
            .listeners
            .iter_mut()
            .find(|(_, state)| state.address == *address);
        found.map(|(listener, state)| (*listener, state))
    }
}

/// The transport is gone.
#[derive(Debug, PartialEq, Eq)]
struct Disconnected;

/// Events on their way to the transport.
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

    /// Listeners that are closed, and whose transport has not been told of it.
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
                        // Ready for it, as was just said.
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

#[cfg(test)]
mod tests {
    use super::{super::tests::at, *};

    #[test]
    fn the_waits_of_a_listener_begin_anew_after_it_was_joined_for_long() {
        let second = Duration::from_secs(1);
        let base = "dns4/star.example/tcp/443/wss";
        let address = at(base, libp2p_identity::PeerId::random());
        let mut listener = Listener::new(address, (second, second * 60));
        let error = JoinError::TimedOut(second);
        let mut now = Instant::now();
        let mut fail = |listener: &mut Listener, joined: Option<u32>| {
            if let Some(seconds) = joined {
                listener.joined(now);
                assert!(listener.is_joined());
                now += second * seconds;
            }
            listener.failed(now, &error);
            assert!(!listener.is_joined());
            listener.retry.expect("it tries again") - now
        };
        for _ in 0..10 {
            fail(&mut listener, None);
        }
        assert!(fail(&mut listener, Some(1)) >= second * 30, "it was short");
        assert!(fail(&mut listener, Some(600)) <= second);
        listener.failed(now, &JoinError::ChallengeDisabled);
        assert_eq!(listener.retry, None, "it would not help");
    }

    #[test]
    fn a_listener_waits_as_long_as_it_is_told_and_an_hour_at_most() {
        let second = Duration::from_secs(1);
        let address = at(
            "dns4/star.example/tcp/443/wss",
            libp2p_identity::PeerId::random(),
        );
        let mut listener = Listener::new(address, (second, second));
        let now = Instant::now();
        let refused = |after: u64| {
            JoinError::Refused(format!(
                "Not allowed now, again in {after} s: the office is closed"
            ))
        };
        for (told, waits) in [(90, 90), (3600, 3600), (100_000, 3600), (u64::MAX, 3600)] {
            listener.failed(now, &refused(told));
            assert_eq!(listener.retry, Some(now + second * waits));
            // On another link, too.
            listener.left(now);
            assert!(!listener.may_join(now + second * (waits - 1)));
            assert_eq!(listener.retry, Some(now + second * waits));
            assert!(listener.may_join(now + second * waits));
        }
        // Its own wait, if that is longer.
        listener.failed(now, &refused(0));
        assert!(listener.retry > Some(now + second / 3));
        listener.joined(now);
        listener.left(now);
        assert!(listener.may_join(now));
        let words = "Not allowed: not on the list".to_owned();
        listener.failed(now, &JoinError::Refused(words));
        assert_eq!(listener.retry, None);
    }
}
