//! Which peer has joined on which link, and which dial is open between which links.
//!
//! The registry is pure: events go in with their link and the time, and what has to be done comes out of
//! [`Registry::poll_action`]. The data of streams does not pass through here: a link asks once for the [`Route`] of a
//! stream, and the route itself shows when the stream is over.

mod crowd;
mod dials;
mod gone;
mod peers;
mod quotas;
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
    dials::{Dialled, Dials, EndedDial},
    gone::Gone,
    peers::Peers,
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
    rate::{Rate, Spent},
    refusals::{Refusals, Refused},
    shares::Shares,
    usage::Usage,
};
use crate::protocol::{
    ProtocolError,
    event::{DialAnswer, DialId, End, Event},
    refusal::Refusal,
};

pub(crate) use self::{dials::Route, turns::FEW, welcome::Welcome};

/// The number of overdue deadlines that are handled in one call, so that others can use the registry in between.
const OVERDUE_AT_ONCE: usize = 256;
/// The longest time for which a link is not read, however often it was refused.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// The number of dials that are ended in one call when a link is lost or the server shuts down.
const ENDED_AT_ONCE: usize = 64;

/// The number of one link. No other link has it for as long as the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a dial, for the links that relay its data. A dial id may be used again, but this number is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlowId(pub(crate) u64);

/// Why the streams of a dial end although neither peer ended them. `Display` gives the text that the peers get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DialEnd {
    /// A proper end, and shown to the peers as one.
    #[error("the other peer has disconnected")]
    Disconnected,
    #[error("the other peer's link to the rendezvous was lost")]
    LinkLost,
    #[error("the dial was not answered in time")]
    DialTimedOut,
    #[error("the peer has too many dials, and others need their share of them")]
    GaveWay,
    #[error("the receiver read too little for too long, and held up its sender")]
    HeldUp,
    #[error("the rendezvous is shutting down")]
    ShuttingDown,
    #[error("{} has spent its daily quota, again in {} s", .0.whose, .0.after)]
    DaySpent(DaySpent),
}

impl DialEnd {
    /// Returns the end that the peers get.
    fn end(self) -> End {
        match self {
            Self::Disconnected => End::Finished,
            _ => End::Error(self.to_string()),
        }
    }
}

/// An action that the registry asks for.
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
    /// Offer a dial to a link. If the link takes no more dials, the dial has to be refused with
    /// [`handle_busy`](Registry::handle_busy).
    Offer {
        /// The link.
        to: LinkId,
        /// The number by which the link acknowledges the offer.
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
        /// Whether the other links first have to write what is announced before it.
        after_news: bool,
    },
    /// Announce peers to the joined links other than their own, where there is room.
    Announce(Vec<Announced>),
    /// A link has joined: it gets what is announced from now on.
    Joined {
        /// The link.
        link: LinkId,
        /// The number of its join, see [`Announced::hears`].
        since: u64,
    },
    /// A link has left its last address: it gets no more announcements.
    Left(LinkId),
    /// The link never joined: close it.
    Idle(LinkId),
    /// Open a link to another node.
    #[cfg(feature = "cluster")]
    Open(NewWay),
    /// The link to another node is not needed any more: close it.
    #[cfg(feature = "cluster")]
    CloseWay(LinkId),
    /// Publish something to the other nodes.
    #[cfg(feature = "cluster")]
    Publish(Publication),
}

/// The announcement of a peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// The link of the peer, which does not get the announcement.
    pub(crate) link: LinkId,
    /// The links that get the announcement, by the numbers of their joins. Links that know the peer already are left
    /// out.
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
    /// Returns the sum of both counts.
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
    /// The deadline of a challenge, by its link and the number of the challenge.
    Challenge(LinkId, u64),
    /// The deadline of a pending dial, by the link that it was offered to and the number of the acknowledgement.
    Answer(LinkId, u64),
    /// The time to look again at a way that had no dials.
    #[cfg(feature = "cluster")]
    Way(LinkId),
}

#[derive(Debug)]
struct Link {
    claimant: Claimant,
    joins: BTreeSet<Arc<str>>,
    /// What the access allows each of these joins, if an access decides about joins.
    grants: BTreeMap<Arc<str>, Arc<Grant>>,
    /// Open challenges by address, each with the time at which it ends.
    challenges: BTreeMap<String, (Box<Challenge>, Instant)>,
    join_rate: Spent,
    dials: BTreeSet<DialId>,
    dial_rate: Spent,
    /// The number of dials from here that wait for their answer.
    dialling: usize,
    /// The number of all dials from here.
    dialled: usize,
    /// Dials to here that wait for their answer, by the number of the acknowledgement.
    offered: BTreeMap<u64, DialId>,
    /// The dials to this link; `None` while there are none.
    dialled_by: Option<Box<Dialled>>,
    next_ack: u64,
    first_join: Option<Instant>,
    /// The time until which the link is not read, because it was refused too often.
    rests_until: Option<Instant>,
    /// What the link is for.
    #[cfg(feature = "cluster")]
    kind: Kind,
    /// The ways of this link, by the node that they lead to.
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

    /// Returns whether this is the link of a client. Other links are not announced and get no announcements.
    fn is_clients(&self) -> bool {
        #[cfg(feature = "cluster")]
        return matches!(self.kind, Kind::Client);
        #[cfg(not(feature = "cluster"))]
        true
    }

    /// Returns how many dials may be open from one of its addresses, where `most` may be open by default.
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
    /// Returns the peer whose key was proved, if an access decided about the join.
    pub(crate) fn proved(&self) -> Option<PeerId> {
        self.grant.as_ref()?.join().peer()
    }

    /// Returns the same peer, or else the peer that the address names.
    pub(crate) fn peer(&self) -> Option<PeerId> {
        self.proved().or_else(|| ids::peer_in(&self.address))
    }
}

#[derive(Debug, Clone)]
struct Settings {
    challenge: bool,
    /// Whether an access decides about each join.
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

/// Returns the first text that sorts behind an address, from which a list continues.
pub(crate) fn behind(address: &str) -> String {
    format!("{address}\0")
}

/// The server's state, apart from its sockets.
#[derive(Debug)]
pub(crate) struct Registry {
    settings: Settings,
    /// Trees are used here and below, because a hash table would hold the lock for milliseconds whenever it grows.
    links: BTreeMap<LinkId, Box<Link>>,
    peers: Peers,
    /// Peers that have left recently.
    gone: Gone,
    dials: Dials,
    /// The links whose number of dials has changed, with the new number.
    dialled: BTreeMap<LinkId, usize>,
    turns: Turns,
    /// The number of links that have joined.
    joined: usize,
    /// The number of links that have joined, by origin.
    joined_by: Shares,
    /// How many of these links, as far as announcements are paid for them, are counted in the commons for the other
    /// tenants.
    told: usize,
    /// The number of the last join.
    joins: u64,
    /// The number of the last request for a join that was complete: it had a proof, where one is required.
    requests: u64,
    /// The number of the next challenge.
    challenges: u64,
    next_flow: FlowId,
    commons: Commons,
    deadlines: BTreeSet<(Instant, DeadlineKind)>,
    /// Dials of lost links that still have to be ended.
    cut: VecDeque<EndedDial>,
    /// The time of the last event.
    latest: Option<Instant>,
    actions: VecDeque<Action>,
    /// Grants of joins that are over.
    over: Vec<Arc<Grant>>,
    counters: Counters,
    refusals: Refusals,
    /// What each peer has sent, if that is counted.
    usage: Option<Usage>,
    /// The bounds on how much may be sent, if there are any.
    quotas: Option<Arc<Quotas>>,
    /// The peers at other nodes, if the server is a node of a cluster.
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

    /// Sets where the bytes that each peer sends are counted, and the quotas that bound them.
    pub(crate) fn with_usage(mut self, usage: Option<Usage>, quotas: Option<Arc<Quotas>>) -> Self {
        self.usage = usage;
        self.quotas = quotas;
        self
    }

    /// Adds a new link from an origin.
    pub(crate) fn handle_open(&mut self, link: LinkId, claimant: Claimant, now: Instant) {
        self.latest = Some(now);
        let deadline = now + self.settings.join_timeout;
        let mut state = Link::new(claimant);
        state.first_join = Some(deadline);
        self.links.insert(link, Box::new(state));
        self.deadlines
            .insert((deadline, DeadlineKind::FirstJoin(link)));
    }

    /// Removes a lost link: its addresses leave, and its streams end at the other peers.
    pub(crate) fn handle_close(&mut self, link: LinkId) {
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        if let Some(deadline) = state.first_join {
            self.deadlines
                .remove(&(deadline, DeadlineKind::FirstJoin(link)));
        }
        self.forget_link(link, &state, DialEnd::LinkLost);
        #[cfg(feature = "cluster")]
        self.close_ways(link, &state);
        self.over.extend(state.grants.into_values());
    }

    /// Handles a peer that leaves but keeps its link: its addresses leave, and its streams end properly at the other
    /// peers. The peer itself is not notified, because it no longer listens.
    pub(crate) fn handle_disconnect(&mut self, link: LinkId) {
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        self.forget_link(link, &state, DialEnd::Disconnected);
        #[cfg(feature = "cluster")]
        self.close_ways(link, &state);
        self.over.extend(state.grants.into_values());
        // The rates that it has used up are not given back.
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

    /// Ends the joins, challenges and dials of a link that is gone.
    fn forget_link(&mut self, link: LinkId, state: &Link, cut: DialEnd) {
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
        // There may be very many others. They are ended later, some at a time.
        let mut dials = state.dials.iter();
        for dial_id in dials.by_ref().take(ENDED_AT_ONCE) {
            self.end_dial(dial_id, Refusal::PeerLeft, cut);
        }
        for dial_id in dials {
            self.cut_later(dial_id, link, cut);
        }
    }

    /// Handles an event from a link, other than the events of streams.
    ///
    /// The caller has to run the returned check and pass its outcome to [`handle_checked`](Self::handle_checked),
    /// before it passes on anything else from that link.
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
            // The event needs no answer, or it is not one of ours.
            (_, None) => {}
        }
        None
    }

    /// Handles the outcome of a check, from the link that ran it.
    pub(crate) fn handle_checked(&mut self, link: LinkId, checked: Checked, now: Instant) {
        self.join_checked(link, checked, now);
    }

    /// Handles an event from a link that could not be decoded.
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

    /// Counts a refusal of something that is not a request and was answered elsewhere.
    pub(crate) fn count_refusal(&mut self, link: LinkId, now: Instant) {
        self.refused(link, now);
    }

    /// Counts a refusal against the origin of a link. A refusal costs the link nothing, but costs us an answer. Beyond
    /// the origin's rate of refusals, the link is not read until the origin has recovered.
    fn refused(&mut self, link: LinkId, now: Instant) {
        if let Some(state) = self.links.get_mut(&link) {
            let pause = self.commons.refuse(&state.claimant, now, LONGEST_REST);
            state.rests_until = (!pause.is_zero()).then(|| now + pause);
        }
    }

    /// Returns until when a link must not be read, if it was refused too often since the last call.
    pub(crate) fn poll_rest(&mut self, link: LinkId) -> Option<Instant> {
        self.links.get_mut(&link)?.rests_until.take()
    }

    /// Handles an answer to `ss-incomming` from a link.
    pub(crate) fn handle_ack(&mut self, link: LinkId, ack: u64, json: &str) {
        let answer = DialAnswer::decode(json)
            .map_or_else(|error| Err(error.to_string()), |DialAnswer(answer)| answer);
        #[cfg(feature = "cluster")]
        if self.way_answered(link, ack, answer.is_ok()) {
            return;
        }
        self.dial_answered(link, ack, answer);
    }

    /// Refuses the dial with this acknowledgement, because it cannot be offered to the link.
    pub(crate) fn handle_busy(&mut self, link: LinkId, ack: u64) {
        self.refusals.count(Refused::PeerBusy);
        self.dial_answered(link, ack, Err(Refusal::PeerBusy.to_string()));
    }

    /// Handles what is overdue at `now`; if that is very much, some of it.
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

    /// Returns when [`handle_timeout`](Self::handle_timeout) has to be called next.
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

    /// Returns the links that get announcements.
    fn audience(&self) -> Audience {
        Audience {
            links: self.joined,
            paid: self.paid(),
            others: self.commons.charged_links().saturating_sub(self.told),
        }
    }

    /// Returns the number of links that announcements are paid for.
    fn paid(&self) -> usize {
        usize::try_from(self.joined_by.held_evenly()).unwrap_or(usize::MAX)
    }

    /// Updates the commons after a change in the number of links that get announcements.
    fn share_told(&mut self) {
        let paid = self.paid();
        self.commons.set_charged_links(self.told, paid);
        self.told = paid;
    }

    /// Returns the next action that has to be done.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Refuses dials from now on, and ends some of the existing dials with an explanation. Returns whether there are
    /// more.
    pub(crate) fn shut_down(&mut self) -> bool {
        self.is_stopping = true;
        for _ in 0..ENDED_AT_ONCE {
            let Some(dial_id) = self.dials.first() else {
                return false;
            };
            self.end_dial(&dial_id, Refusal::ShuttingDown, DialEnd::ShuttingDown);
        }
        true
    }

    /// Returns up to `max` of the joined addresses, starting at `from`.
    pub(crate) fn addresses_from(&self, from: &str, max: usize) -> Vec<Arc<str>> {
        self.peers.addresses_from(from).take(max).cloned().collect()
    }

    /// Returns the same addresses with their links and their grants.
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

    /// Removes and returns the grants of joins that are over. The caller drops them when it holds no lock.
    pub(crate) fn take_over(&mut self) -> Vec<Arc<Grant>> {
        std::mem::take(&mut self.over)
    }

    /// Returns whether an address is joined on a link.
    pub(crate) fn has_joined(&self, link: LinkId) -> bool {
        let link = self.links.get(&link);
        link.is_some_and(|link| !link.joins.is_empty())
    }

    /// Returns the number of addresses that are joined.
    pub(crate) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Returns the number of open links.
    pub(crate) fn link_count(&self) -> usize {
        self.links.len()
    }

    /// Returns the next link whose number of dials has changed, with the number of dials from it, pending ones
    /// included.
    pub(crate) fn poll_dialled(&mut self) -> Option<(LinkId, usize)> {
        self.dialled.pop_first()
    }

    /// Returns the number of dials that are pending or open.
    pub(crate) fn dial_count(&self) -> usize {
        self.dials.len()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// Counts something that was refused elsewhere.
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
