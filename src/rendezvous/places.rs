//! Which connections there may be, from `accept` on: a place for each, shared by origins. No IO.
//!
//! There are two kinds of places, for connections and for links; a link has one of each. Both are shared
//! only when all are taken. Connections through a trusted proxy have places of their own until it is
//! known for whom they are.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    origin::{Claimant, Origin},
    shares::{Full, Shares},
};

/// How many connections there may be beside the links: those that have not asked for anything yet, or for
/// something else than a link.
pub(super) const BESIDE_LINKS: usize = 1024;
/// How many links without a place may still be told why they are closed.
const LEAVING: usize = 256;
/// Where there are few places, one of so many is for a connection of a proxy that is not known yet for whom it
/// is, and one of so many for a link that is being told.
const FEW_PARTS: usize = 8;

/// How many connections there may be at once with so many links.
pub(super) fn most(links: usize, has_proxies: bool) -> usize {
    let unnamed = if has_proxies { BESIDE_LINKS } else { 0 };
    links.saturating_add(BESIDE_LINKS + LEAVING + unnamed)
}

/// A connection, for as long as the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceId(u64);

/// Why there is no place for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoLink {
    /// All are taken, and its origin has its share.
    Full,
    /// Its origin has as many as one may have.
    TooMany,
    /// Its origin, which comes through a proxy, connects too often.
    TooOften,
}

/// What is to be ended to make room for another.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Evicted<H> {
    /// A connection that is to hear nothing.
    Connection(H),
    /// A link, which may be told so.
    Link(H),
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Not a link, or not any more.
    Plain,
    Link,
    /// A link that has joined.
    Joined,
}

/// Which connection of an origin gives way first: one that is no link, the oldest of them, since the
/// newest may be about to ask; then the newest link that has not joined; then the newest link.
type Order = (Origin, Stage, u64);

#[derive(Debug)]
struct Connection<H> {
    /// Until it is known: none.
    claimant: Option<Claimant>,
    stage: Stage,
    /// What it takes to end it, as far as that is known.
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

/// All places; `H` is what it takes to end a connection.
#[derive(Debug)]
pub(super) struct Places<H> {
    connections: Shares,
    links: Shares,
    links_per_origin: u64,
    most_unnamed: usize,
    most_leaving: usize,
    open: BTreeMap<PlaceId, Connection<H>>,
    order: BTreeSet<Order>,
    /// Those through proxies of which it is not known for whom they are.
    unnamed: BTreeSet<PlaceId>,
    /// Links that have no place any more and are being closed.
    leaving: BTreeSet<PlaceId>,
    next: u64,
}

impl<H: Clone + Default> Places<H> {
    pub(super) fn new(links: usize, links_per_origin: usize) -> Self {
        Self {
            connections: Shares::new(links.saturating_add(BESIDE_LINKS) as u64),
            links: Shares::new(links as u64),
            links_per_origin: links_per_origin as u64,
            most_unnamed: BESIDE_LINKS,
            most_leaving: LEAVING,
            open: BTreeMap::new(),
            order: BTreeSet::new(),
            unnamed: BTreeSet::new(),
            leaving: BTreeSet::new(),
            next: 0,
        }
    }

    /// The same, where all together are so many connections at most, those that are being told included.
    pub(super) fn with_most(self, most: usize, has_proxies: bool) -> Self {
        let part = (most / FEW_PARTS).max(1);
        let most_leaving = self.most_leaving.min(part);
        let most_unnamed = self.most_unnamed.min(part);
        let apart = most_leaving + if has_proxies { most_unnamed } else { 0 };
        let connections = most.saturating_sub(apart).max(1) as u64;
        Self {
            connections: self.connections.with_at_most(connections),
            links: self.links.with_at_most(connections),
            most_unnamed,
            most_leaving,
            ..self
        }
    }

    /// How many connections there are, of which it is known for whom or not.
    pub(super) fn connections(&self) -> usize {
        self.open.len()
    }

    /// A connection of a client has come. Another may have to go for it.
    pub(super) fn enter(
        &mut self,
        claimant: Claimant,
    ) -> Result<(PlaceId, Option<Evicted<H>>), Full> {
        let loser = self.connections.try_take(&claimant)?;
        let evicted = loser.and_then(|origin| self.evict(origin));
        let id = self.insert(Some(claimant));
        Ok((id, evicted))
    }

    /// A connection of a proxy has come. The oldest of those may have to go for it.
    pub(super) fn enter_unnamed(&mut self) -> (PlaceId, Option<Evicted<H>>) {
        let is_full = self.unnamed.len() >= self.most_unnamed;
        let evicted = if is_full { self.evict_unnamed() } else { None };
        let evicted = evicted.map(Evicted::Connection);
        let id = self.insert(None);
        self.unnamed.insert(id);
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

    /// What it takes to end a connection, to be changed. `None` if it is over, or has been evicted and does
    /// not know yet.
    pub(super) fn handle_mut(&mut self, id: PlaceId) -> Option<&mut H> {
        self.open
            .get_mut(&id)
            .map(|connection| &mut connection.handle)
    }

    /// There are fewer places than were thought: a connection of whoever has most is to go, if a newcomer had
    /// a better claim to its place. It is not told why, which would take time.
    pub(super) fn make_room(&mut self) -> Option<H> {
        let unnamed = self.unnamed.len() as u64;
        match self.connections.crowded() {
            Some(origin) if self.connections.held_by(origin) >= unnamed => {
                self.connections.release(origin, 1);
                let id = self.first(origin, Stage::Plain)?;
                self.remove(id).map(|connection| connection.handle)
            }
            _ if unnamed > 1 => self.evict_unnamed(),
            _ => None,
        }
    }

    /// A proxy says for whom its connection is, for now. When there is no place for that one, the
    /// connection stays where it was.
    pub(super) fn name(
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
                None => _ = self.unnamed.remove(&id),
            }
            self.order.extend(connection.order(id));
        } else {
            // It was the one that had to go.
            self.connections.release(claimant.origin, 1);
        }
        Ok(evicted)
    }

    /// A connection becomes a link. Another link may have to go for it.
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

    /// Whether a link has joined.
    pub(super) fn set_joined(&mut self, id: PlaceId, joined: bool) {
        let is_link = |connection: &Connection<H>| connection.stage != Stage::Plain;
        if self.open.get(&id).is_some_and(is_link) {
            self.set_stage(id, if joined { Stage::Joined } else { Stage::Link });
        }
    }

    /// A link is over; its connection may last a little longer.
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

    /// A connection is over.
    pub(super) fn leave(&mut self, id: PlaceId) {
        self.leaving.remove(&id);
        if let Some(claimant) = self.remove(id).and_then(|connection| connection.claimant) {
            self.connections.release(claimant.origin, 1);
        }
    }

    /// A connection that is no link. `None` also if it has been ended, and does not know yet.
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

    /// Forgets a connection, and its place as a link, but not that as a connection.
    fn remove(&mut self, id: PlaceId) -> Option<Connection<H>> {
        let connection = self.open.remove(&id)?;
        if let Some(order) = connection.order(id) {
            self.order.remove(&order);
        }
        match connection.claimant {
            None => _ = self.unnamed.remove(&id),
            Some(claimant) if connection.stage != Stage::Plain => {
                self.links.release(claimant.origin, 1);
            }
            Some(_) => {}
        }
        Some(connection)
    }

    /// Takes the oldest connection of which it is not known for whom it is.
    fn evict_unnamed(&mut self) -> Option<H> {
        let oldest = self.unnamed.first().copied()?;
        self.remove(oldest).map(|connection| connection.handle)
    }

    /// Takes a connection of an origin, whose place is another's already.
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

    /// Takes a link of an origin, whose place as a link is another's already. It keeps that as a
    /// connection until it has ended.
    fn evict_link(&mut self, origin: Origin) -> Option<Evicted<H>> {
        let id = self.first(origin, Stage::Link)?;
        self.set_stage(id, Stage::Plain);
        let connection = self.open.get(&id)?;
        Some(Evicted::Link(connection.handle.clone()))
    }

    /// The connection of an origin that is to go first, of those that have come so far.
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
