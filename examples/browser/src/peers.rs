//! The list of peers in the page.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;
use web_sys::Element;

use crate::{
    dom::{Row, by_id, set_text, show},
    text::{milliseconds, short},
};

/// The most peers that are shown. Further ones are only counted.
const SHOWN: usize = 256;

#[derive(Default)]
pub struct Peer {
    /// The number of its addresses that are announced.
    addresses: usize,
    connected: bool,
    round_trip: Option<Duration>,
    /// Whether it accepts files.
    files: bool,
    /// The error of the last dial, if it failed.
    fault: Option<String>,
    /// Whether a later dial is already scheduled.
    pub waits: bool,
    row: Option<Row>,
}

pub struct Peers {
    list: Element,
    known: BTreeMap<PeerId, Peer>,
    shown: usize,
}

impl Peers {
    pub fn new() -> Self {
        Self {
            list: by_id("peers"),
            known: BTreeMap::new(),
            shown: 0,
        }
    }

    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.known.get(peer).is_some_and(|peer| peer.connected)
    }

    /// Returns whether a peer is announced and not connected.
    pub fn is_missing(&self, peer: &PeerId) -> bool {
        let peer = self.known.get(peer);
        peer.is_some_and(|peer| peer.addresses > 0 && !peer.connected)
    }

    pub fn missing(&self) -> Vec<PeerId> {
        let known = self.known.keys();
        known
            .filter(|peer| self.is_missing(peer))
            .copied()
            .collect()
    }

    pub fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Peer> {
        self.known.get_mut(peer)
    }

    pub fn discovered(&mut self, peer: PeerId) {
        self.change(peer, |peer| peer.addresses += 1);
    }

    pub fn expired(&mut self, peer: PeerId) {
        self.change(peer, |peer| {
            peer.addresses = peer.addresses.saturating_sub(1)
        });
    }

    pub fn connected(&mut self, peer: PeerId) {
        self.change(peer, |peer| {
            peer.connected = true;
            peer.fault = None;
        });
    }

    pub fn disconnected(&mut self, peer: PeerId) {
        self.change(peer, |peer| {
            peer.connected = false;
            peer.round_trip = None;
        });
    }

    pub fn not_reached(&mut self, peer: PeerId, error: String) {
        if self.known.contains_key(&peer) {
            self.change(peer, |peer| peer.fault = Some(error));
        }
    }

    pub fn round_trip(&mut self, peer: PeerId, time: Duration) {
        if self.is_connected(&peer) {
            self.change(peer, |peer| peer.round_trip = Some(time));
        }
    }

    pub fn takes_files(&mut self, peer: PeerId, files: bool) {
        if self.is_connected(&peer) {
            self.change(peer, |peer| peer.files = files);
        }
    }

    fn change(&mut self, id: PeerId, change: impl FnOnce(&mut Peer)) {
        let peer = self.known.entry(id).or_default();
        change(peer);
        if peer.addresses == 0 && !peer.connected {
            let gone = self.known.remove(&id);
            if gone.is_some_and(|peer| peer.row.is_some()) {
                self.shown -= 1;
                self.fill();
            }
        } else if peer.row.is_some() || self.shown < SHOWN {
            if peer.row.is_none() {
                peer.row = Some(row(&self.list, &id));
                self.shown += 1;
            }
            peer.show();
        }
        self.count();
    }

    /// Shows one of the peers for which there was no room before.
    fn fill(&mut self) {
        let hidden = self.known.iter_mut().find(|(_, peer)| peer.row.is_none());
        if let Some((id, peer)) = hidden {
            peer.row = Some(row(&self.list, id));
            self.shown += 1;
            peer.show();
        }
    }

    fn count(&self) {
        let known = self.known.len();
        set_text(&by_id("peers-count"), &known.to_string());
        show(&by_id("no-peers"), known == 0);
        let more = by_id("more-peers");
        set_text(&more, &format!("And {} more.", known - self.shown));
        show(&more, known > self.shown);
    }
}

fn row(list: &Element, peer: &PeerId) -> Row {
    let (row, id, name) = (Row::add("peer", list), peer.to_string(), short(peer));
    row.text("name", &name);
    row.set("name", "title", &id);
    row.set("file", "data-peer", &id);
    row.set("file", "aria-label", &format!("Send a file to {name}"));
    row.set("name", "data-copy", &id);
    row.set("name", "aria-label", &format!("{name}, copy the peer id"));
    row
}

impl Peer {
    fn show(&self) {
        let Some(row) = &self.row else { return };
        let state = match (self.connected, self.round_trip, &self.fault) {
            (true, Some(time), _) => milliseconds(time),
            (true, None, _) => "connected".to_owned(),
            (false, _, Some(_)) => "not reached".to_owned(),
            (false, _, None) => "not connected".to_owned(),
        };
        row.text("state", &state);
        let title = match (self.connected, &self.fault) {
            (true, _) => "The round-trip time of the last ping",
            (false, Some(fault)) => fault,
            (false, None) => "It is announced at the rendezvous",
        };
        row.set("state", "title", title);
        let kind = if self.connected {
            "connected"
        } else {
            "announced"
        };
        row.set("dot", "data-kind", kind);
        row.show("send", self.connected && self.files);
    }
}
