//! Joins: which address belongs to which link.

use std::{
    collections::BTreeMap,
    ops::Bound::{self, Excluded, Unbounded},
    sync::Arc,
    time::{Duration, Instant},
};

use multiaddr::Multiaddr;

use super::{
    Action, Announced, DeadlineKind, FEW, LinkId, Refusal, Registry, Settings, Welcome,
    gone::Left,
    sample::Sample,
    turns::{Called, Turn},
    welcome::Others,
};
use crate::{
    StarAddr,
    address::{MAX_WIRE_LEN, names_are_names},
    protocol::event::{Event, JoinAnswer},
    rendezvous::{
        access::Grant,
        challenge::{Challenge, Check, Checked, ClaimCheck, KeyCheck, Proof, SignatureCheck},
        ids,
        origin::{Claimant, Origin},
        usage::{CountedJoin, Meter},
    },
    words::{self, Words},
};
#[cfg(feature = "cluster")]
use crate::{protocol::nonce::Stamp, rendezvous::cluster::PeerRecord};

/// The number of peers that the answer to a join names at most. A newcomer's queue is not to be filled with them, and
/// the others are announced to it soon.
const MAX_LIST: usize = 256;
/// The number of peers beyond which all that join at about the same time are given the same list: picking another one
/// takes longer than all the rest of a join.
const MANY: usize = 4 * MAX_LIST;
/// How long such a list is used.
const SAMPLE_AGE: Duration = Duration::from_millis(50);
/// How soon a peer that has come back is announced to the links that have not heard of it, where there are many links.
const BACK_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Peer {
    link: LinkId,
    /// The origin from which it has joined.
    origin: Origin,
    /// Its position among the peers of its origin.
    place: usize,
    /// The number of its join.
    join: u64,
    /// The number of the request to join by which it has this address.
    request: u64,
    /// The number of the join up to which links have been told of it, if any have been.
    told: Option<u64>,
    /// The time of its last announcement, or of its join if it has not been announced yet.
    told_at: Instant,
    /// The turn in which it is announced next.
    turn: Turn,
    /// When it is announced to all links, if before that it is announced only to those that have not heard of it.
    then: Option<Instant>,
    /// Its seat among the peers that are counted, if what it sends is counted.
    seat: Option<Box<CountedJoin>>,
    /// The record that the other nodes have of it, with the stamp of its join.
    #[cfg(feature = "cluster")]
    record: Option<(Arc<PeerRecord>, Stamp)>,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    by_address: BTreeMap<Arc<str>, Peer>,
    by_origin: Sample,
    /// The list that newcomers are given, and the time until which it is used.
    latest: Option<(Instant, Arc<Others>)>,
}

impl Peers {
    pub(super) fn owner(&self, address: &str) -> Option<LinkId> {
        self.by_address.get(address).map(|peer| peer.link)
    }

    /// Returns whether another link has an address, by a later request than this one.
    fn is_taken_since(&self, address: &str, link: LinkId, request: u64) -> bool {
        let peer = self.by_address.get(address);
        peer.is_some_and(|peer| peer.link != link && peer.request > request)
    }

    fn set_request(&mut self, address: &str, request: u64) {
        if let Some(peer) = self.by_address.get_mut(address) {
            peer.request = request;
        }
    }

    /// Returns the meter that counts what the peer at an address sends.
    pub(super) fn meter(&self, address: &str) -> Option<Arc<Meter>> {
        let seat = self.by_address.get(address)?.seat.as_ref()?;
        Some(seat.meter().clone())
    }

    fn set_seat(&mut self, address: &str, seat: CountedJoin) {
        if let Some(peer) = self.by_address.get_mut(address) {
            peer.seat = Some(Box::new(seat));
        }
    }

    /// Returns the record that the other nodes have of an address, with the stamp of its join.
    #[cfg(feature = "cluster")]
    pub(super) fn record(&self, address: &str) -> Option<&(Arc<PeerRecord>, Stamp)> {
        self.by_address.get(address)?.record.as_ref()
    }

    #[cfg(feature = "cluster")]
    pub(super) fn set_record(&mut self, address: &str, record: Arc<PeerRecord>, stamp: Stamp) {
        if let Some(peer) = self.by_address.get_mut(address) {
            peer.record = Some((record, stamp));
        }
    }

    pub(super) fn addresses_from(&self, from: &str) -> impl Iterator<Item = &Arc<str>> {
        self.joined_from(from).map(|(address, _)| address)
    }

    pub(super) fn joined_from(&self, from: &str) -> impl Iterator<Item = (&Arc<str>, LinkId)> {
        let range = self
            .by_address
            .range::<str, _>((Bound::Included(from), Unbounded));
        range.map(|(address, peer)| (address, peer.link))
    }

    pub(super) fn len(&self) -> usize {
        self.by_origin.len()
    }

    #[cfg(test)]
    pub(super) fn origins(&self) -> Vec<Origin> {
        self.by_origin.origins()
    }

    fn add(&mut self, claimant: &Claimant, address: Arc<str>, peer: Peer) {
        let place = self.by_origin.add(claimant, address.clone());
        self.by_address.insert(address, Peer { place, ..peer });
    }

    fn remove(&mut self, address: &str) -> Option<(Arc<str>, Peer)> {
        let (address, peer) = self.by_address.remove_entry(address)?;
        if let Some(moved) = self.by_origin.remove(peer.origin, peer.place)
            && let Some(moved) = self.by_address.get_mut(&moved)
        {
            moved.place = peer.place;
        }
        Some((address, peer))
    }
}

/// The next step of a request to join.
enum Step {
    Check(Check),
    Challenge(String),
    Join,
}

impl Registry {
    pub(super) fn join(
        &mut self,
        link: LinkId,
        address: String,
        data: String,
        ack: u64,
        now: Instant,
    ) -> Option<Check> {
        match self.join_step(link, &address, data, ack, now) {
            Ok(Step::Check(check)) => return Some(check),
            Ok(Step::Challenge(nonce)) => self.send(link, JoinAnswer::Nonce(nonce).encode(ack)),
            Ok(Step::Join) => {
                let request = self.next_request();
                self.joined(link, address, request, None, ack, now);
            }
            Err(refusal) => self.join_refused(link, ack, refusal, now),
        }
        None
    }

    fn join_step(
        &mut self,
        link: LinkId,
        address: &str,
        data: String,
        ack: u64,
        now: Instant,
    ) -> Result<Step, Refusal> {
        if !self.may_join(address) {
            return Err(Refusal::InvalidMultiaddr);
        }
        self.check_join_limit(link, address, now)?;
        #[cfg(feature = "cluster")]
        if let Some(check) = self.join_as_guest(link, address, &data, ack) {
            self.check_join_rate(link, now)?;
            return check.map(Step::Check);
        }
        if self.settings.challenge {
            return self.challenge_step(link, address, data, ack, now);
        }
        self.check_join_rate(link, now)?;
        // The latest join gets the address: the old link may be dead without the server knowing.
        Ok(match self.settings.access {
            true => Step::Check(Check::Claim(ClaimCheck {
                address: address.to_owned(),
                ack,
                number: self.next_request(),
            })),
            false => Step::Join,
        })
    }

    /// Returns the next step of a request to join with a challenge: `data` is the key, or the signature of the nonce that
    /// was sent before.
    fn challenge_step(
        &mut self,
        link: LinkId,
        address: &str,
        data: String,
        ack: u64,
        now: Instant,
    ) -> Result<Step, Refusal> {
        if data.is_empty() {
            return Err(Refusal::NoKey);
        }
        let state = self.links.get_mut(&link);
        let challenges = state.map(|state| &mut state.challenges);
        let address = address.to_owned();
        let Some((mut challenge, expiry)) = challenges.and_then(|open| open.remove(&address))
        else {
            // The rate is checked before any work is done. It covers the signature, too: each nonce is good for one.
            self.check_join_rate(link, now)?;
            let key = data;
            let nonces = self.settings.nonces.clone();
            return Ok(Step::Check(Check::Key(KeyCheck {
                address,
                ack,
                key,
                nonces,
            })));
        };
        self.deadlines
            .remove(&(expiry, DeadlineKind::Challenge(link, challenge.number)));
        if challenge.has_key(&data) {
            // A peer that gave up waiting for its nonce begins anew.
            self.check_join_rate(link, now)?;
            challenge.renew(&self.settings.nonces, &address);
            return Ok(Step::Challenge(
                self.open_challenge(link, address, challenge, now),
            ));
        }
        // A nonce is good for one answer, right or wrong.
        Ok(Step::Check(Check::Signature(SignatureCheck {
            address,
            ack,
            challenge,
            signature: data,
            number: self.next_request(),
        })))
    }

    /// Returns whether any peer may join under an address.
    pub(super) fn may_join(&self, address: &str) -> bool {
        let Settings {
            strict_multiaddr,
            public_names,
            ..
        } = &self.settings;
        is_valid(address, *strict_multiaddr) && public_names.admit(address)
    }

    fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    fn check_join_limit(
        &mut self,
        link: LinkId,
        address: &str,
        now: Instant,
    ) -> Result<(), Refusal> {
        let Some(state) = self.links.get_mut(&link) else {
            return Ok(());
        };
        state.challenges.retain(|_, (_, expiry)| *expiry > now);
        let is_new = !state.joins.contains(address) && !state.challenges.contains_key(address);
        if is_new && state.joins.len() + state.challenges.len() >= self.settings.joins {
            return Err(Refusal::TooManyJoins);
        }
        Ok(())
    }

    fn open_challenge(
        &mut self,
        link: LinkId,
        address: String,
        mut challenge: Box<Challenge>,
        now: Instant,
    ) -> String {
        let nonce = challenge.nonce.clone();
        let expiry = now + self.settings.join_timeout;
        if let Some(state) = self.links.get_mut(&link) {
            challenge.number = self.challenges;
            self.challenges += 1;
            self.deadlines
                .insert((expiry, DeadlineKind::Challenge(link, challenge.number)));
            state.challenges.insert(address, (challenge, expiry));
        }
        nonce
    }

    /// Forgets a challenge that was not answered in time.
    pub(super) fn challenge_timed_out(&mut self, link: LinkId, number: u64) {
        if let Some(state) = self.links.get_mut(&link) {
            state
                .challenges
                .retain(|_, (challenge, _)| challenge.number != number);
        }
    }

    pub(super) fn join_checked(&mut self, link: LinkId, checked: Checked, now: Instant) {
        let Checked {
            address,
            ack,
            number,
            result,
            grant,
        } = checked;
        match result {
            Ok(Proof::Key(challenge)) => {
                let nonce = self.open_challenge(link, address, challenge, now);
                self.send(link, JoinAnswer::Nonce(nonce).encode(ack));
            }
            #[cfg(feature = "cluster")]
            Ok(Proof::Guest(stamp)) => match self.is_newest(&address, stamp) {
                true => self.guest_joined(link, address, ack),
                false => self.join_refused(link, ack, Refusal::NotAuthorized, now),
            },
            // The application was not asked about this peer, so the peer has not been let in.
            Ok(_) if self.settings.access && grant.is_none() => {
                let refusal = Refusal::NotAllowed(String::new());
                self.join_refused(link, ack, refusal, now);
            }
            // The latest request gets the address, not the one whose decision took longest.
            Ok(_) if self.settings.access && self.peers.is_taken_since(&address, link, number) => {
                self.over.extend(grant);
                self.join_refused(link, ack, Refusal::Overtaken, now);
            }
            #[cfg(feature = "cluster")]
            Ok(Proof::Possession(challenge)) => {
                let proof = self.remotes.is_some().then(|| challenge.join_proof());
                self.joined(link, address.clone(), number, grant, ack, now);
                if let Some(proof) = proof {
                    self.publish(link, &address.into(), proof);
                }
            }
            #[cfg(not(feature = "cluster"))]
            Ok(Proof::Possession(_)) => self.joined(link, address, number, grant, ack, now),
            Ok(Proof::Claim) => self.joined(link, address, number, grant, ack, now),
            Err(error) => self.join_refused(link, ack, error, now),
        }
    }

    fn join_refused(&mut self, link: LinkId, ack: u64, refusal: Refusal, now: Instant) {
        self.counters.joins_refused += 1;
        self.answer(link, ack, Err(refusal));
        self.refused(link, now);
    }

    /// Gives `address` to `link`, whichever link had it: the link has proved its key, or needs no proof.
    fn joined(
        &mut self,
        link: LinkId,
        address: String,
        request: u64,
        grant: Option<Arc<Grant>>,
        ack: u64,
        now: Instant,
    ) {
        let address: Arc<str> = address.into();
        let Some((is_first, claimant)) = self.add_join(link, &address, grant) else {
            return;
        };
        let owner = self.peers.owner(&address);
        let others = self.others(&address, owner.is_some(), now);
        let has_all = others.count() + usize::from(owner.is_some()) >= self.all_peers();
        if is_first {
            self.joined += 1;
            self.joined_by.take(&claimant, 1);
            self.share_told();
        }
        self.take_address(link, &claimant, &address, owner, now);
        if self.settings.access {
            self.peers.set_request(&address, request);
        }
        if owner != Some(link) {
            self.count_peer(&claimant, &address);
        }
        let is_new = owner.is_none() && self.joined <= FEW;
        if is_first {
            // A link that was not given all peers hears of every peer that is announced.
            let since = if has_all { self.joins } else { 0 };
            self.actions.push_back(Action::Joined { link, since });
        }
        self.actions.push_back(Action::Welcome {
            to: link,
            welcome: Welcome::new(ack, others),
            after_news: is_new,
        });
    }

    /// Adds the address to those of the link. Returns whether it is the first one there, and who has the link; `None` if
    /// the link is gone.
    fn add_join(
        &mut self,
        link: LinkId,
        address: &Arc<str>,
        grant: Option<Arc<Grant>>,
    ) -> Option<(bool, Claimant)> {
        let Some(state) = self.links.get_mut(&link) else {
            self.over.extend(grant);
            return None;
        };
        if let Some(deadline) = state.first_join.take() {
            self.deadlines
                .remove(&(deadline, DeadlineKind::FirstJoin(link)));
        }
        let (is_first, claimant) = (state.joins.is_empty(), state.claimant);
        state.joins.insert(address.clone());
        let before = grant.and_then(|grant| state.grants.insert(address.clone(), grant));
        self.over.extend(before);
        self.joins += 1;
        self.counters.joins += 1;
        Some((is_first, claimant))
    }

    /// Takes the address from its owner, if it is another link, and gives it to `link`.
    fn take_address(
        &mut self,
        link: LinkId,
        claimant: &Claimant,
        address: &Arc<str>,
        owner: Option<LinkId>,
        now: Instant,
    ) {
        match owner {
            Some(owner) if owner == link => {}
            Some(owner) => {
                self.leave_address(owner, address);
                self.move_peer(link, claimant, address, now);
                let event = Event::Displaced {
                    address: address.to_string(),
                };
                self.send(owner, event.encode(None));
                tracing::debug!(%link, from = %owner, peer = %Words(address), "a peer has moved");
            }
            None => {
                #[cfg(feature = "cluster")]
                self.forget_remote(address);
                self.add_peer(link, claimant, address, now);
            }
        }
    }

    /// Counts from now on what the peer at an address sends.
    fn count_peer(&mut self, claimant: &Claimant, address: &str) {
        if let Some(usage) = &self.usage {
            // Without a proof, a peer may name any other peer in its address.
            let proved = ids::peer_in(address).filter(|_| self.settings.challenge);
            let seat = match proved {
                Some(peer) => usage.enter(peer, claimant.client),
                None => usage.enter_unnamed(),
            };
            self.peers.set_seat(address, seat);
        }
    }

    /// Checks the rate of joins. A join that succeeds costs every other link a write and the server a list; any join
    /// costs two checks.
    fn check_join_rate(&mut self, link: LinkId, now: Instant) -> Result<(), Refusal> {
        let rate = self.settings.join_rate;
        let Some(state) = self.links.get_mut(&link) else {
            return Ok(());
        };
        let fits =
            state.join_rate.try_spend(rate, now) && self.commons.try_join(&state.claimant, now);
        fits.then_some(()).ok_or(Refusal::JoinRate)
    }

    /// Moves a peer to its newest link, and counts it for that link's origin. The other peers know it already.
    fn move_peer(&mut self, link: LinkId, claimant: &Claimant, address: &str, now: Instant) {
        let Some((address, peer)) = self.peers.remove(address) else {
            return;
        };
        self.turns.remove(peer.origin, peer.turn);
        let turn = match peer.told {
            None => self.turns.add_news(claimant, address.clone(), now),
            Some(_) => {
                let due = peer.turn.due;
                self.turns.add_known(claimant, address.clone(), due)
            }
        };
        let peer = Peer {
            link,
            origin: claimant.origin,
            turn,
            ..peer
        };
        self.peers.add(claimant, address, peer);
    }

    fn add_peer(&mut self, link: LinkId, claimant: &Claimant, address: &Arc<str>, now: Instant) {
        let back = self.gone.take(address);
        // The others may have forgotten a peer that was away for longer.
        let forgotten = self.turns.round() * 2;
        let back = back.filter(|left| left.told_at + forgotten >= now);
        let (turn, told, then) = match back {
            None => {
                let turn = self.turns.add_news(claimant, address.clone(), now);
                (turn, None, None)
            }
            Some(Left { told, due, .. }) => {
                let turn = match self.joined <= FEW {
                    // Links that have not heard of it hear of it as of any newcomer: before its join is answered.
                    true => self.turns.add_news(claimant, address.clone(), now),
                    false => {
                        let soon = due.min(now + BACK_PAUSE);
                        self.turns.add_known(claimant, address.clone(), soon)
                    }
                };
                (turn, Some(told), Some(due))
            }
        };
        let peer = Peer {
            link,
            origin: claimant.origin,
            place: 0,
            join: self.joins,
            request: 0,
            told,
            told_at: back.map_or(now, |left| left.told_at),
            turn,
            then,
            seat: None,
            #[cfg(feature = "cluster")]
            record: None,
        };
        self.peers.add(claimant, address.clone(), peer);
        if self.joined <= FEW {
            self.announce(now);
        }
        tracing::debug!(%link, peer = %Words(address), "a peer has joined");
    }

    pub(super) fn leave(&mut self, link: LinkId, address: &str) {
        if self.leave_address(link, address) {
            self.forget_peer(address);
            tracing::debug!(%link, peer = %Words(address), "a peer has left");
        }
    }

    /// Takes an address away from a link; returns `false` if the link did not have it, or is not a client's.
    pub(super) fn leave_address(&mut self, link: LinkId, address: &str) -> bool {
        let Some(state) = self.links.get_mut(&link) else {
            return false;
        };
        let had = state.joins.remove(address);
        self.over.extend(state.grants.remove(address));
        if !state.is_clients() {
            return false;
        }
        let was_last = had && state.joins.is_empty();
        let origin = state.claimant.origin;
        #[cfg(feature = "cluster")]
        self.forget_on_ways(link, address);
        if was_last {
            self.has_left(link, origin);
        }
        had
    }

    /// Handles a link that has no address any more.
    pub(super) fn has_left(&mut self, link: LinkId, origin: Origin) {
        self.joined -= 1;
        self.joined_by.release(origin, 1);
        self.share_told();
        self.actions.push_back(Action::Left(link));
    }

    pub(super) fn forget_peer(&mut self, address: &str) {
        let Some((address, peer)) = self.peers.remove(address) else {
            return;
        };
        self.turns.remove(peer.origin, peer.turn);
        #[cfg(feature = "cluster")]
        self.unpublish(&address, peer.record.is_some());
        // Links that have joined meanwhile were given it in their list, unless it was not announced since it came back.
        let (told, due) = match (peer.told, peer.then) {
            (None, _) => return,
            (Some(told), Some(due)) => (told, due),
            (Some(_), None) => (self.joins, peer.turn.due),
        };
        let told_at = peer.told_at;
        self.gone.insert(address, Left { told, told_at, due });
    }

    /// Announces the peers whose turn has come.
    pub(super) fn announce(&mut self, now: Instant) {
        let called = self.turns.poll(self.audience(), now);
        let announced = called
            .into_iter()
            .filter_map(|called| self.call(called, now));
        let announced: Vec<_> = announced.collect();
        if !announced.is_empty() {
            self.actions.push_back(Action::Announce(announced));
        }
    }

    /// Returns the announcement of a peer whose turn has come, and schedules the peer's next turn.
    fn call(&mut self, called: Called, now: Instant) -> Option<Announced> {
        #[cfg(feature = "cluster")]
        if !self.peers.by_address.contains_key(&called.address) {
            return self.call_remote(&called, now);
        }
        let Called { address, turn } = called;
        let peer = self.peers.by_address.get_mut(&address)?;
        let (hears, due) = match (peer.told, peer.then.take()) {
            // Links that have joined since and were given all peers have it in their list.
            (None, _) => (
                (Unbounded, Excluded(peer.join)),
                turn.due + self.turns.interval(),
            ),
            (Some(told), Some(due)) if due > turn.due => ((Excluded(told), Unbounded), due),
            (Some(_), _) => ((Unbounded, Unbounded), turn.due + self.turns.interval()),
        };
        peer.told = Some(self.joins);
        peer.told_at = now;
        // If it was a little late, it is on time again. If it was very late, it goes behind all others.
        peer.turn = self.turns.again(peer.origin, address.clone(), due.max(now));
        let event = Event::Peer {
            address: address.to_string(),
        };
        Some(Announced {
            link: peer.link,
            hears,
            text: event.encode(None),
        })
    }

    /// Returns how many peers there are, those at other nodes included.
    fn all_peers(&self) -> usize {
        #[cfg(feature = "cluster")]
        return self.peers.len() + self.remote_peers();
        #[cfg(not(feature = "cluster"))]
        self.peers.len()
    }

    /// Returns a fair sample of the peers beside `address`, as many as an answer names. With very many peers, it may
    /// name one that left a moment ago.
    fn others(&mut self, address: &str, is_known: bool, now: Instant) -> Arc<Others> {
        let is_shared = !is_known && self.peers.len() > MANY;
        if is_shared
            && let Some((until, latest)) = &self.peers.latest
            && now < *until
        {
            return latest.clone();
        }
        let mut sample = self.peers.by_origin.pick(MAX_LIST + 1, rand::random());
        sample.retain(|other| **other != *address);
        sample.truncate(MAX_LIST);
        #[cfg(feature = "cluster")]
        self.add_remotes(&mut sample, MAX_LIST);
        let others = Arc::new(Others::new(sample));
        if is_shared {
            self.peers.latest = Some((now + SAMPLE_AGE, others.clone()));
        }
        others
    }
}

/// Returns whether an address is valid for a join.
fn is_valid(address: &str, strict: bool) -> bool {
    if !strict {
        let parsed = address.parse::<Multiaddr>();
        return address.len() <= MAX_WIRE_LEN
            && words::is_plain(address)
            && parsed.is_ok_and(|parsed| names_are_names(&parsed));
    }
    // The deployed peers know neither `/p2p/<id>` nor `/tls`.
    let base_and_id = address.rsplit_once("/ipfs/");
    base_and_id.is_some_and(|(base, _)| !base.contains("/tls/"))
        && StarAddr::from_wire(address).is_ok_and(|address| address.peer().is_some())
}
