//! Commands to an open link, and the events of its session: joins, dials, peers.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use libp2p_identity::PeerId;

use super::Active;
use crate::{
    address::StarAddr,
    channel::Channel,
    connection::Connection,
    discovery::{self, Place},
    error::{DialError, JoinError},
    link::{Command, LinkEvent, driver::Change},
    protocol::{
        event::{DialId, Side},
        session::Output,
        stream::StreamError,
    },
    sync::lock,
};

/// The maximum number of spellings that are tried for one dial. A rendezvous may announce more and more of them.
const MAX_ASKED_FOR: usize = 8;
/// The maximum number of incoming connections that wait for the transport to be polled.
const MAX_EVENTS: usize = 256;

impl Active<'_> {
    pub(super) fn handle_command(&mut self, command: Command) {
        match self.driver.apply(command) {
            Change::Listen(address) => self.session.listen(self.now, &address),
            Change::Leave(address) => {
                self.session.leave(&address);
                self.note_joined();
            }
            Change::Dial(dial_id) => self.start_dial(dial_id),
            Change::CancelDial(dial_id) => {
                self.session.cancel_dial(&dial_id);
                self.abandon(&dial_id, "the dial was cancelled");
            }
            Change::None => {}
        }
    }

    pub(super) fn start_dial(&mut self, dial_id: DialId) {
        if self.channels.len() >= self.driver.context.connections {
            return self.finish_dial(&dial_id, Err(DialError::TooMany));
        }
        // The dial would have to join for itself.
        if !self.session.has_joins()
            && let Some(error) = self.driver.refusal(self.now)
        {
            return self.finish_dial(&dial_id, Err(DialError::Join(error)));
        }
        if self.ask_for(&dial_id) {
            self.open_channel(dial_id, Side::Dialer);
        }
    }

    /// Asks the rendezvous for a peer under the spellings that were not tried yet. Returns `false` if there are none.
    fn ask_for(&mut self, dial_id: &DialId) -> bool {
        let Some(dial) = self.driver.users.dials.get_mut(dial_id) else {
            return false;
        };
        let here = &self.driver.rendezvous;
        let mut spellings = lock(&self.driver.mailbox.spellings).of(&dial.to, here);
        spellings.retain(|spelling| !dial.asked_for.contains(spelling));
        spellings.truncate(MAX_ASKED_FOR.saturating_sub(dial.asked_for.len()));
        if spellings.is_empty() {
            return false;
        }
        dial.asked_for.extend(spellings.iter().cloned());
        let to = dial.to.with_rendezvous(here);
        let timeout = self.driver.context.settings.dial_timeout;
        let deadline = *dial.deadline.get_or_insert(self.now + timeout);
        let id = dial_id.clone();
        self.session.dial(self.now, deadline, id, &to, spellings);
        true
    }

    fn open_channel(&mut self, dial_id: DialId, side: Side) -> Arc<Channel> {
        let (budgets, ready) = (
            self.driver.context.budgets,
            self.driver.mailbox.ready.clone(),
        );
        let stream = self.counts.open_stream();
        let channel = Channel::new(dial_id, side, budgets, ready, stream);
        self.channels.insert(channel.clone());
        channel
    }

    /// Ends the streams of a failed dial, because the rendezvous may have opened them.
    fn abandon(&mut self, dial_id: &DialId, reason: &str) {
        if let Some(channel) = self.channels.get(dial_id.as_str()) {
            channel.abort(StreamError::Stopped, reason);
        }
    }

    pub(super) fn handle_outputs(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Joined { address } => self.handle_joined(&address),
                Output::JoinFailed { error, .. }
                    if error == JoinError::StaleChallenge && self.channels.is_empty() =>
                {
                    self.stale = true;
                }
                Output::JoinFailed { address, error } => self.handle_join_failed(&address, error),
                // The answer to the join may have announced the peer's own spelling.
                Output::Dialed {
                    dial_id,
                    result: Err(DialError::PeerNotFound),
                } if self.ask_for(&dial_id) => {}
                Output::Dialed { dial_id, result } => self.handle_dialed(&dial_id, result),
                Output::Incoming { dial_id, from, ack } => self.handle_dial(dial_id, &from, ack),
                Output::Peer(address) => self.handle_peer(&address),
            }
        }
    }

    /// Counts the listeners that have joined.
    fn note_joined(&self) {
        let listeners = self.driver.users.listeners.iter();
        let joined = listeners.filter(|(_, listener)| listener.is_joined());
        self.counts.set_joined(joined.count());
    }

    fn handle_joined(&mut self, address: &StarAddr) {
        lock(&self.driver.context.refusals).forget(&self.driver.rendezvous);
        if let Some((listener, state)) = self.driver.users.listener_at(address) {
            state.joined(self.now);
            self.driver.events.push(LinkEvent::Joined(listener));
            self.driver.context.counts.joins.fetch_add(1, Relaxed);
        }
        self.note_joined();
    }

    fn note_refusal(&self, error: &JoinError) {
        lock(&self.driver.context.refusals).note(&self.driver.rendezvous, error, self.now);
    }

    fn handle_join_failed(&mut self, address: &StarAddr, error: JoinError) {
        self.note_refusal(&error);
        let Some((listener, state)) = self.driver.users.listener_at(address) else {
            return;
        };
        state.failed(self.now, &error);
        self.driver
            .context
            .counts
            .joins_failed
            .fetch_add(1, Relaxed);
        let permanent = error.is_permanent();
        let error = self.driver.join_error(error);
        if permanent {
            self.driver.users.take_listener(listener);
            self.driver.events.push(LinkEvent::Closed(listener, error));
        } else {
            self.driver.events.push(LinkEvent::Failed(listener, error));
        }
        self.note_joined();
    }

    fn handle_dialed(&mut self, dial_id: &DialId, result: Result<(), DialError>) {
        match &result {
            Err(DialError::PeerNotFound) => self.forget_peer_of(dial_id),
            Err(DialError::Join(error)) => self.note_refusal(error),
            _ => {}
        }
        match result {
            Ok(()) => {
                let Some(channel) = self.channels.get(dial_id.as_str()).cloned() else {
                    return self.finish_dial(dial_id, Err(DialError::Reset));
                };
                self.session.accept_stream(channel.stream(Side::Listener));
                channel.accepting();
                self.finish_dial(dial_id, Ok(channel));
            }
            Err(error) => {
                self.abandon(dial_id, "the dial failed");
                self.finish_dial(dial_id, Err(error));
            }
        }
    }

    fn finish_dial(&mut self, dial_id: &DialId, result: Result<Arc<Channel>, DialError>) {
        let Some(dial) = self.driver.users.dials.remove(dial_id) else {
            // The dial was cancelled. Dropping the connection resets the streams.
            drop(result.map(Connection::new));
            return;
        };
        let result = result
            .map(Connection::new)
            .map_err(|error| self.driver.dial_error(error));
        // The dialer may have gone. Then the connection is dropped, which resets the streams.
        let _ = dial.reply.send(result);
    }

    /// Forgets the peer of a dial. The rendezvous does not know it under any spelling, so it has left.
    fn forget_peer_of(&mut self, dial_id: &DialId) {
        let dial = self.driver.users.dials.get(dial_id);
        if let Some(peer) = dial.and_then(|dial| dial.to.peer()) {
            lock(&self.driver.mailbox.spellings).forget(&peer);
            let announcer = &self.driver.context.announcer;
            announcer.retract(&self.driver.rendezvous, &peer);
        }
    }

    /// Handles an incoming dial.
    fn handle_dial(&mut self, dial_id: DialId, from: &StarAddr, ack: u64) {
        let mut listeners = self.driver.users.listeners.iter();
        let joined = listeners.find(|(_, state)| state.is_joined());
        let reason = if self.channels.get(dial_id.as_str()).is_some() {
            "the dial id is in use"
        } else if self.channels.len() >= self.driver.context.connections {
            "too many connections"
        } else if self.driver.events.len() >= MAX_EVENTS {
            "too many incoming connections"
        } else if let (Some((listener, _)), Some(peer)) = (joined, from.peer()) {
            let listener = *listener;
            self.session.accept(&dial_id, ack);
            self.driver.context.counts.accepted.fetch_add(1, Relaxed);
            let channel = self.open_channel(dial_id, Side::Listener);
            channel.accepting();
            self.driver.events.push(LinkEvent::Incoming {
                listener,
                from: peer,
                connection: Connection::new(channel),
            });
            return;
        } else {
            "not listening"
        };
        self.driver.context.counts.refused.fetch_add(1, Relaxed);
        tracing::debug!(%dial_id, reason, "an incoming dial is refused");
        self.session.refuse(ack, reason);
    }

    /// Handles the announcement of a peer at the rendezvous.
    fn handle_peer(&mut self, address: &StarAddr) {
        let Some(peer) = address.peer() else { return };
        let (here, context) = (&self.driver.rendezvous, &self.driver.context);
        let listening = context.listening.at(here);
        let place = Place {
            rendezvous: here,
            listening,
        };
        let announcer = &context.announcer;
        announcer.announce(place, peer, address.with_rendezvous(here).to_multiaddr());
        let room = discovery::room(context.known_peers, listening);
        let is_listed = |peer: &PeerId| announcer.lists(here, peer);
        lock(&self.driver.mailbox.spellings).note(address, here, room, is_listed);
    }
}
