//! Links: one WebSocket to each rendezvous, shared by the listeners, dials and connections there.
//!
//! A link is a task. It is spawned when the first listener or dial asks for its rendezvous, and ends with its last
//! user.
//!
//! * [`driver`] runs the life of a link: open, serve, lose, back off.
//! * [`active`] serves an open link.
//! * [`socket`] opens the WebSocket: natively over a TCP stream that [`connect`] opens, and in a browser with the
//!   browser's own WebSocket.
//! * [`alias`] finds the link that an address means, and [`lookups`] looks up names for it.
//! * [`routes`] keeps what is known of addresses from earlier links, and [`refusals`] which rendezvous have refused us.
//!   Both are [`kept`] from one link to the next.
//! * [`users`] are the listeners and dials for which a link is open.
//! * [`dial_links`] limits the links that dials open, and [`place`] makes dials wait for a place.
//!
//! Only this module opens sockets and spawns tasks.

mod active;
mod alias;
mod backoff;
#[cfg(not(target_arch = "wasm32"))]
mod connect;
mod dial_links;
mod driver;
mod global;
mod heartbeat;
mod kept;
mod lookups;
mod place;
mod refusals;
mod routes;
mod socket;
mod spellings;
mod users;

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    task::Waker,
    time::Duration,
};

use futures::{
    channel::{mpsc, oneshot},
    task::AtomicWaker,
};
use libp2p_core::transport::ListenerId;
use libp2p_identity::PeerId;
use tracing::Instrument as _;

#[cfg(feature = "direct")]
pub(crate) use self::global::embedded_v4;
#[cfg(all(feature = "probe", not(target_arch = "wasm32")))]
pub use self::socket::probe;
pub(crate) use self::{
    dial_links::Listening, refusals::Refusals, routes::KeptRoutes, socket::SocketConfig,
};
use self::{
    dial_links::{DialLinks, Standing},
    global::is_global,
    lookups::Lookups,
    spellings::Spellings,
};
use crate::{
    address::{Rendezvous, StarAddr},
    channel::{Channel, Ready},
    connection::Connection,
    discovery::Announcer,
    error::{Error, LinkError},
    metrics::Counts,
    protocol::{event::DialId, session::Settings, stream::Budgets},
    runtime::{Handle, now},
    sync::lock,
};

/// A request to a link.
#[derive(Debug)]
pub(crate) enum Command {
    Listen {
        listener: ListenerId,
        address: StarAddr,
    },
    Unlisten(ListenerId),
    Dial {
        dial_id: DialId,
        to: StarAddr,
        reply: oneshot::Sender<Result<Connection, Error>>,
    },
    /// The dial is cancelled: nothing waits for it any more.
    CancelDial(DialId),
}

/// An event that a link reports to the transport.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The listener's address is joined.
    Joined(ListenerId),
    /// The listener's address is not joined, or not joined any more. The link tries again.
    Failed(ListenerId, Error),
    /// The listener's address is not joined any more, which is not an error. The link tries again.
    Left(ListenerId),
    /// The listener's address cannot be joined, and trying again would not help.
    Closed(ListenerId, Error),
    /// A peer dialled us.
    Incoming {
        listener: ListenerId,
        from: PeerId,
        connection: Connection,
    },
}

/// The listeners whose link has ended without an event, because its task panicked or its runtime has ended. Unlike the
/// events of a link, these entries do not need room in the event channel.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    listeners: Mutex<Vec<(ListenerId, Error)>>,
    waker: AtomicWaker,
}

impl Orphans {
    fn add(&self, listeners: impl Iterator<Item = ListenerId>, error: &Error) {
        let orphans = listeners.map(|listener| (listener, error.clone()));
        lock(&self.listeners).extend(orphans);
        self.waker.wake();
    }

    /// Takes the next listener. If there is none, `waker` is woken when there is one.
    pub(crate) fn next(&self, waker: &Waker) -> Option<(ListenerId, Error)> {
        self.waker.register(waker);
        lock(&self.listeners).pop()
    }
}

/// The state that all links of a transport share.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) socket: SocketConfig,
    pub(crate) budgets: Budgets,
    pub(crate) connections: usize,
    pub(crate) known_peers: usize,
    pub(crate) dial_links: usize,
    pub(crate) allow_local: bool,
    pub(crate) listening: Listening,
    pub(crate) stall_timeout: Duration,
    pub(crate) hold_up_timeout: Duration,
    /// The maximum that a connection may pledge to a peer that knows credits, in bytes.
    pub(crate) window: u64,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) routes: Mutex<KeptRoutes>,
    pub(crate) refusals: Mutex<Refusals>,
    pub(crate) announcer: Announcer,
    pub(crate) events: mpsc::Sender<LinkEvent>,
    pub(crate) orphans: Orphans,
    pub(crate) counts: Arc<Counts>,
}

impl Context {
    /// Returns the addresses of a rendezvous to which a link may be opened.
    ///
    /// # Errors
    /// Returns [`LinkError::NotPublic`] if there are none. A stranger may have chosen the rendezvous, and must not be
    /// able to make us connect to hosts that only we can reach.
    fn permitted<A: Copy>(
        &self,
        rendezvous: &Rendezvous,
        addresses: Vec<A>,
        ip: impl Fn(A) -> IpAddr,
    ) -> Result<Vec<A>, LinkError> {
        if self.allow_local || self.listening.at(rendezvous) {
            return Ok(addresses);
        }
        let first = addresses.first().copied();
        let public: Vec<_> = addresses
            .into_iter()
            .filter(|address| is_global(ip(*address)))
            .collect();
        match first {
            Some(first) if public.is_empty() => Err(LinkError::NotPublic(ip(first))),
            _ => Ok(public),
        }
    }
}

/// The links of a transport, by rendezvous.
pub(crate) struct Links {
    context: Arc<Context>,
    mailboxes: Mutex<HashMap<Rendezvous, Arc<Mailbox>>>,
    dial_links: Mutex<DialLinks>,
    lookups: Lookups,
}

impl Links {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            dial_links: Mutex::new(DialLinks::new(context.dial_links)),
            context: Arc::new(context),
            mailboxes: Mutex::default(),
            lookups: Lookups::default(),
        }
    }

    /// Returns the counters that all links share.
    pub(crate) fn counts(&self) -> &Counts {
        &self.context.counts
    }

    /// Makes the link to `rendezvous` join for a listener. Spawns the link if it does not exist yet.
    ///
    /// # Errors
    /// Returns [`Error::NoRuntime`] outside of a Tokio runtime.
    pub(crate) fn listen(&self, listener: ListenerId, address: StarAddr) -> Result<(), Error> {
        let rendezvous = address.rendezvous().clone();
        self.context.listening.add(listener, &rendezvous);
        self.start(&rendezvous, Command::Listen { listener, address })
    }

    /// Makes the link to `rendezvous` leave, if it has joined for this listener.
    pub(crate) fn unlisten(&self, listener: ListenerId, rendezvous: &Rendezvous) {
        self.context.listening.remove(listener);
        self.tell(rendezvous, Command::Unlisten(listener));
    }

    /// Passes a dial to the link to `rendezvous`. If there is no link, waits until one may be opened.
    ///
    /// # Errors
    /// * [`LinkError::NotPublic`] and [`Error::TooManyRendezvous`] if no link may be opened for a dial; the latter also
    ///   if another dial takes this dial's turn.
    /// * [`Error::NoRuntime`] outside of a Tokio runtime.
    pub(crate) async fn dial(&self, rendezvous: &Rendezvous, dial: Command) -> Result<(), Error> {
        let Some(dial) = self.push(rendezvous, dial) else {
            return Ok(());
        };
        let peer = match &dial {
            Command::Dial { to, .. } => to.peer(),
            _ => None,
        };
        let _place = match self.context.listening.at(rendezvous) {
            true => None,
            false => Some(self.place(rendezvous, peer).await?),
        };
        self.start(rendezvous, dial)
    }

    /// Passes a command to a link. Returns the command if there is no link.
    fn push(&self, rendezvous: &Rendezvous, command: Command) -> Option<Command> {
        match lock(&self.mailboxes).get(rendezvous) {
            Some(mailbox) => mailbox.push(command),
            None => Some(command),
        }
    }

    fn start(&self, rendezvous: &Rendezvous, command: Command) -> Result<(), Error> {
        let mut mailboxes = lock(&self.mailboxes);
        let command = match mailboxes.get(rendezvous) {
            Some(mailbox) => match mailbox.push(command) {
                None => return Ok(()),
                Some(refused) => refused,
            },
            None => command,
        };
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        mailboxes.retain(|_, mailbox| !mailbox.is_closed());
        if let Command::Dial { .. } = command
            && !self.context.listening.at(rendezvous)
        {
            lock(&self.dial_links).opened(rendezvous, now());
        }
        let mailbox = Arc::new(Mailbox::with(command));
        mailboxes.insert(rendezvous.clone(), mailbox.clone());
        let span = tracing::debug_span!("link", %rendezvous);
        let driver = driver::Driver::new(rendezvous.clone(), self.context.clone(), mailbox);
        // A runtime that is shutting down drops the driver at once. Dropping the driver does not lock `mailboxes`.
        runtime.spawn(driver.run().instrument(span));
        Ok(())
    }

    /// Passes `command` to the link to `rendezvous`. Without a link, the command has no meaning and is dropped.
    pub(crate) fn tell(&self, rendezvous: &Rendezvous, command: Command) {
        // A link that is ending does not need the command.
        let _ = self.push(rendezvous, command);
    }

    /// Handles that a listener is closed and has no link any more.
    pub(crate) fn closed(&self, listener: ListenerId) {
        self.context.listening.remove(listener);
    }

    /// Returns the next listener whose link has ended without an event.
    pub(crate) fn next_orphan(&self, waker: &Waker) -> Option<(ListenerId, Error)> {
        self.context.orphans.next(waker)
    }

    fn is_open(&self, rendezvous: &Rendezvous) -> bool {
        let mailboxes = lock(&self.mailboxes);
        let mailbox = mailboxes.get(rendezvous);
        mailbox.is_some_and(|mailbox| !mailbox.is_closed())
    }

    /// Returns the rendezvous to which there are links, with the known addresses of their hosts. While a name is being
    /// looked up, the list of addresses is empty.
    fn open(&self) -> Vec<(Rendezvous, Vec<IpAddr>)> {
        let mailboxes = lock(&self.mailboxes);
        let open = mailboxes.iter().filter(|(_, mailbox)| !mailbox.is_closed());
        open.map(|(rendezvous, mailbox)| (rendezvous.clone(), lock(&mailbox.addresses).clone()))
            .collect()
    }
}

/// The interface of a link: commands from the transport, and channels that are ready to send.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    commands: Mutex<Commands>,
    /// The channels that have something to do, and the waker of the link's task.
    ready: Arc<Ready<Channel>>,
    /// The addresses of the rendezvous' host when the link was last opened.
    addresses: Mutex<Vec<IpAddr>>,
    /// The spellings that the peers there use for their addresses.
    spellings: Mutex<Spellings>,
    /// The facts that decide whether this link gives way to another one.
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Commands {
    queue: VecDeque<Command>,
    /// The link is ending and accepts no more commands.
    closed: bool,
    /// The link ends because another one takes its place.
    gives_way: bool,
}

impl Mailbox {
    fn with(command: Command) -> Self {
        Self {
            commands: Mutex::new(Commands {
                queue: [command].into(),
                ..Commands::default()
            }),
            standing: Mutex::new(Standing::new(now())),
            ..Self::default()
        }
    }

    /// Queues a command. Returns the command if the link is ending.
    fn push(&self, command: Command) -> Option<Command> {
        let mut commands = lock(&self.commands);
        if commands.closed {
            return Some(command);
        }
        commands.queue.push_back(command);
        drop(commands);
        self.wake();
        None
    }

    fn is_closed(&self) -> bool {
        lock(&self.commands).closed
    }

    /// Stops accepting commands, unless a command waits. Returns whether the mailbox is closed. `closing` runs before
    /// there can be another link to the same rendezvous.
    fn close_if_idle(&self, closing: impl FnOnce()) -> bool {
        let mut commands = lock(&self.commands);
        commands.closed = commands.queue.is_empty();
        if commands.closed {
            closing();
        }
        commands.closed
    }

    /// Stops accepting commands, and makes the link end.
    fn give_way(&self) {
        let mut commands = lock(&self.commands);
        (commands.closed, commands.gives_way) = (true, true);
        drop(commands);
        self.wake();
    }

    fn gives_way(&self) -> bool {
        lock(&self.commands).gives_way
    }

    /// Stops accepting commands, and returns those that wait.
    fn close_and_take(&self) -> VecDeque<Command> {
        let mut commands = lock(&self.commands);
        commands.closed = true;
        std::mem::take(&mut commands.queue)
    }

    fn resolved(&self, addresses: &[SocketAddr]) {
        *lock(&self.addresses) = addresses.iter().map(SocketAddr::ip).collect();
    }

    fn pop(&self) -> Option<Command> {
        lock(&self.commands).queue.pop_front()
    }

    fn register(&self, waker: &Waker) {
        self.ready.register(waker);
    }

    fn wake(&self) {
        self.ready.wake();
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
pub(super) mod tests;
