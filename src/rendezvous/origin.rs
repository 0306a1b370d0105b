//! Where links come from, and how many of them from each place. No IO.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

/// What counts as one remote host: an IPv4 address, or the /64 of an IPv6 address, since that is the
/// least that a customer gets and all of it is one person's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    V4(Ipv4Addr),
    /// The upper half.
    V6(u64),
}

impl From<IpAddr> for Origin {
    fn from(ip: IpAddr) -> Self {
        // A socket that listens on both writes an IPv4 address as an IPv6 one.
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.octets();
                let [_, _, _, _, e, f, g, h, ..] = ip.octets();
                Self::V6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
        }
    }
}

/// How many links each origin has.
#[derive(Debug, Default)]
pub(super) struct Origins(HashMap<Origin, usize>);

impl Origins {
    /// Counts one more link of `origin`, unless it has `limit` already.
    pub(super) fn try_add(&mut self, origin: Origin, limit: usize) -> bool {
        let links = self.0.get(&origin).copied().unwrap_or_default();
        let fits = links < limit;
        if fits {
            self.0.insert(origin, links + 1);
        }
        fits
    }

    /// One link of `origin` is gone.
    pub(super) fn remove(&mut self, origin: Origin) {
        if let Some(links) = self.0.get_mut(&origin) {
            *links = links.saturating_sub(1);
            if *links == 0 {
                self.0.remove(&origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(ip: &str) -> Origin {
        ip.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn an_ipv6_network_is_one_origin_and_an_ipv4_address_is_one_however_it_is_written() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1:2:3"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
    }

    #[test]
    fn each_origin_has_its_own_limit_and_one_that_is_gone_is_forgotten() {
        let (a, b) = (origin("192.0.2.1"), origin("192.0.2.2"));
        let mut origins = Origins::default();
        assert!(origins.try_add(a, 2) && origins.try_add(a, 2));
        assert!(!origins.try_add(a, 2));
        assert!(origins.try_add(b, 2));
        origins.remove(a);
        assert!(origins.try_add(a, 2));
        for origin in [a, a, b] {
            origins.remove(origin);
        }
        assert!(origins.0.is_empty());
        assert!(!origins.try_add(a, 0));
    }
}
