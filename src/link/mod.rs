//! Links: one WebSocket to each rendezvous, shared by the listeners, dials and connections there.
//!
//! A link is a task, spawned when the first listener or dial asks for its rendezvous and ended with
//! the last user. [`driver`] is its life: open, serve, lose, back off; [`active`] serves an open
//! link; [`socket`] opens it and [`connect`] its TCP stream; [`channel`] is what a connection and its
//! link share; [`alias`] finds the link
//! that an address means. Only this module opens sockets and spawns.

mod active;
mod alias;
mod backoff;
mod channel;
mod connect;
mod driver;
mod heartbeat;
mod socket;
mod spellings;

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    task::Waker,
    time::Duration,
};

use futures::{
    channel::{mpsc, oneshot},
    task::AtomicWaker,
};
use libp2p_core::transport::ListenerId;
use libp2p_identity::PeerId;
use tokio::runtime::Handle;
use tracing::Instrument as _;

pub(crate) use self::{
    channel::Channel,
    socket::{SocketConfig, tls_config},
};
use crate::{
    address::{Rendezvous, StarAddr},
    connection::Connection,
    discovery::Announcer,
    error::Error,
    protocol::{event::DialId, session::Settings, stream::Budgets},
};

/// What a link is asked to do.
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
    /// Nobody waits for the dial any more.
    CancelDial(DialId),
}

/// What a link tells the transport.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The listener's address is joined.
    Joined(ListenerId),
    /// The listener's address is not joined, or not any more; the link goes on trying.
    Failed(ListenerId, Error),
    /// The listener's address cannot be joined, and trying again would not help.
    Closed(ListenerId, Error),
    /// A peer dialled us.
    Incoming {
        listener: ListenerId,
        from: PeerId,
        connection: Connection,
    },
}

/// Listeners whose link has ended without a word, because its task panicked or its runtime is gone. Other than
/// the events of a link they need not wait to be taken.
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

    /// Takes the next one; whoever gets none is woken for it.
    pub(crate) fn next(&self, waker: &Waker) -> Option<(ListenerId, Error)> {
        self.waker.register(waker);
        lock(&self.listeners).pop()
    }
}

/// What all links of a transport have in common.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) socket: SocketConfig,
    pub(crate) budgets: Budgets,
    pub(crate) connections: usize,
    pub(crate) known_peers: usize,
    pub(crate) stall_timeout: Duration,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) announcer: Announcer,
    pub(crate) events: mpsc::Sender<LinkEvent>,
    pub(crate) orphans: Orphans,
}

/// The links of a transport, by rendezvous.
pub(crate) struct Links {
    context: Arc<Context>,
    mailboxes: Mutex<HashMap<Rendezvous, Arc<Mailbox>>>,
}

impl Links {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context: Arc::new(context),
            mailboxes: Mutex::default(),
        }
    }

    /// Hands `command` to the link to `rendezvous`, which is spawned if it does not exist yet.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside of a Tokio runtime.
    pub(crate) fn start(&self, rendezvous: &Rendezvous, command: Command) -> Result<(), Error> {
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
        let mailbox = Arc::new(Mailbox::with(command));
        mailboxes.insert(rendezvous.clone(), mailbox.clone());
        let span = tracing::debug_span!("link", %rendezvous);
        let driver = driver::Driver::new(rendezvous.clone(), self.context.clone(), mailbox);
        // A runtime that is shutting down drops the driver here and now, which asks for no mailbox.
        runtime.spawn(driver.run().instrument(span));
        Ok(())
    }

    /// Hands `command` to the link to `rendezvous`; without one it is meaningless.
    pub(crate) fn tell(&self, rendezvous: &Rendezvous, command: Command) {
        if let Some(mailbox) = lock(&self.mailboxes).get(rendezvous) {
            // A link that is ending has no use for it.
            let _ = mailbox.push(command);
        }
    }

    /// Listeners whose link has ended without a word.
    pub(crate) fn next_orphan(&self, waker: &Waker) -> Option<(ListenerId, Error)> {
        self.context.orphans.next(waker)
    }

    fn is_open(&self, rendezvous: &Rendezvous) -> bool {
        let mailboxes = lock(&self.mailboxes);
        let mailbox = mailboxes.get(rendezvous);
        mailbox.is_some_and(|mailbox| !mailbox.is_closed())
    }

    /// The rendezvous to which there are links, with the addresses that their names have been found to
    /// have; with none as long as a name is being looked up.
    fn open(&self) -> Vec<(Rendezvous, Vec<IpAddr>)> {
        let mailboxes = lock(&self.mailboxes);
        let open = mailboxes.iter().filter(|(_, mailbox)| !mailbox.is_closed());
        open.map(|(rendezvous, mailbox)| (rendezvous.clone(), lock(&mailbox.addresses).clone()))
            .collect()
    }
}

/// Where a link is reached: by commands from the transport, and by channels that are ready to send.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    commands: Mutex<Commands>,
    /// Each channel is in here at most once.
    ready: Mutex<VecDeque<Arc<Channel>>>,
    waker: AtomicWaker,
    /// The addresses that the rendezvous' host had when the link was opened last.
    addresses: Mutex<Vec<IpAddr>>,
}

#[derive(Debug, Default)]
struct Commands {
    queue: VecDeque<Command>,
    /// The link is ending, and takes no more.
    closed: bool,
}

impl Mailbox {
    fn with(command: Command) -> Self {
        Self {
            commands: Mutex::new(Commands {
                queue: [command].into(),
                closed: false,
            }),
            ..Self::default()
        }
    }

    /// Gives the command back if the link is ending.
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

    /// Takes no more commands, unless there is one to be dealt with.
    fn close(&self) -> bool {
        let mut commands = lock(&self.commands);
        commands.closed = commands.queue.is_empty();
        commands.closed
    }

    /// Takes no more commands, and gives back those that there are.
    fn shut(&self) -> VecDeque<Command> {
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

    /// Moves the channels that became ready to the end of `ready`.
    fn take_ready(&self, ready: &mut VecDeque<Arc<Channel>>) {
        ready.append(&mut lock(&self.ready));
    }

    fn push_ready(&self, channel: Arc<Channel>) {
        lock(&self.ready).push_back(channel);
        self.wake();
    }

    fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    fn wake(&self) {
        self.waker.wake();
    }
}

/// Locks; what a panicking thread left behind is still consistent, because nothing here panics
/// halfway through a change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
