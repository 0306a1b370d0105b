//! Links: one WebSocket to each rendezvous, shared by the listeners, dials and connections there.
//!
//! A link is a task, spawned when the first listener or dial asks for its rendezvous and ended with
//! the last user. [`driver`] is its life: open, serve, lose, back off; [`active`] serves an open
//! link; [`socket`] opens it, natively over a TCP stream that [`connect`] opens, and in a browser with the browser's own
//! WebSocket; [`channel`] is what a connection and its
//! link share, [`channels`] has all of a link, [`turns`] says who of them sends next, [`pledges`] how much they may
//! grant, and [`hold_up`] who of them holds up the others; [`alias`] finds the link that an address means, for
//! which [`lookups`] looks up names; [`routes`] is what is known of addresses from earlier links, and [`refusals`] which
//! rendezvous has refused us, both [`kept`] from one link to the next; [`users`] are those for whom a link is open; [`dial_links`] bounds what dials open,
//! and [`place`] has them wait. Only this module opens sockets and spawns.

mod active;
mod alias;
mod backoff;
mod channel;
mod channels;
#[cfg(not(target_arch = "wasm32"))]
mod connect;
mod dial_links;
mod driver;
mod global;
mod heartbeat;
mod hold_up;
mod kept;
mod lookups;
mod place;
mod pledges;
mod refusals;
mod routes;
mod socket;
mod spellings;
mod turns;
mod users;

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
use tracing::Instrument as _;

#[cfg(feature = "direct")]
pub(crate) use self::global::embedded_v4;
#[cfg(all(feature = "probe", not(target_arch = "wasm32")))]
pub use self::socket::probe;
pub(crate) use self::{
    channel::Channel, dial_links::Listening, refusals::Refusals, routes::KeptRoutes,
    socket::SocketConfig,
};
use self::{
    dial_links::{DialLinks, Standing},
    global::is_global,
    lookups::Lookups,
    spellings::Spellings,
};
use crate::{
    address::{Rendezvous, StarAddr},
    connection::Connection,
    discovery::Announcer,
    error::{Error, LinkError},
    metrics::Counts,
    protocol::{event::DialId, session::Settings, stream::Budgets},
    runtime::{Handle, now},
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
    /// The listener's address is joined no more, which is no error; the link goes on trying.
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
    pub(crate) dial_links: usize,
    pub(crate) allow_local: bool,
    pub(crate) listening: Listening,
    pub(crate) stall_timeout: Duration,
    pub(crate) hold_up_timeout: Duration,
    /// What a connection may pledge to a peer that knows credits.
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
    /// Those of a rendezvous' addresses to which a link may be opened.
    ///
    /// # Errors
    /// [`LinkError::NotPublic`] if there are none: a stranger may have chosen the rendezvous, and it must not choose
    /// hosts that only we can reach.
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

    /// What all links count.
    pub(crate) fn counts(&self) -> &Counts {
        &self.context.counts
    }

    /// Has the link to `rendezvous` join for a listener. It is spawned if it does not exist yet.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside of a Tokio runtime.
    pub(crate) fn listen(&self, listener: ListenerId, address: StarAddr) -> Result<(), Error> {
        let rendezvous = address.rendezvous().clone();
        self.context.listening.add(listener, &rendezvous);
        self.start(&rendezvous, Command::Listen { listener, address })
    }

    /// Has the link to `rendezvous` leave, where it is there for a listener.
    pub(crate) fn unlisten(&self, listener: ListenerId, rendezvous: &Rendezvous) {
        self.context.listening.remove(listener);
        self.tell(rendezvous, Command::Unlisten(listener));
    }

    /// Hands a dial to the link to `rendezvous`. Without one, waits until a link may be opened.
    ///
    /// # Errors
    /// * [`LinkError::NotPublic`] and [`Error::TooManyRendezvous`] if no link may be opened for a dial; the latter also
    ///   when another one takes its turn.
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

    /// Gives the command back if there is no link.
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
        // A runtime that is shutting down drops the driver here and now, which asks for no mailbox.
        runtime.spawn(driver.run().instrument(span));
        Ok(())
    }

    /// Hands `command` to the link to `rendezvous`; without one it is meaningless.
    pub(crate) fn tell(&self, rendezvous: &Rendezvous, command: Command) {
        // A link that is ending has no use for it.
        let _ = self.push(rendezvous, command);
    }

    /// A listener is closed, and has no link any more.
    pub(crate) fn closed(&self, listener: ListenerId) {
        self.context.listening.remove(listener);
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
    ready: Mutex<Ready>,
    waker: AtomicWaker,
    /// The addresses that the rendezvous' host had when the link was opened last.
    addresses: Mutex<Vec<IpAddr>>,
    /// How the peers there spell their addresses.
    spellings: Mutex<Spellings>,
    /// What is said for and against this link when another one wants its place.
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Commands {
    queue: VecDeque<Command>,
    /// The link is ending, and takes no more.
    closed: bool,
    /// It ends because another one takes its place.
    gives_way: bool,
}

/// Channels for which the link has something to do. Each is at most once in either.
#[derive(Debug, Default)]
struct Ready {
    /// They have something to send.
    sending: VecDeque<Arc<Channel>>,
    /// They may have to grant something.
    granting: VecDeque<Arc<Channel>>,
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

    /// Takes no more commands, unless there is one to be dealt with. `closing` is done before there can be another link to
    /// the same rendezvous.
    fn close(&self, closing: impl FnOnce()) -> bool {
        let mut commands = lock(&self.commands);
        commands.closed = commands.queue.is_empty();
        if commands.closed {
            closing();
        }
        commands.closed
    }

    /// Takes no more commands, and has the link end.
    fn give_way(&self) {
        let mut commands = lock(&self.commands);
        (commands.closed, commands.gives_way) = (true, true);
        drop(commands);
        self.wake();
    }

    fn gives_way(&self) -> bool {
        lock(&self.commands).gives_way
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

    /// Gives the channels that became ready to `send`, and moves those that may have to grant to the end of `granting`.
    fn take_ready(&self, send: impl FnMut(Arc<Channel>), granting: &mut VecDeque<Arc<Channel>>) {
        let mut ready = lock(&self.ready);
        granting.append(&mut ready.granting);
        let sending = std::mem::take(&mut ready.sending);
        // Whoever sends locks itself first, and the mailbox then.
        drop(ready);
        sending.into_iter().for_each(send);
    }

    fn push_ready(&self, channel: Arc<Channel>) {
        lock(&self.ready).sending.push_back(channel);
        self.wake();
    }

    fn push_granting(&self, channel: Arc<Channel>) {
        lock(&self.ready).granting.push_back(channel);
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

#[cfg(test)]
#[path = "links_tests.rs"]
pub(super) mod tests;
