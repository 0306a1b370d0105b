//! The order and the times in which addresses are tried: RFC 8305, sections 4 and 5. No IO, no clock.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// The Connection Attempt Delay that section 8 recommends.
pub(super) const DELAY: Duration = Duration::from_millis(250);
/// The maximum number of addresses of a host that are tried for one link. The next link tries the others first.
pub(super) const MAX_ADDRESSES: usize = 16;

/// The address over which a link was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::link) enum Route {
    /// An address of the rendezvous.
    Direct(SocketAddr),
    /// An address of a proxy. It is not the address of any rendezvous.
    #[cfg(feature = "proxy")]
    Proxy(SocketAddr),
}

/// The results of earlier attempts to connect to a rendezvous' addresses.
#[derive(Debug, Default)]
pub(in crate::link) struct Routes {
    /// The addresses that were tried and failed. Those of the last attempt are at the end.
    in_vain: Vec<SocketAddr>,
    /// The rendezvous' address over which the last link was opened.
    latest: Option<SocketAddr>,
}

impl Routes {
    /// Returns the addresses in the order in which to try them. The addresses that have not failed go first, with
    /// alternating families. The others follow, and the one that failed last is at the end.
    ///
    /// The first family is that of the first address. The system's resolver sorts by RFC 6724, which puts IPv6 first
    /// where it can be used.
    pub(in crate::link) fn order(&mut self, addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
        // A host that changes its addresses must not leave old ones behind here.
        self.in_vain.retain(|addr| addresses.contains(addr));
        let fresh = addresses.iter().filter(|addr| !self.in_vain.contains(addr));
        let mut order = interleave(fresh.copied());
        order.extend(&self.in_vain);
        order.truncate(MAX_ADDRESSES);
        order
    }

    /// Records the start of an attempt. The address counts as failed until a link over it is open.
    pub(in crate::link) fn tried(&mut self, addr: SocketAddr) {
        self.in_vain.retain(|tried| *tried != addr);
        self.in_vain.push(addr);
    }

    /// Records that a link was opened over this address.
    pub(in crate::link) fn good(&mut self, route: Route) {
        let (addr, latest) = match route {
            Route::Direct(addr) => (addr, Some(addr)),
            #[cfg(feature = "proxy")]
            Route::Proxy(addr) => (addr, None),
        };
        self.in_vain.retain(|tried| *tried != addr);
        self.latest = latest;
    }

    /// Returns whether any address has failed.
    pub(in crate::link) fn have_failed(&self) -> bool {
        !self.in_vain.is_empty()
    }

    /// Returns the address of the last link that was opened.
    pub(in crate::link) fn latest(&self) -> Option<IpAddr> {
        self.latest.map(|addr| addr.ip())
    }
}

/// Alternates between the address families. Each address occurs once.
fn interleave(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let (mut first, mut second) = (VecDeque::new(), VecDeque::new());
    for addr in addresses {
        let family = match first.front() {
            Some(leader) if SocketAddr::is_ipv6(leader) != addr.is_ipv6() => &mut second,
            _ => &mut first,
        };
        if !family.contains(&addr) {
            family.push_back(addr);
        }
    }
    let mut order = VecDeque::with_capacity(first.len() + second.len());
    while let Some(addr) = first.pop_front() {
        order.push_back(addr);
        order.extend(second.pop_front());
    }
    order.extend(second);
    order
}

/// The next action.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Begin an attempt to connect to this address.
    Start(SocketAddr),
    /// Wait for an attempt to end, until this time at the latest.
    WaitUntil(Instant),
    /// Wait for an attempt to end. There is no other address.
    Wait,
}

/// The attempts to connect to one host. An attempt that was started goes on until one succeeds.
#[derive(Debug)]
pub(super) struct Attempts {
    waiting: VecDeque<SocketAddr>,
    /// The earliest time for the next attempt.
    next: Instant,
}

impl Attempts {
    pub(super) fn new(order: VecDeque<SocketAddr>, now: Instant) -> Self {
        Self {
            waiting: order,
            next: now,
        }
    }

    pub(super) fn step(&mut self, now: Instant) -> Step {
        if self.waiting.is_empty() {
            return Step::Wait;
        }
        if now < self.next {
            return Step::WaitUntil(self.next);
        }
        self.next = now + DELAY;
        self.waiting.pop_front().map_or(Step::Wait, Step::Start)
    }

    /// Records that an attempt has failed, so the next one need not wait.
    pub(super) fn failed(&mut self, now: Instant) {
        self.next = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(n: u8) -> SocketAddr {
        ([192, 0, 2, n], 80).into()
    }

    fn v6(n: u16) -> SocketAddr {
        ([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 80).into()
    }

    #[test]
    fn the_families_take_turns_and_the_resolvers_first_begins() {
        let order = |addresses: &[SocketAddr]| Vec::from(Routes::default().order(addresses));
        for (resolved, tried) in [
            (vec![], vec![]),
            (vec![v4(1)], vec![v4(1)]),
            (
                vec![v6(1), v6(2), v6(3), v4(1), v4(2)],
                vec![v6(1), v4(1), v6(2), v4(2), v6(3)],
            ),
            (vec![v4(1), v4(2), v6(1)], vec![v4(1), v6(1), v4(2)]),
            (
                vec![v6(1), v4(1), v4(2), v4(3)],
                vec![v6(1), v4(1), v4(2), v4(3)],
            ),
            (vec![v4(1), v4(2), v4(1)], vec![v4(1), v4(2)]),
        ] {
            assert_eq!(order(&resolved), tried, "{resolved:?}");
        }
    }

    #[test]
    fn an_address_that_failed_goes_last_until_a_link_was_opened_over_it() {
        let resolved = [v6(1), v6(2), v4(1)];
        let mut routes = Routes::default();
        routes.tried(v6(1));
        assert_eq!(routes.order(&resolved), [v6(2), v4(1), v6(1)]);
        routes.tried(v6(2));
        assert_eq!(routes.order(&resolved), [v4(1), v6(1), v6(2)]);
        routes.tried(v4(1));
        assert_eq!(routes.order(&resolved), [v6(1), v6(2), v4(1)]);
        routes.tried(v6(1));
        assert_eq!(routes.order(&resolved), [v6(2), v4(1), v6(1)]);
        routes.good(Route::Direct(v6(1)));
        assert_eq!(routes.order(&resolved), [v6(1), v6(2), v4(1)]);
    }

    #[test]
    fn a_host_with_many_addresses_gets_to_all_of_them_in_several_links() {
        let resolved: Vec<_> = (0..40).map(v4).collect();
        let mut routes = Routes::default();
        let mut tried = Vec::new();
        for _ in 0..3 {
            let order = routes.order(&resolved);
            assert_eq!(order.len(), MAX_ADDRESSES);
            order.iter().for_each(|addr| routes.tried(*addr));
            tried.extend(order);
        }
        assert!(resolved.iter().all(|addr| tried.contains(addr)));
        routes.order(&resolved[..2]);
        assert_eq!(routes.in_vain.len(), 2, "the others are forgotten");
    }

    #[test]
    fn an_attempt_begins_when_the_last_one_failed_or_had_its_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let order = [v6(1), v4(1), v6(2)].into();
        let mut attempts = Attempts::new(order, start);
        assert_eq!(attempts.step(start), Step::Start(v6(1)));
        assert_eq!(attempts.step(start), Step::WaitUntil(at(250)));
        assert_eq!(attempts.step(at(249)), Step::WaitUntil(at(250)));
        assert_eq!(attempts.step(at(250)), Step::Start(v4(1)));
        assert_eq!(attempts.step(at(251)), Step::WaitUntil(at(500)));
        attempts.failed(at(260));
        assert_eq!(attempts.step(at(260)), Step::Start(v6(2)));
        assert_eq!(attempts.step(at(260)), Step::Wait);
        assert_eq!(attempts.step(at(9999)), Step::Wait);
    }
}
