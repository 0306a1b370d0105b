//! The connections that there may be, from `accept` on: each has a place, and origins share the places. No IO.
//!
//! There are two kinds of places, for connections and for links. A link has one of each. Origins have to share a kind
//! only when all its places are taken. Connections of a trusted proxy have places of their own until their clients are
//! known.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    origin::{Claimant, Origin},
    shares::{Full, Shares},
};

/// The number of connections that there may be in addition to the links: those that have not asked for anything yet, or
/// have asked for something other than a link.
pub(super) const BESIDE_LINKS: usize = 1024;
/// The number of links without a place that may still be told why they are closed.
const LEAVING: usize = 256;
/// Where there are few places, one in this many is for connections of a proxy whose clients are not known yet, and one
/// in this many for links that are being told why they are closed.
const FEW_PARTS: usize = 8;

/// Returns the largest number of connections that there may be at once, with this many links.
pub(super) fn most(links: usize, has_proxies: bool) -> usize {
    let unidentified = if has_proxies { BESIDE_LINKS } else { 0 };
    links.saturating_add(BESIDE_LINKS + LEAVING + unidentified)
}

/// The number of one connection. No other connection has it for as long as the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceId(u64);

/// Why there is no place for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoLink {
    /// All places are taken, and its origin has its share.
    Full,
    /// Its origin has as many links as one origin may have.
    TooMany,
    /// Its origin, which comes through a proxy, connects too often.
    TooOften,
}

/// A connection that has to end to make room for another.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Evicted<H> {
    /// A connection that is ended without notice.
    Connection(H),
    /// A link, which can be told the reason.
    Link(H),
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The connection is not a link, or is no longer a link.
    Plain,
    Link,
    /// A link that has joined.
    Joined,
}

/// The order in which the connections of an origin give way. First go connections that are not links, the oldest first,
/// since the newest may be about to send a request. Then the newest link that has not joined; then the newest link.
type Order = (Origin, Stage, u64);

#[derive(Debug)]
struct Connection<H> {
    /// The origin with its weight; `None` until it is known.
    claimant: Option<Claimant>,
    stage: Stage,
    /// What is needed to end the connection, as far as that is known.
    handle: H,
}

impl<H> Connection<H> {
    fn order(&self, id: PlaceId) -> Option<Order> {
        let PlaceId(age) = id;
        let turn = match self.stage {
            Stage::Plain => age,
            Stage::Link | Stage::Joined => !age,
        };
        Some((self.claimant?.origin, self.stage, turn))
    }
}

/// All places. `H` is what is needed to end a connection.
#[derive(Debug)]
pub(super) struct Places<H> {
    connections: Shares,
    links: Shares,
    links_per_origin: u64,
    most_unidentified: usize,
    most_leaving: usize,
    open: BTreeMap<PlaceId, Connection<H>>,
    order: BTreeSet<Order>,
    /// Connections of proxies whose clients are not known yet.
    unidentified: BTreeSet<PlaceId>,
    /// Links that have lost their places and are being closed.
    leaving: BTreeSet<PlaceId>,
    next: u64,
}

impl<H: Clone + Default> Places<H> {
    pub(super) fn new(links: usize, links_per_origin: usize) -> Self {
        Self {
            connections: Shares::new(links.saturating_add(BESIDE_LINKS) as u64),
            links: Shares::new(links as u64),
            links_per_origin: links_per_origin as u64,
            most_unidentified: BESIDE_LINKS,
            most_leaving: LEAVING,
            open: BTreeMap::new(),
            order: BTreeSet::new(),
            unidentified: BTreeSet::new(),
            leaving: BTreeSet::new(),
            next: 0,
        }
    }

    /// Limits the number of all connections together, including those that are being told why they are closed.
    pub(super) fn with_most(self, most: usize, has_proxies: bool) -> Self {
        let part = (most / FEW_PARTS).max(1);
        let most_leaving = self.most_leaving.min(part);
        let most_unidentified = self.most_unidentified.min(part);
        let apart = most_leaving + if has_proxies { most_unidentified } else { 0 };
        let connections = most.saturating_sub(apart).max(1) as u64;
        Self {
            connections: self.connections.with_at_most(connections),
            links: self.links.with_at_most(connections),
            most_unidentified,
            most_leaving,
            ..self
        }
    }

    /// Returns the number of connections, including those whose clients are not known yet.
    pub(super) fn connections(&self) -> usize {
        self.open.len()
    }

    /// Gives a place to a new connection of a client. Another connection may have to end for it.
    pub(super) fn enter(
        &mut self,
        claimant: Claimant,
    ) -> Result<(PlaceId, Option<Evicted<H>>), Full> {
        let loser = self.connections.try_take(&claimant)?;
        let evicted = loser.and_then(|origin| self.evict(origin));
        let id = self.insert(Some(claimant));
        Ok((id, evicted))
    }

    /// Gives a place to a new connection of a proxy. The oldest connection of a proxy without a known client may have
    /// to end for it.
    pub(super) fn enter_unidentified(&mut self) -> (PlaceId, Option<Evicted<H>>) {
        let is_full = self.unidentified.len() >= self.most_unidentified;
        let evicted = if is_full {
            self.evict_unidentified()
        } else {
            None
        };
        let evicted = evicted.map(Evicted::Connection);
        let id = self.insert(None);
        self.unidentified.insert(id);
        (id, evicted)
    }

    fn insert(&mut self, claimant: Option<Claimant>) -> PlaceId {
        let id = PlaceId(self.next);
        self.next += 1;
        let connection = Connection {
            claimant,
            stage: Stage::Plain,
            handle: H::default(),
        };
        self.order.extend(connection.order(id));
        self.open.insert(id, connection);
        id
    }

    /// Returns what is needed to end a connection, to be changed. `None` if the connection is over, or was evicted and
    /// does not know it yet.
    pub(super) fn handle_mut(&mut self, id: PlaceId) -> Option<&mut H> {
        self.open
            .get_mut(&id)
            .map(|connection| &mut connection.handle)
    }

    /// Removes one connection, because there turned out to be fewer places than was thought. It is a connection of the
    /// origin that holds most, and only if a newcomer would have a better claim to its place. If there are more
    /// connections of proxies without a known client than that origin has, it is the oldest of those. The connection is
    /// not told why, because that would take time.
    pub(super) fn make_room(&mut self) -> Option<H> {
        let unidentified = self.unidentified.len() as u64;
        match self.connections.crowded() {
            Some(origin) if self.connections.held_by(origin) >= unidentified => {
                self.connections.release(origin, 1);
                let id = self.first(origin, Stage::Plain)?;
                self.remove(id).map(|connection| connection.handle)
            }
            _ if unidentified > 1 => self.evict_unidentified(),
            _ => None,
        }
    }

    /// Notes for which client a proxy's connection is at present. If there is no place for that client, the connection
    /// keeps the place that it had.
    pub(super) fn set_client(
        &mut self,
        id: PlaceId,
        claimant: Claimant,
    ) -> Result<Option<Evicted<H>>, Full> {
        let connection = self.plain(id).ok_or(Full)?;
        if connection.claimant == Some(claimant) {
            return Ok(None);
        }
        let loser = self.connections.try_take(&claimant)?;
        let evicted = loser.and_then(|origin| self.evict(origin));
        if let Some(connection) = self.open.get_mut(&id) {
            if let Some(order) = connection.order(id) {
                self.order.remove(&order);
            }
            match connection.claimant.replace(claimant) {
                Some(before) => self.connections.release(before.origin, 1),
                None => _ = self.unidentified.remove(&id),
            }
            self.order.extend(connection.order(id));
        } else {
            // This connection was the one that had to end.
            self.connections.release(claimant.origin, 1);
        }
        Ok(evicted)
    }

    /// Turns a connection into a link. Another link may have to end for it.
    pub(super) fn begin_link(&mut self, id: PlaceId) -> Result<Option<Evicted<H>>, NoLink> {
        let claimant = self.plain(id).and_then(|connection| connection.claimant);
        let claimant = claimant.ok_or(NoLink::Full)?;
        if self.links.held_by(claimant.origin) >= self.links_per_origin {
            return Err(NoLink::TooMany);
        }
        let loser = self
            .links
            .try_take(&claimant)
            .map_err(|Full| NoLink::Full)?;
        let evicted = loser.and_then(|origin| self.evict_link(origin));
        self.set_stage(id, Stage::Link);
        Ok(evicted)
    }

    /// Sets whether a link has joined.
    pub(super) fn set_joined(&mut self, id: PlaceId, joined: bool) {
        let is_link = |connection: &Connection<H>| connection.stage != Stage::Plain;
        if self.open.get(&id).is_some_and(is_link) {
            self.set_stage(id, if joined { Stage::Joined } else { Stage::Link });
        }
    }

    /// Notes that a link is over. Its connection may last a little longer.
    pub(super) fn end_link(&mut self, id: PlaceId) {
        let Some(connection) = self.open.get(&id) else {
            return;
        };
        if let Some(claimant) = connection.claimant
            && connection.stage != Stage::Plain
        {
            self.links.release(claimant.origin, 1);
            self.set_stage(id, Stage::Plain);
        }
    }

    /// Notes that a connection is over.
    pub(super) fn leave(&mut self, id: PlaceId) {
        self.leaving.remove(&id);
        if let Some(claimant) = self.remove(id).and_then(|connection| connection.claimant) {
            self.connections.release(claimant.origin, 1);
        }
    }

    /// Returns a connection that is not a link. `None` also if the connection was ended and does not know it yet.
    fn plain(&self, id: PlaceId) -> Option<&Connection<H>> {
        let connection = self.open.get(&id)?;
        (connection.stage == Stage::Plain).then_some(connection)
    }

    fn set_stage(&mut self, id: PlaceId, stage: Stage) {
        if let Some(connection) = self.open.get_mut(&id) {
            if let Some(order) = connection.order(id) {
                self.order.remove(&order);
            }
            connection.stage = stage;
            self.order.extend(connection.order(id));
        }
    }

    /// Forgets a connection and its place as a link, but does not give back its place as a connection.
    fn remove(&mut self, id: PlaceId) -> Option<Connection<H>> {
        let connection = self.open.remove(&id)?;
        if let Some(order) = connection.order(id) {
            self.order.remove(&order);
        }
        match connection.claimant {
            None => _ = self.unidentified.remove(&id),
            Some(claimant) if connection.stage != Stage::Plain => {
                self.links.release(claimant.origin, 1);
            }
            Some(_) => {}
        }
        Some(connection)
    }

    /// Removes the oldest connection whose client is not known yet.
    fn evict_unidentified(&mut self) -> Option<H> {
        let oldest = self.unidentified.first().copied()?;
        self.remove(oldest).map(|connection| connection.handle)
    }

    /// Removes a connection of an origin, whose place belongs to another origin already.
    fn evict(&mut self, origin: Origin) -> Option<Evicted<H>> {
        let id = self.first(origin, Stage::Plain)?;
        let connection = self.remove(id)?;
        let handle = connection.handle;
        let is_told = connection.stage != Stage::Plain && self.leaving.len() < self.most_leaving;
        Some(match is_told {
            false => Evicted::Connection(handle),
            true => {
                self.leaving.insert(id);
                Evicted::Link(handle)
            }
        })
    }

    /// Removes a link of an origin, whose place as a link belongs to another origin already. The link keeps its place
    /// as a connection until it has ended.
    fn evict_link(&mut self, origin: Origin) -> Option<Evicted<H>> {
        let id = self.first(origin, Stage::Link)?;
        self.set_stage(id, Stage::Plain);
        let connection = self.open.get(&id)?;
        Some(Evicted::Link(connection.handle.clone()))
    }

    /// Returns the connection of an origin that gives way first, among those that have reached `stage` or a later
    /// stage.
    fn first(&self, origin: Origin, stage: Stage) -> Option<PlaceId> {
        let (of, stage, turn) = self.order.range((origin, stage, 0)..).next()?;
        let age = match stage {
            Stage::Plain => *turn,
            Stage::Link | Stage::Joined => !*turn,
        };
        (*of == origin).then_some(PlaceId(age))
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
