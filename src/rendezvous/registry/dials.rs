//! Dials: which dial is open between which two links, and who may send what on its streams.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{
    Action, DeadlineKind, DialEnd, ENDED_AT_ONCE, FlowId, Link, LinkId, Refusal, Refused, Registry,
    crowd::{Crowd, Place},
};
use crate::{
    protocol::event::{DialAnswer, DialId, Event, Side, StreamEvent, StreamName},
    rendezvous::usage::Meter,
};

/// Which of a dial's two streams are over. Shared with the links that relay them, so that they need not ask the
/// registry for every item.
#[derive(Debug)]
struct Streams {
    flow: FlowId,
    dialer_over: AtomicBool,
    listener_over: AtomicBool,
}

impl Streams {
    fn new(flow: FlowId) -> Self {
        Self {
            flow,
            dialer_over: AtomicBool::new(false),
            listener_over: AtomicBool::new(false),
        }
    }

    fn flag(&self, sender: Side) -> &AtomicBool {
        match sender {
            Side::Dialer => &self.dialer_over,
            Side::Listener => &self.listener_over,
        }
    }

    /// Ends a stream; returns `false` if it was over already.
    fn end(&self, sender: Side) -> bool {
        !self.flag(sender).swap(true, Ordering::Relaxed)
    }

    fn is_over(&self, sender: Side) -> bool {
        self.flag(sender).load(Ordering::Relaxed)
    }

    fn are_over(&self) -> bool {
        self.is_over(Side::Dialer) && self.is_over(Side::Listener)
    }
}

/// The destination of a link's frames on one stream.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// The link at the other end.
    pub(crate) to: LinkId,
    /// Whether this link may send the stream's items.
    pub(crate) sends: bool,
    /// Whether this link may accept the stream and ask to stop it.
    pub(crate) receives: bool,
    /// The meter that counts what the peer of this link sends, if it is counted.
    pub(crate) meter: Option<Arc<Meter>>,
    sender: Side,
    streams: Arc<Streams>,
}

impl Route {
    /// Returns the number of the dial.
    pub(crate) fn flow(&self) -> FlowId {
        self.streams.flow
    }

    /// Returns whether the stream has ended; what still arrives is dropped.
    pub(crate) fn is_over(&self) -> bool {
        self.streams.is_over(self.sender)
    }

    /// Returns whether both streams of the dial have ended.
    pub(crate) fn is_dial_over(&self) -> bool {
        self.streams.are_over()
    }
}

/// The dials to one link: those that wait for its answer, and all that are not over.
#[derive(Debug)]
pub(super) struct Dialled {
    pending: Crowd,
    open: Crowd,
}

/// A dial that its listener has not answered.
#[derive(Debug, Clone, Copy)]
struct Pending {
    place: Place,
    dialer_ack: u64,
    listener_ack: u64,
    deadline: Instant,
}

/// The meters that count what the peers of a dial send, if that is counted.
#[derive(Debug, Default)]
struct Meters {
    dialer: Option<Arc<Meter>>,
    listener: Option<Arc<Meter>>,
}

impl Meters {
    fn of(&self, sender: Side) -> Option<&Arc<Meter>> {
        match sender {
            Side::Dialer => self.dialer.as_ref(),
            Side::Listener => self.listener.as_ref(),
        }
    }
}

#[derive(Debug)]
struct Dial {
    dialer: LinkId,
    listener: LinkId,
    pending: Option<Pending>,
    /// Its place among all dials to the listener.
    place: Place,
    streams: Arc<Streams>,
    meters: Meters,
    /// Whether the dialer has left its link. The link is told nothing more of the dial, although its number may be in
    /// use again.
    dialer_gone: bool,
    /// The same for the listener.
    listener_gone: bool,
}

impl Dial {
    fn is_gone(&self, link: LinkId) -> bool {
        (self.dialer_gone && link == self.dialer) || (self.listener_gone && link == self.listener)
    }

    /// Returns the state of one peer's link, if that peer has not left it.
    fn link<'a>(
        &self,
        links: &'a mut BTreeMap<LinkId, Box<Link>>,
        id: LinkId,
    ) -> Option<&'a mut Link> {
        let link = links.get_mut(&id).map(|link| &mut **link);
        link.filter(|_| !self.is_gone(id))
    }

    fn sender(&self, side: Side) -> LinkId {
        match side {
            Side::Dialer => self.dialer,
            Side::Listener => self.listener,
        }
    }

    fn is_over(&self) -> bool {
        self.pending.is_none() && self.streams.are_over()
    }
}

/// A dial of a lost link that still has to be ended.
#[derive(Debug)]
pub(super) struct EndedDial {
    dial_id: DialId,
    streams: Arc<Streams>,
    cut: DialEnd,
}

#[derive(Debug, Default)]
pub(super) struct Dials(BTreeMap<DialId, Dial>);

impl Dials {
    /// Returns whether a dial waits for its answer.
    pub(super) fn is_pending(&self, dial_id: &DialId) -> bool {
        let dial = self.0.get(dial_id);
        dial.is_some_and(|dial| dial.pending.is_some())
    }

    /// Returns whether this meter counts what a link sends on a dial.
    pub(super) fn is_counted(&self, dial_id: &DialId, link: LinkId, meter: &Meter) -> bool {
        let Some(dial) = self.0.get(dial_id) else {
            return false;
        };
        [Side::Dialer, Side::Listener].into_iter().any(|side| {
            let own = dial.meters.of(side).filter(|_| dial.sender(side) == link);
            own.is_some_and(|own| own.number() == meter.number())
        })
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(super) fn ids(&self) -> Vec<DialId> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn first(&self) -> Option<DialId> {
        self.0.first_key_value().map(|(id, _)| id.clone())
    }
}

impl Registry {
    /// Returns the destination of what `link` sends on `stream`; `None` if the link has no part in the stream.
    pub(crate) fn route(&self, link: LinkId, stream: StreamName<'_>) -> Option<Route> {
        let dial = self.dials.0.get(stream.dial_id)?;
        if dial.is_gone(link) {
            return None;
        }
        let sends = dial.sender(stream.sender) == link;
        let receives = dial.sender(stream.sender.other()) == link;
        if !sends && !receives {
            return None;
        }
        let to = if dial.dialer == link {
            dial.listener
        } else {
            dial.dialer
        };
        let own = match sends {
            true => stream.sender,
            false => stream.sender.other(),
        };
        Some(Route {
            to,
            sends,
            receives,
            meter: dial.meters.of(own).cloned(),
            sender: stream.sender,
            streams: dial.streams.clone(),
        })
    }

    /// Returns how many dials of a link are not over.
    pub(crate) fn dials_of(&self, link: LinkId) -> usize {
        self.links.get(&link).map_or(0, |link| link.dials.len())
    }

    /// Ends a stream: its sender has ended it, or its receiver has asked to stop it. The other peer knows already.
    pub(crate) fn handle_end(&mut self, link: LinkId, stream: StreamName<'_>) {
        let Some(dial) = self.dials.0.get(stream.dial_id) else {
            return;
        };
        if dial.dialer != link && dial.listener != link {
            return;
        }
        dial.streams.end(stream.sender);
        if dial.is_over() {
            self.forget_dial(stream.dial_id);
        }
    }

    pub(super) fn dial(
        &mut self,
        link: LinkId,
        from: &str,
        to: &str,
        dial_id: DialId,
        ack: u64,
        now: Instant,
    ) {
        let checked = self
            .check_dial_rate(link, now)
            .and_then(|()| self.check_dial(link, from, to, &dial_id))
            .and_then(|listener| self.make_room(link, listener).map(|()| listener));
        match checked {
            Ok(listener) => self.offer_dial(link, listener, (from, to), dial_id, ack, now),
            Err(refusal) => {
                self.counters.dials_failed += 1;
                // The rate of dials bounds all other refusals.
                if refusal == Refusal::DialRate {
                    self.refused(link, now);
                }
                self.answer(link, ack, Err(refusal));
            }
        }
    }

    /// Checks the rate of dials. A dial is work for the server, whatever comes of it.
    fn check_dial_rate(&mut self, link: LinkId, now: Instant) -> Result<(), Refusal> {
        let rate = self.settings.dial_rate;
        let Some(state) = self.links.get_mut(&link) else {
            return Ok(());
        };
        let fits =
            state.dial_rate.try_spend(rate, now) && self.commons.try_dial(&state.claimant, now);
        fits.then_some(()).ok_or(Refusal::DialRate)
    }

    fn check_dial(
        &mut self,
        link: LinkId,
        from: &str,
        to: &str,
        dial_id: &DialId,
    ) -> Result<LinkId, Refusal> {
        if self.is_stopping {
            return Err(Refusal::ShuttingDown);
        }
        if !self.may_dial_from(link, from) {
            return Err(Refusal::NotAuthorized);
        }
        let listener = self.peers.owner(to);
        #[cfg(not(feature = "cluster"))]
        let listener = listener.ok_or(Refusal::PeerNotFound)?;
        #[cfg(feature = "cluster")]
        if listener.is_none() && self.remotes.is_none() {
            return Err(Refusal::PeerNotFound);
        }
        if self.dials.0.contains_key(dial_id) {
            return Err(Refusal::DialIdInUse);
        }
        let settings = &self.settings;
        if let Some(dialer) = self.links.get(&link)
            && (dialer.dialling >= settings.pending_dials
                || dialer.dialled >= dialer.max_dials(from, settings.open_dials))
        {
            return Err(Refusal::TooManyDials);
        }
        #[cfg(feature = "cluster")]
        let listener = match listener {
            Some(listener) => listener,
            None => self.way(link, to)?,
        };
        self.check_day((link, from), (listener, to))?;
        Ok(listener)
    }

    /// Returns whether an address is one of the link's own.
    fn may_dial_from(&self, link: LinkId, from: &str) -> bool {
        match self.links.get(&link) {
            Some(state) if !state.is_clients() => state.joins.contains(from),
            _ => self.peers.owner(from) == Some(link),
        }
    }

    /// Makes room for one more dial to a listener, if need be by ending a dial of the origin or link that dials it
    /// most.
    fn make_room(&mut self, dialer: LinkId, listener: LinkId) -> Result<(), Refusal> {
        let claimant = match self.links.get(&dialer) {
            Some(dialer) => dialer.claimant,
            None => return Err(Refusal::NotAuthorized),
        };
        let listener = self.links.get(&listener).ok_or(Refusal::PeerNotFound)?;
        let Some(dialled_by) = &listener.dialled_by else {
            return Ok(());
        };
        let room = |crowd: &Crowd| crowd.make_room(&claimant, dialer);
        let pending = room(&dialled_by.pending).map_err(|_| Refusal::PeerBusy)?;
        let open = room(&dialled_by.open).map_err(|_| Refusal::PeerBusy)?;
        // The end of a pending dial also makes room among the open ones.
        if let Some(dial_id) = pending.or(open) {
            self.end_dial(&dial_id, Refusal::PeerBusy, DialEnd::GaveWay);
        }
        Ok(())
    }

    fn offer_dial(
        &mut self,
        dialer: LinkId,
        listener: LinkId,
        (from, to): (&str, &str),
        dial_id: DialId,
        dialer_ack: u64,
        now: Instant,
    ) {
        let Some(claimant) = self.links.get(&dialer).map(|link| link.claimant) else {
            return;
        };
        let Some(peer) = self.links.get_mut(&listener) else {
            return;
        };
        let settings = &self.settings;
        let dialled_by = peer.dialled_by.get_or_insert_with(|| {
            Box::new(Dialled {
                pending: Crowd::new(settings.pending_dials),
                open: Crowd::new(settings.open_dials),
            })
        });
        let pending_place = dialled_by.pending.enter(&claimant, dialer, dial_id.clone());
        let place = dialled_by.open.enter(&claimant, dialer, dial_id.clone());
        let listener_ack = peer.next_ack;
        peer.next_ack += 1;
        peer.offered.insert(listener_ack, dial_id.clone());
        peer.dials.insert(dial_id.clone());
        if let Some(link) = self.links.get_mut(&dialer) {
            link.dialling += 1;
            link.dialled += 1;
            self.dialled.insert(dialer, link.dialled);
            link.dials.insert(dial_id.clone());
        }
        let deadline = now + self.settings.dial_timeout;
        self.deadlines
            .insert((deadline, DeadlineKind::Answer(listener, listener_ack)));
        let dial = Dial {
            dialer,
            listener,
            place,
            pending: Some(Pending {
                place: pending_place,
                dialer_ack,
                listener_ack,
                deadline,
            }),
            streams: Arc::new(Streams::new(self.next_flow)),
            meters: Meters {
                dialer: self.peers.meter(from),
                listener: self.peers.meter(to),
            },
            dialer_gone: false,
            listener_gone: false,
        };
        self.next_flow.0 += 1;
        self.dials.0.insert(dial_id.clone(), dial);
        tracing::debug!(link = %dialer, to = %listener, %dial_id, "a dial");
        self.send_offer(listener, (from, to), &dial_id, listener_ack);
    }

    #[cfg_attr(
        not(feature = "cluster"),
        allow(
            unused_variables,
            reason = "only another node is told the dialled address"
        )
    )]
    fn send_offer(
        &mut self,
        listener: LinkId,
        (from, to): (&str, &str),
        dial_id: &DialId,
        listener_ack: u64,
    ) {
        let incoming = || {
            let event = Event::Incoming {
                dial_id: dial_id.clone(),
                from: from.to_owned(),
            };
            event.encode(Some(listener_ack))
        };
        #[cfg(feature = "cluster")]
        let text = self
            .offer_on_way(listener, (from, to), dial_id, listener_ack)
            .unwrap_or_else(incoming);
        #[cfg(not(feature = "cluster"))]
        let text = incoming();
        self.actions.push_back(Action::Offer {
            to: listener,
            ack: listener_ack,
            text,
        });
    }

    /// Returns when the dial began that `link` was offered with this acknowledgement, if it still waits.
    pub(crate) fn dialled_at(&self, link: LinkId, ack: u64) -> Option<Instant> {
        let dial_id = self.links.get(&link)?.offered.get(&ack)?;
        let pending = self.dials.0.get(dial_id.as_str())?.pending?;
        pending.deadline.checked_sub(self.settings.dial_timeout)
    }

    pub(super) fn dial_answered(&mut self, link: LinkId, ack: u64, answer: Result<(), String>) {
        let offered = self
            .links
            .get(&link)
            .and_then(|link| link.offered.get(&ack));
        let Some(dial_id) = offered.cloned() else {
            // The answer came too late, or nobody asked for it.
            tracing::debug!(%link, ack, "an answer to an unknown dial");
            return;
        };
        let refused = answer.is_err();
        self.settle_dial(&dial_id, answer);
        let dial = self.dials.0.get(&dial_id);
        // Both peers may have ended their streams before this answer.
        if refused || dial.is_some_and(Dial::is_over) {
            self.forget_dial(dial_id.as_str());
        }
    }

    /// Has a dial of a link that has left ended later.
    pub(super) fn cut_later(&mut self, dial_id: &DialId, link: LinkId, cut: DialEnd) {
        if let Some(dial) = self.dials.0.get_mut(dial_id) {
            dial.dialer_gone |= dial.dialer == link;
            dial.listener_gone |= dial.listener == link;
            self.cut.push_back(EndedDial {
                dial_id: dial_id.clone(),
                streams: dial.streams.clone(),
                cut,
            });
        }
    }

    /// Ends some of the dials that are to be ended later.
    pub(super) fn end_cut_dials(&mut self) {
        for _ in 0..ENDED_AT_ONCE {
            let Some(later) = self.cut.pop_front() else {
                return;
            };
            // The id may belong to another dial by now.
            let dial = self.dials.0.get(&later.dial_id);
            if dial.is_some_and(|dial| Arc::ptr_eq(&dial.streams, &later.streams)) {
                self.end_dial(&later.dial_id, Refusal::PeerLeft, later.cut);
            }
        }
    }

    pub(super) fn dial_timed_out(&mut self, listener: LinkId, ack: u64) {
        let link = self.links.get(&listener);
        if let Some(dial_id) = link.and_then(|link| link.offered.get(&ack)).cloned() {
            self.end_dial(&dial_id, Refusal::DialTimedOut, DialEnd::DialTimedOut);
        }
    }

    /// Resets a dial on which what `link` has sent has held up that link for too long.
    pub(crate) fn handle_held_up(&mut self, link: LinkId, dial_id: &str, flow: FlowId) {
        let Some((dial_id, dial)) = self.dials.0.get_key_value(dial_id) else {
            return;
        };
        // The id may belong to another dial by now.
        if dial.streams.flow == flow && (dial.dialer == link || dial.listener == link) {
            let dial_id = dial_id.clone();
            self.refusals.count(Refused::HeldUp);
            self.end_dial(&dial_id, Refusal::PeerBusy, DialEnd::HeldUp);
        }
    }

    /// Ends a dial that no peer has ended. A dialer that still waits gets its answer. Both peers are told of each
    /// stream that was not over, so that a cut never looks like a proper end: a receiver learns that no more comes, and
    /// a sender that nobody reads.
    pub(super) fn end_dial(&mut self, dial_id: &DialId, refusal: Refusal, cut: DialEnd) {
        let pending = self.dials.0.get(dial_id).and_then(|dial| dial.pending);
        if pending.is_some() {
            self.refusals.count((&refusal).into());
        }
        self.settle_dial(dial_id, Err(refusal.to_string()));
        let Some(dial) = self.dials.0.get(dial_id) else {
            return;
        };
        let mut told = vec![dial.listener, dial.dialer];
        told.dedup();
        told.retain(|link| !dial.is_gone(*link));
        let flow = dial.streams.flow;
        let senders = [Side::Dialer, Side::Listener].map(|side| (side, dial.streams.end(side)));
        self.forget_dial(dial_id.as_str());
        tracing::debug!(%dial_id, reason = %cut, "a dial is cut");
        let is_reset = cut == DialEnd::HeldUp;
        for (sender, _) in senders.into_iter().filter(|(_, was_open)| *was_open) {
            let event = Event::Stream {
                stream: StreamName {
                    dial_id: dial_id.as_str(),
                    sender,
                },
                event: StreamEvent::End(cut.end()),
            };
            let text = event.encode(None);
            for link in &told {
                self.notify(*link, flow, text.clone(), is_reset);
            }
        }
    }

    /// Tells a link something about a dial.
    fn notify(&mut self, to: LinkId, flow: FlowId, text: String, is_reset: bool) {
        if self.links.contains_key(&to) {
            self.actions.push_back(Action::Notify {
                to,
                flow,
                text,
                is_reset,
            });
        }
    }

    /// Gives a waiting dialer its answer.
    fn settle_dial(&mut self, dial_id: &DialId, answer: Result<(), String>) {
        let Some(dial) = self.dials.0.get_mut(dial_id) else {
            return;
        };
        let Some(pending) = dial.pending.take() else {
            return;
        };
        let (dialer, listener, flow) = (dial.dialer, dial.listener, dial.streams.flow);
        self.deadlines.remove(&(
            pending.deadline,
            DeadlineKind::Answer(listener, pending.listener_ack),
        ));
        if let Some(link) = dial.link(&mut self.links, dialer) {
            link.dialling = link.dialling.saturating_sub(1);
        }
        if let Some(link) = dial.link(&mut self.links, listener) {
            link.offered.remove(&pending.listener_ack);
            if let Some(dialled_by) = &mut link.dialled_by {
                dialled_by.pending.leave(pending.place);
            }
        }
        match &answer {
            Ok(()) => self.counters.dials += 1,
            Err(_) => self.counters.dials_failed += 1,
        }
        tracing::debug!(link = %dialer, %dial_id, ?answer, "a dial is answered");
        if !dial.is_gone(dialer) {
            let text = DialAnswer(answer).encode(pending.dialer_ack);
            self.notify(dialer, flow, text, false);
        }
    }

    /// Forgets a dial; what still arrives on its streams is dropped.
    fn forget_dial(&mut self, dial_id: &str) {
        let Some((dial_id, dial)) = self.dials.0.remove_entry(dial_id) else {
            return;
        };
        dial.streams.end(Side::Dialer);
        dial.streams.end(Side::Listener);
        if let Some(dialer) = dial.link(&mut self.links, dial.dialer) {
            dialer.dials.remove(&dial_id);
            dialer.dialled = dialer.dialled.saturating_sub(1);
            self.dialled.insert(dial.dialer, dialer.dialled);
        }
        if let Some(listener) = dial.link(&mut self.links, dial.listener) {
            listener.dials.remove(&dial_id);
            if let Some(dialled_by) = &mut listener.dialled_by {
                dialled_by.open.leave(dial.place);
                if dialled_by.open.is_empty() {
                    listener.dialled_by = None;
                }
            }
            #[cfg(feature = "cluster")]
            self.rest_way(dial.listener);
        }
    }
}
