//! A set of networks in which an address is found in logarithmic time.

use std::net::IpAddr;

use libp2p_websocket_star::rendezvous::Network;

/// The first and the last address of each network that lies within no other one, in ascending order.
#[derive(Debug, Default)]
pub struct Networks(Vec<(IpAddr, IpAddr)>);

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let ends = |network: Network| (network.first(), network.last());
        let mut all: Vec<_> = networks.into_iter().map(ends).collect();
        // Among networks that begin at the same address, the largest comes first.
        all.sort_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
        let mut outer: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            // Two networks are either nested or disjoint.
            if outer.last().is_none_or(|(_, end)| *end < first) {
                outer.push((first, last));
            }
        }
        Self(outer)
    }
}

impl Networks {
    pub fn contain(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        let behind = self.0.partition_point(|(first, _)| *first <= addr);
        let before = behind.checked_sub(1).and_then(|n| self.0.get(n));
        before.is_some_and(|(_, last)| addr <= *last)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> (Vec<Network>, Networks) {
        let parse = |text: &&str| text.parse().expect("a network");
        let all: Vec<Network> = texts.iter().map(parse).collect();
        (all.clone(), all.into_iter().collect())
    }

    #[test]
    fn an_address_is_found_if_one_of_the_networks_has_it() {
        let (all, set) = networks(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.0.2.7",
            "192.0.2.8/31",
            "255.255.255.255",
            "2001:db8::/32",
            "2001:db8:1::/48",
            "::1",
            "10.0.0.0/8",
        ]);
        assert_eq!(set.len(), 6);
        for addr in [
            "0.0.0.0",
            "9.255.255.255",
            "10.0.0.0",
            "10.1.2.3",
            "10.255.255.255",
            "11.0.0.0",
            "::ffff:10.0.0.1",
            "192.0.2.6",
            "192.0.2.7",
            "192.0.2.9",
            "192.0.2.10",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "2001:db7:ffff::",
            "2001:db8::",
            "2001:db8:1::7",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db9::",
        ] {
            let addr: IpAddr = addr.parse().expect("an address");
            let expected = all.iter().any(|network| network.contains(addr));
            assert_eq!(set.contain(addr), expected, "{addr}");
        }
    }

    #[test]
    fn everything_of_one_family_is_nothing_of_the_other() {
        let home = |text: &str| text.parse::<IpAddr>().expect("an address");
        let (_, v4) = networks(&["0.0.0.0/0"]);
        assert!(v4.contain(home("203.0.113.1")) && !v4.contain(home("2001:db8::1")));
        let (_, v6) = networks(&["::/0"]);
        assert!(!v6.contain(home("203.0.113.1")) && v6.contain(home("2001:db8::1")));
        assert!(!Networks::default().contain(home("::1")));
    }
}
