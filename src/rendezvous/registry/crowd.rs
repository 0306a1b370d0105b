//! The dials to one listener: each origin has a share of them, and within an origin each link.
//!
//! As long as there is room, every dial gets in. When there is none, those that dial the listener least get the places
//! of those that dial it most.

use std::collections::BTreeMap;

use super::LinkId;
use crate::{
    protocol::event::DialId,
    rendezvous::{
        origin::{Claimant, Origin},
        shares::Shares,
    },
};

/// There is no room, and no other origin or link that dials enough more to give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy;

/// The dials to one listener that wait for its answer, or that are open.
#[derive(Debug)]
pub(super) struct Crowd {
    shares: Shares,
    /// The dials by origin and link, the latest last.
    dials: BTreeMap<Origin, BTreeMap<LinkId, BTreeMap<u64, DialId>>>,
    next: u64,
}

/// The place of a dial, to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    origin: Origin,
    link: LinkId,
    number: u64,
}

impl Crowd {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            shares: Shares::new(capacity as u64),
            dials: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dials.is_empty()
    }

    /// Makes room for one more dial of a link. Returns the dial that has to end for it, if one has to; the caller still
    /// has to [leave](Self::leave) its place.
    pub(super) fn make_room(
        &self,
        claimant: &Claimant,
        link: LinkId,
    ) -> Result<Option<DialId>, Busy> {
        if !self.shares.is_full() {
            return Ok(None);
        }
        if let Some(origin) = self.shares.gives_way(claimant)
            && origin != claimant.origin
        {
            return Ok(self.latest_of(origin, None));
        }
        let own = self
            .dials
            .get(&claimant.origin)
            .and_then(|links| links.get(&link));
        let own = own.map_or(0, BTreeMap::len);
        self.latest_of(claimant.origin, Some(own + 1))
            .map(Some)
            .ok_or(Busy)
    }

    /// Returns the latest dial of the origin's link that dials most, if that link has more than `more_than` dials.
    fn latest_of(&self, origin: Origin, more_than: Option<usize>) -> Option<DialId> {
        let links = self.dials.get(&origin)?.values();
        let most = links.max_by_key(|dials| dials.len())?;
        let (_, latest) = most.last_key_value()?;
        more_than
            .is_none_or(|n| most.len() > n)
            .then(|| latest.clone())
    }

    /// Takes a place for a dial for which there is [room](Self::make_room).
    pub(super) fn enter(&mut self, claimant: &Claimant, link: LinkId, dial: DialId) -> Place {
        let number = self.next;
        self.next += 1;
        self.shares.take(claimant, 1);
        let links = self.dials.entry(claimant.origin).or_default();
        links.entry(link).or_default().insert(number, dial);
        Place {
            origin: claimant.origin,
            link,
            number,
        }
    }

    /// Gives a place back.
    pub(super) fn leave(&mut self, place: Place) {
        let Some(links) = self.dials.get_mut(&place.origin) else {
            return;
        };
        let Some(dials) = links.get_mut(&place.link) else {
            return;
        };
        if dials.remove(&place.number).is_none() {
            return;
        }
        self.shares.release(place.origin, 1);
        if dials.is_empty() {
            links.remove(&place.link);
        }
        if links.is_empty() {
            self.dials.remove(&place.origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::rendezvous::origin::Weights;

    const ATTACKER: &str = "203.0.113.1";

    struct Dialled {
        crowd: Crowd,
        places: BTreeMap<DialId, Place>,
    }

    impl Dialled {
        /// Dials; returns whether there was room, and which dial had to end.
        fn dial(&mut self, ip: &str, link: u64, id: &str) -> Result<Option<DialId>, Busy> {
            let ip: IpAddr = ip.parse().expect("an address");
            let claimant = Weights::default().claimant(ip);
            let link = LinkId(link);
            let gone = self.crowd.make_room(&claimant, link)?;
            if let Some(gone) = &gone {
                self.crowd.leave(self.places.remove(gone).expect("known"));
            }
            let id = DialId::new(id).expect("plain");
            let place = self.crowd.enter(&claimant, link, id.clone());
            self.places.insert(id, place);
            Ok(gone)
        }
    }

    fn crowd(capacity: usize) -> Dialled {
        Dialled {
            crowd: Crowd::new(capacity),
            places: BTreeMap::new(),
        }
    }

    fn id(id: &str) -> DialId {
        DialId::new(id).expect("plain")
    }

    #[test]
    fn one_alone_may_have_all_and_then_gives_way_to_others() {
        let mut dialled = crowd(8);
        for n in 0..8 {
            assert_eq!(dialled.dial(ATTACKER, 1, &format!("a{n}")), Ok(None));
        }
        assert_eq!(dialled.dial(ATTACKER, 1, "a8"), Err(Busy));
        for n in (0..4).rev() {
            let gone = id(&format!("a{}", n + 4));
            assert_eq!(
                dialled.dial("192.0.2.1", 2, &format!("b{n}")),
                Ok(Some(gone))
            );
        }
        assert_eq!(dialled.dial("192.0.2.1", 2, "b4"), Err(Busy));
        assert!(dialled.dial("192.0.2.2", 3, "c").is_ok());
    }

    #[test]
    fn a_link_gives_way_to_another_of_its_origin() {
        let mut dialled = crowd(4);
        for n in 0..4 {
            assert_eq!(dialled.dial(ATTACKER, 1, &format!("a{n}")), Ok(None));
        }
        assert_eq!(dialled.dial(ATTACKER, 2, "b0"), Ok(Some(id("a3"))));
        assert_eq!(dialled.dial(ATTACKER, 2, "b1"), Ok(Some(id("a2"))));
        assert_eq!(dialled.dial(ATTACKER, 2, "b2"), Err(Busy));
        assert_eq!(dialled.dial(ATTACKER, 1, "a4"), Err(Busy));
    }

    #[test]
    fn nothing_is_left_of_dials_that_are_over() {
        let mut dialled = crowd(4);
        for (n, ip) in [ATTACKER, ATTACKER, "192.0.2.1"].into_iter().enumerate() {
            dialled.dial(ip, n as u64, &n.to_string()).expect("room");
        }
        for place in dialled.places.into_values() {
            dialled.crowd.leave(place);
            dialled.crowd.leave(place);
        }
        assert!(dialled.crowd.is_empty());
        assert_eq!(dialled.crowd.shares.held(), 0);
    }
}
