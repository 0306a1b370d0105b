//! Joins: which address belongs to which link.

use std::{collections::HashMap, sync::Arc, time::Instant};

use multiaddr::Multiaddr;

use super::{Action, Announced, DeadlineKind, LinkId, Refusal, Registry, announce::Turn};
use crate::{
    StarAddr,
    protocol::event::{Event, JoinAnswer},
    rendezvous::challenge::{Challenge, Check, Checked, KeyCheck, Proof, SignatureCheck},
};

/// The longest address that is taken, in bytes; as [`StarAddr::from_wire`].
const MAX_ADDRESS: usize = 512;
/// How many bytes the list of peers in the answer to a join may take: it is no reason to fill a
/// newcomer's queue. The others are announced to it soon.
const MAX_LIST: usize = 256 * 1024;

#[derive(Debug, Clone, Copy)]
struct Peer {
    link: LinkId,
    /// When it is announced again.
    turn: Turn,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    by_address: HashMap<Arc<str>, Peer>,
}

impl Peers {
    pub(super) fn owner(&self, address: &str) -> Option<LinkId> {
        self.by_address.get(address).map(|peer| peer.link)
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.by_address.keys().map(|address| &**address)
    }

    fn give(&mut self, address: &str, link: LinkId) {
        if let Some(peer) = self.by_address.get_mut(address) {
            peer.link = link;
        }
    }
}

/// What a request to join comes to.
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
            Ok(Step::Join) => self.joined(link, address, ack, now),
            Err(refusal) => self.join_refused(link, ack, refusal),
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
        if !is_valid(address, self.settings.strict_multiaddr) {
            return Err(Refusal::InvalidMultiaddr);
        }
        self.check_join_limit(link, address, now)?;
        if !self.settings.challenge {
            return match self.peers.owner(address) {
                Some(owner) if owner != link => Err(Refusal::Taken),
                _ => Ok(Step::Join),
            };
        }
        if data.is_empty() {
            return Err(Refusal::NoKey);
        }
        let state = self.links.get_mut(&link);
        let challenges = state.map(|state| &mut state.challenges);
        let address = address.to_owned();
        let Some((mut challenge, _)) = challenges.and_then(|open| open.remove(&address)) else {
            let key = data;
            return Ok(Step::Check(Check::Key(KeyCheck { address, ack, key })));
        };
        if challenge.key_text == data {
            // A peer that gave up waiting for its nonce begins anew.
            challenge.renew();
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
        })))
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
        challenge: Box<Challenge>,
        now: Instant,
    ) -> String {
        let nonce = challenge.nonce.clone();
        let expiry = now + self.settings.join_timeout;
        if let Some(state) = self.links.get_mut(&link) {
            state.challenges.insert(address, (challenge, expiry));
        }
        nonce
    }

    pub(super) fn join_checked(&mut self, link: LinkId, checked: Checked, now: Instant) {
        let Checked {
            address,
            ack,
            result,
        } = checked;
        match result {
            Ok(Proof::Key(challenge)) => {
                let nonce = self.open_challenge(link, address, challenge, now);
                self.send(link, JoinAnswer::Nonce(nonce).encode(ack));
            }
            Ok(Proof::Possession) => self.joined(link, address, ack, now),
            Err(error) => self.join_refused(link, ack, error),
        }
    }

    fn join_refused(&mut self, link: LinkId, ack: u64, refusal: Refusal) {
        self.counters.joins_refused += 1;
        self.answer(link, ack, Err(refusal));
    }

    /// Gives `address` to `link`, whoever had it: the link has proved its key.
    fn joined(&mut self, link: LinkId, address: String, ack: u64, now: Instant) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if let Some(deadline) = state.first_join.take() {
            self.deadlines
                .remove(&(deadline, DeadlineKind::FirstJoin(link)));
        }
        let address: Arc<str> = address.into();
        state.joins.insert(address.clone());
        match self.peers.owner(&address) {
            Some(owner) if owner == link => {}
            Some(owner) => {
                if let Some(state) = self.links.get_mut(&owner) {
                    state.joins.remove(&address);
                }
                self.peers.give(&address, link);
                let event = Event::Displaced {
                    address: address.to_string(),
                };
                self.send(owner, event.encode(None));
                tracing::debug!(%link, from = %owner, peer = %address, "a peer has moved");
            }
            None => {
                let turn = self.announcements.add(address.clone(), now);
                let peer = Peer { link, turn };
                self.peers.by_address.insert(address.clone(), peer);
                self.announce_newcomers(now);
                tracing::debug!(%link, peer = %address, "a peer has joined");
            }
        }
        self.counters.joins += 1;
        let others = self.others(&address);
        self.send(link, JoinAnswer::Joined(others).encode(ack));
    }

    pub(super) fn leave(&mut self, link: LinkId, address: &str) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if state.joins.remove(address) {
            self.forget_peer(address);
            tracing::debug!(%link, peer = %address, "a peer has left");
        }
    }

    pub(super) fn forget_peer(&mut self, address: &str) {
        if let Some(peer) = self.peers.by_address.remove(address) {
            self.announcements.remove(peer.turn);
        }
    }

    /// Announces those whose turn has come.
    pub(super) fn announce(&mut self, now: Instant) {
        self.announce_newcomers(now);
        let repeats = self.announcements.poll_repeats(self.links.len(), now);
        let mut announced = Vec::with_capacity(repeats.len());
        for repeat in repeats {
            if let Some(peer) = self.peers.by_address.get_mut(&repeat.address) {
                peer.turn = repeat.turn;
                announced.push(Announced::new(&repeat.address, peer.link));
            }
        }
        self.push_announcements(announced, false);
    }

    fn announce_newcomers(&mut self, now: Instant) {
        let newcomers = self.announcements.poll_newcomers(now);
        let announced = newcomers.iter().filter_map(|address| {
            let link = self.peers.owner(address)?;
            Some(Announced::new(address, link))
        });
        let announced = announced.collect();
        self.push_announcements(announced, true);
    }

    fn push_announcements(&mut self, peers: Vec<Announced>, newcomers: bool) {
        if !peers.is_empty() {
            self.actions
                .push_back(Action::Announce { peers, newcomers });
        }
    }

    /// The addresses beside `address`, as many as an answer may hold.
    fn others(&self, address: &str) -> Vec<String> {
        let mut room = MAX_LIST;
        let latest = self.announcements.latest();
        latest
            .filter(|other| ***other != *address)
            .map(|other| other.to_string())
            .take_while(|other| {
                room = room.saturating_sub(other.len() + 3);
                room > 0
            })
            .collect()
    }
}

/// Whether an address may be joined.
fn is_valid(address: &str, strict: bool) -> bool {
    if !strict {
        return address.len() <= MAX_ADDRESS && address.parse::<Multiaddr>().is_ok();
    }
    // The deployed peers know neither `/p2p/<id>` nor `/tls`.
    let base_and_id = address.rsplit_once("/ipfs/");
    base_and_id.is_some_and(|(base, _)| !base.contains("/tls/"))
        && StarAddr::from_wire(address).is_ok_and(|address| address.peer().is_some())
}
