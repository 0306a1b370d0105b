//! Who is joined where, and which dial is open between whom.
//!
//! Pure: events go in with their link and the time, what is to be done comes out of
//! [`Registry::poll_action`]. The data of streams does not pass through here: a link asks once for
//! the [`Route`] of a stream, and the route itself tells when it is over.

mod crowd;
mod dials;
mod gone;
mod peers;
mod quotas;
mod rate;
#[cfg(feature = "cluster")]
mod remote;
mod sample;
mod turns;
mod welcome;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p_identity::PeerId;

#[cfg(feature = "cluster")]
use self::remote::{Kind, Remotes};
#[cfg(feature = "cluster")]
pub(crate) use self::remote::{NewWay, Publication};
use self::{
    dials::{CutDial, Dialled, Dials},
    gone::Gone,
    peers::Peers,
    rate::Spent,
    turns::{Audience, Turns},
};
#[cfg(feature = "cluster")]
use super::cluster::NodeNumber;
use super::{
    access::Grant,
    challenge::{Challenge, Check, Checked, Nonces},
    commons::Commons,
    config::Config,
    ids,
    names::PublicNames,
    origin::Claimant,
    quota::{Quotas, Spent as DaySpent},
    refusals::{Refusals, Refused},
    shares::Shares,
    usage::Usage,
};
use crate::protocol::{
    ProtocolError,
    event::{DialAnswer, DialId, End, Event},
    refusal::Refusal,
};

pub(crate) use self::{dials::Route, rate::Rate, turns::FEW, welcome::Welcome};

/// How many deadlines are dealt with without letting others use the registry.
const OVERDUE_AT_ONCE: usize = 256;
/// For how long a link is not read at most, however often it was refused.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// How many dials are ended so, of a lost link and when the server is shut down.
const ENDED_AT_ONCE: usize = 64;

/// One link, for as long as the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A dial, to those who relay its data. Its id may be used again, this is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlowId(pub(crate) u64);

/// Why the streams of a dial end although nobody ended them: the string that the peers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    /// A proper end, which is told as one.
    #[error("the other peer has disconnected")]
    Disconnected,
    #[error("the other peer's link to the rendezvous was lost")]
    LinkLost,
    #[error("the dial was not answered in time")]
    DialTimedOut,
    #[error("others dial the peer, too, and it has too many dials")]
    GaveWay,
    #[error("the receiver took too little for too long, and held up its sender")]
    HeldUp,
    #[error("the rendezvous is shutting down")]
    ShuttingDown,
    #[error("{} has sent what it may send in a day, again in {} s", .0.whose, .0.after)]
    DaySpent(DaySpent),
}

impl Cut {
    /// What the peers are told.
    fn end(self) -> End {
        match self {
            Self::Disconnected => End::Finished,
            _ => End::Error(self.to_string()),
        }
    }
}

/// What the registry wants done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send a text frame.
    Send {
        /// The link.
        to: LinkId,
        /// The frame.
        text: String,
    },
    /// Send a text frame about a dial, behind what is queued of the dial.
    Notify {
        /// The link.
        to: LinkId,
        /// The dial.
        flow: FlowId,
        /// The frame.
        text: String,
        /// Whether what is queued of the dial is dropped instead.
        is_reset: bool,
    },
    /// Offer a dial to a link. If it takes no more, the dial is to be refused with
    /// [`handle_busy`](Registry::handle_busy).
    Offer {
        /// The link.
        to: LinkId,
        /// The acknowledgement that it is asked for.
        ack: u64,
        /// The frame.
        text: String,
    },
    /// Send the answer to a join.
    Welcome {
        /// The link.
        to: LinkId,
        /// The answer.
        welcome: Welcome,
        /// Whether the others are told first of what is to be announced before it.
        after_news: bool,
    },
    /// Tell the joined links of peers other than their own, where there is room.
    Announce(Vec<Announced>),
    /// A link has joined: it is to be told what is announced from now on.
    Joined {
        /// The link.
        link: LinkId,
        /// The number of its join, see [`Announced::hears`].
        since: u64,
    },
    /// A link has left its last address, and is told no more.
    Left(LinkId),
    /// The link never joined: close it.
    Idle(LinkId),
    /// Open a link to another node.
    #[cfg(feature = "cluster")]
    Open(NewWay),
    /// The link to another node is not needed any more: close it.
    #[cfg(feature = "cluster")]
    CloseWay(LinkId),
    /// Have the other nodes know.
    #[cfg(feature = "cluster")]
    Publish(Publication),
}

/// The announcement of a peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// The link of the peer, which is not to be told.
    pub(crate) link: LinkId,
    /// Which links are to be told, by the numbers of their joins: not those who know already.
    pub(crate) hears: (Bound<u64>, Bound<u64>),
    /// The frame.
    pub(crate) text: String,
}

/// What has happened since the server was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Joins that succeeded.
    pub joins: u64,
    /// Joins that were refused.
    pub joins_refused: u64,
    /// Dials that the dialled peer accepted.
    pub dials: u64,
    /// Dials that failed, for whatever reason.
    pub dials_failed: u64,
}

impl Counters {
    /// What has happened here or there.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            joins: self.joins + other.joins,
            joins_refused: self.joins_refused + other.joins_refused,
            dials: self.dials + other.dials,
            dials_failed: self.dials_failed + other.dials_failed,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DeadlineKind {
    FirstJoin(LinkId),
    /// The challenge of the link with this number.
    Challenge(LinkId, u64),
    /// The dial that the link has offered with this acknowledgement.
    Answer(LinkId, u64),
    /// A way that had no dials.
    #[cfg(feature = "cluster")]
    Way(LinkId),
}

#[derive(Debug)]
struct Link {
    claimant: Claimant,
    joins: BTreeSet<Arc<str>>,
    /// What each of those is allowed, where somebody is asked.
    grants: BTreeMap<Arc<str>, Arc<Grant>>,
    /// Open challenges by address, each good until then.
    challenges: BTreeMap<String, (Box<Challenge>, Instant)>,
    join_rate: Spent,
    dials: BTreeSet<DialId>,
    dial_rate: Spent,
    /// Dials from here that wait for their answer.
    dialling: usize,
    /// All dials from here.
    dialled: usize,
    /// Dials to here that wait for their answer, by acknowledgement.
    offered: BTreeMap<u64, DialId>,
    /// Who dials it, as long as somebody does.
    dialled_by: Option<Box<Dialled>>,
    next_ack: u64,
    first_join: Option<Instant>,
    /// Until when nothing is to be read from it, because it was refused too often.
    rests_until: Option<Instant>,
    /// What it is for.
    #[cfg(feature = "cluster")]
    kind: Kind,
    /// The ways from here.
    #[cfg(feature = "cluster")]
    ways: BTreeMap<NodeNumber, LinkId>,
}

impl Link {
    fn new(claimant: Claimant) -> Self {
        Self {
            claimant,
            joins: BTreeSet::new(),
            grants: BTreeMap::new(),
            challenges: BTreeMap::new(),
            join_rate: Spent::default(),
            dials: BTreeSet::new(),
            dial_rate: Spent::default(),
            dialling: 0,
            dialled: 0,
            offered: BTreeMap::new(),
            dialled_by: None,
            next_ack: 0,
            first_join: None,
            rests_until: None,
            #[cfg(feature = "cluster")]
            kind: Kind::Client,
            #[cfg(feature = "cluster")]
            ways: BTreeMap::new(),
        }
    }

    /// Whether it is a client's: others are not announced, nor told of anybody.
    fn is_clients(&self) -> bool {
        #[cfg(feature = "cluster")]
        return matches!(self.kind, Kind::Client);
        #[cfg(not(feature = "cluster"))]
        true
    }

    /// How many dials may be open from one of its addresses, where `most` may be from any.
    fn max_dials(&self, from: &str, most: usize) -> usize {
        let grant = self.grants.get(from);
        grant.map_or(most, |grant| grant.max_dials(most))
    }
}

/// An address that is joined.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) address: Arc<str>,
    pub(crate) link: LinkId,
    pub(crate) grant: Option<Arc<Grant>>,
}

impl Joined {
    /// The peer that it has proved to be, if somebody was asked about it.
    pub(crate) fn proved(&self) -> Option<PeerId> {
        self.grant.as_ref()?.join().peer()
    }

    /// The same, or the one that its address says.
    pub(crate) fn peer(&self) -> Option<PeerId> {
        self.proved().or_else(|| ids::peer_in(&self.address))
    }
}

#[derive(Debug, Clone)]
struct Settings {
    challenge: bool,
    /// Whether somebody is asked about each join.
    access: bool,
    strict_multiaddr: bool,
    public_names: PublicNames,
    joins: usize,
    pending_dials: usize,
    open_dials: usize,
    join_rate: Rate,
    dial_rate: Rate,
    join_timeout: Duration,
    dial_timeout: Duration,
    nonces: Nonces,
}

/// The first text behind an address in their order: where a list goes on.
pub(crate) fn behind(address: &str) -> String {
    format!("{address}\0")
}

/// The server's state, apart from its sockets.
#[derive(Debug)]
pub(crate) struct Registry {
    settings: Settings,
    /// Trees, here and below: a hash table would hold the lock for milliseconds whenever it grows.
    links: BTreeMap<LinkId, Box<Link>>,
    peers: Peers,
    /// Those who have left lately.
    gone: Gone,
    dials: Dials,
    /// The links whose number of dials has changed, with that number.
    dialled: BTreeMap<LinkId, usize>,
    turns: Turns,
    /// How many links have joined.
    joined: usize,
    /// The same by origin.
    joined_by: Shares,
    /// How many of them, paid for, the other tenants know of.
    told: usize,
    /// The number of the last join.
    joins: u64,
    /// The number of the last request for one that had all it needs: a proof, where that is wanted.
    requests: u64,
    /// The number of the next challenge.
    challenges: u64,
    next_flow: FlowId,
    commons: Commons,
    deadlines: BTreeSet<(Instant, DeadlineKind)>,
    /// Dials of lost links that are still to be ended.
    cut: VecDeque<CutDial>,
    /// The last time that was told.
    latest: Option<Instant>,
    actions: VecDeque<Action>,
    /// What joins were allowed that are over.
    over: Vec<Arc<Grant>>,
    counters: Counters,
    refusals: Refusals,
    /// What each peer has sent, where that is counted.
    usage: Option<Usage>,
    /// How much may be sent, if there is any bound.
    quotas: Option<Arc<Quotas>>,
    /// The peers at other nodes, if there may be some.
    #[cfg(feature = "cluster")]
    remotes: Option<Box<Remotes>>,
    is_stopping: bool,
}

impl Registry {
    pub(crate) fn new(config: &Config, commons: Commons) -> Self {
        let limits = config.limits();
        Self {
            settings: Settings {
                challenge: config.challenge(),
                access: config.access().is_some(),
                strict_multiaddr: config.strict_multiaddr(),
                public_names: config.public_names().clone(),
                joins: limits.joins,
                pending_dials: limits.pending_dials,
                open_dials: limits.open_dials,
                join_rate: limits.join_rate,
                dial_rate: limits.dial_rate,
                join_timeout: limits.join_timeout,
                dial_timeout: limits.dial_timeout,
                nonces: Nonces::default(),
            },
            links: BTreeMap::new(),
            peers: Peers::default(),
            dials: Dials::default(),
            dialled: BTreeMap::new(),
            turns: Turns::new(config.announce_interval(), limits.announce_rate),
            joined: 0,
            joined_by: Shares::new(u64::MAX),
            joins: 0,
            requests: 0,
            challenges: 0,
            next_flow: FlowId(0),
            gone: Gone::new(config.tenant_count()),
            commons,
            told: 0,
            deadlines: BTreeSet::new(),
            cut: VecDeque::new(),
            latest: None,
            actions: VecDeque::new(),
            over: Vec::new(),
            counters: Counters::default(),
            refusals: Refusals::default(),
            usage: None,
            quotas: None,
            #[cfg(feature = "cluster")]
            remotes: None,
            is_stopping: false,
        }
    }

    /// The same, where it is counted what each peer sends, and where that may be bounded.
    pub(crate) fn with_usage(mut self, usage: Option<Usage>, quotas: Option<Arc<Quotas>>) -> Self {
        self.usage = usage;
        self.quotas = quotas;
        self
    }

    /// A link from somewhere has opened.
    pub(crate) fn handle_open(&mut self, link: LinkId, claimant: Claimant, now: Instant) {
        self.latest = Some(now);
        let deadline = now + self.settings.join_timeout;
        let mut state = Link::new(claimant);
        state.first_join = Some(deadline);
        self.links.insert(link, Box::new(state));
        self.deadlines
            .insert((deadline, DeadlineKind::FirstJoin(link)));
    }

    /// A link is lost: its addresses leave, and its streams end at the other peers.
    pub(crate) fn handle_close(&mut self, link: LinkId) {
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        if let Some(deadline) = state.first_join {
            self.deadlines
                .remove(&(deadline, DeadlineKind::FirstJoin(link)));
        }
        self.forget_link(link, &state, Cut::LinkLost);
        #[cfg(feature = "cluster")]
        self.close_ways(link, &state);
        self.over.extend(state.grants.into_values());
    }

    /// A peer leaves and keeps its link: its addresses leave, and its streams end properly at the
    /// other peers. It is told of nothing, because it does not listen any more.
    pub(crate) fn handle_disconnect(&mut self, link: LinkId) {
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        self.forget_link(link, &state, Cut::Disconnected);
        #[cfg(feature = "cluster")]
        self.close_ways(link, &state);
        self.over.extend(state.grants.into_values());
        // What it has used up of its bounds is not given back.
        let state = Link {
            join_rate: state.join_rate,
            dial_rate: state.dial_rate,
            next_ack: state.next_ack,
            first_join: state.first_join,
            #[cfg(feature = "cluster")]
            kind: state.kind,
            ..Link::new(state.claimant)
        };
        self.links.insert(link, Box::new(state));
    }

    /// Ends what a link had that is gone.
    fn forget_link(&mut self, link: LinkId, state: &Link, cut: Cut) {
        for (challenge, expiry) in state.challenges.values() {
            let kind = DeadlineKind::Challenge(link, challenge.number);
            self.deadlines.remove(&(*expiry, kind));
        }
        if state.is_clients() {
            for address in &state.joins {
                self.forget_peer(address);
            }
            if !state.joins.is_empty() {
                self.has_left(link, state.claimant.origin);
            }
        }
        // The others may be very many: they come later, some at a time.
        let mut dials = state.dials.iter();
        for dial_id in dials.by_ref().take(ENDED_AT_ONCE) {
            self.end_dial(dial_id, Refusal::PeerLeft, cut);
        }
        for dial_id in dials {
            self.cut_later(dial_id, link, cut);
        }
    }

    /// Takes an event, other than those of streams, from a link.
    ///
    /// What it returns is to be run, and its outcome given to
    /// [`handle_checked`](Self::handle_checked), before anything else comes from that link.
    pub(crate) fn handle_event(
        &mut self,
        link: LinkId,
        event: Event<'_>,
        ack: Option<u64>,
        now: Instant,
    ) -> Option<Check> {
        self.latest = Some(now);
        match (event, ack) {
            (Event::Join { address, data }, Some(ack)) => {
                return self.join(link, address, data, ack, now);
            }
            (Event::Dial { from, to, dial_id }, Some(ack)) => {
                self.dial(link, &from, &to, dial_id, ack, now);
            }
            (Event::Leave { address }, ack) => {
                self.leave(link, &address);
                if let Some(ack) = ack {
                    self.answer(link, ack, Ok(()));
                }
            }
            (_, Some(ack)) => {
                self.answer(link, ack, Err(Refusal::Unknown));
                self.refused(link, now);
            }
            // Its answer is asked for by nobody, or it is none of ours.
            (_, None) => {}
        }
        None
    }

    /// Takes the outcome of a check from the link that ran it.
    pub(crate) fn handle_checked(&mut self, link: LinkId, checked: Checked, now: Instant) {
        self.join_checked(link, checked, now);
    }

    /// Takes an event that could not be decoded from a link.
    pub(crate) fn handle_malformed(
        &mut self,
        link: LinkId,
        ack: u64,
        error: ProtocolError,
        now: Instant,
    ) {
        self.answer(link, ack, Err(Refusal::Malformed(error.to_string())));
        self.refused(link, now);
    }

    /// A link was refused what is no request, and is answered elsewhere.
    pub(crate) fn handle_refused(&mut self, link: LinkId, now: Instant) {
        self.refused(link, now);
    }

    /// A refusal costs its link nothing and us an answer. Beyond its origin's rate, the link is read no more until
    /// the origin has rested.
    fn refused(&mut self, link: LinkId, now: Instant) {
        if let Some(state) = self.links.get_mut(&link) {
            let pause = self.commons.refuse(&state.claimant, now, LONGEST_REST);
            state.rests_until = (!pause.is_zero()).then(|| now + pause);
        }
    }

    /// Until when nothing is to be read from a link, if it has been refused too often since this was asked last.
    pub(crate) fn poll_rest(&mut self, link: LinkId) -> Option<Instant> {
        self.links.get_mut(&link)?.rests_until.take()
    }

    /// Takes an answer to `ss-incomming` from a link.
    pub(crate) fn handle_ack(&mut self, link: LinkId, ack: u64, json: &str) {
        let answer = DialAnswer::decode(json)
            .map_or_else(|error| Err(error.to_string()), |DialAnswer(answer)| answer);
        #[cfg(feature = "cluster")]
        if self.way_answered(link, ack, answer.is_ok()) {
            return;
        }
        self.dial_answered(link, ack, answer);
    }

    /// A link cannot be offered the dial with this acknowledgement.
    pub(crate) fn handle_busy(&mut self, link: LinkId, ack: u64) {
        self.refusals.count(Refused::PeerBusy);
        self.dial_answered(link, ack, Err(Refusal::PeerBusy.to_string()));
    }

    /// Deals with what is overdue at `now`; if that is very much, with some of it.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.latest = Some(now);
        for _ in 0..OVERDUE_AT_ONCE {
            let Some(&(deadline, kind)) = self.deadlines.first() else {
                break;
            };
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            match kind {
                DeadlineKind::FirstJoin(link) => {
                    if let Some(state) = self.links.get_mut(&link) {
                        state.first_join = None;
                        self.actions.push_back(Action::Idle(link));
                    }
                }
                DeadlineKind::Challenge(link, number) => self.challenge_timed_out(link, number),
                DeadlineKind::Answer(link, ack) => self.dial_timed_out(link, ack),
                #[cfg(feature = "cluster")]
                DeadlineKind::Way(link) => self.way_timed_out(link),
            }
        }
        self.end_cut_dials();
        self.announce(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.cut.is_empty() {
            return self.latest;
        }
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        deadline
            .into_iter()
            .chain(self.turns.poll_timeout(self.joined))
            .min()
    }

    /// Who is told what is announced.
    fn audience(&self) -> Audience {
        Audience {
            links: self.joined,
            paid: self.paid(),
            others: self.commons.told().saturating_sub(self.told),
        }
    }

    /// How many links announcements are paid for.
    fn paid(&self) -> usize {
        usize::try_from(self.joined_by.held_evenly()).unwrap_or(usize::MAX)
    }

    /// The number of links has changed that are told what is announced.
    fn share_told(&mut self) {
        let paid = self.paid();
        self.commons.set_told(self.told, paid);
        self.told = paid;
    }

    /// What is to be done next.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Refuses dials from now on, and ends some of those that there are, with an explanation; whether there are
    /// more.
    pub(crate) fn shut_down(&mut self) -> bool {
        self.is_stopping = true;
        for _ in 0..ENDED_AT_ONCE {
            let Some(dial_id) = self.dials.first() else {
                return false;
            };
            self.end_dial(&dial_id, Refusal::ShuttingDown, Cut::ShuttingDown);
        }
        true
    }

    /// Up to so many of the addresses that are joined, from `from` on.
    pub(crate) fn addresses_from(&self, from: &str, max: usize) -> Vec<Arc<str>> {
        self.peers.addresses_from(from).take(max).cloned().collect()
    }

    /// The same with their links, and with what they are allowed.
    pub(crate) fn joined_from(&self, from: &str, max: usize) -> Vec<Joined> {
        let joined = self.peers.joined_from(from).take(max);
        let joined = joined.map(|(address, link)| {
            let state = self.links.get(&link);
            let grant = state.and_then(|state| state.grants.get(address));
            Joined {
                address: address.clone(),
                link,
                grant: grant.cloned(),
            }
        });
        joined.collect()
    }

    /// What joins were allowed that are over, to be dropped when no lock is held.
    pub(crate) fn take_over(&mut self) -> Vec<Arc<Grant>> {
        std::mem::take(&mut self.over)
    }

    /// Whether an address is joined on a link.
    pub(crate) fn has_joined(&self, link: LinkId) -> bool {
        let link = self.links.get(&link);
        link.is_some_and(|link| !link.joins.is_empty())
    }

    /// How many addresses are joined.
    pub(crate) fn peers(&self) -> usize {
        self.peers.len()
    }

    /// How many links are open.
    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }

    /// The next link whose number of dials from it has changed, pending ones included, with that number.
    pub(crate) fn poll_dialled(&mut self) -> Option<(LinkId, usize)> {
        self.dialled.pop_first()
    }

    /// How many dials are pending or open.
    pub(crate) fn open_dials(&self) -> usize {
        self.dials.len()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// Counts what was refused elsewhere.
    pub(crate) fn count_refused(&mut self, reason: Refused) {
        self.refusals.count(reason);
    }

    fn answer(&mut self, to: LinkId, ack: u64, answer: Result<(), Refusal>) {
        if let Err(refusal) = &answer {
            tracing::debug!(link = %to, %refusal, "a request is refused");
            self.refusals.count(refusal.into());
        }
        let answer = answer.map_err(|refusal| refusal.to_string());
        self.send(to, DialAnswer(answer).encode(ack));
    }

    fn send(&mut self, to: LinkId, text: String) {
        if self.links.contains_key(&to) {
            self.actions.push_back(Action::Send { to, text });
        }
    }
}

#[cfg(test)]
mod tests;
