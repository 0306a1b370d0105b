//! Where connections come from, and how much each origin weighs when something is scarce. No IO.

use std::net::{IpAddr, Ipv4Addr};

use super::proxy::Network;

/// The most that a whole /48 weighs, in weights of one address, however many addresses it has. A customer may have all
/// 65,536 /64 networks of a /48, but is still one customer.
const GROUP_WEIGHT: u32 = 4;
/// The number of bits of an IPv6 address that identify an origin.
const ORIGIN_BITS: u32 = 64;
/// The number of bits of an IPv6 address that identify a group.
const GROUP_BITS: u32 = 48;

/// One remote host: an IPv4 address, or the /64 of an IPv6 address. A /64 is the least that a customer gets, and all of
/// it belongs to one customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Origin {
    /// Another node of the cluster. It stands for all peers at that node.
    #[cfg(feature = "cluster")]
    Node(u32),
    V4(Ipv4Addr),
    /// The upper 64 bits.
    V6(u64),
}

/// One customer: an IPv4 address, or the /48 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Group {
    /// Another node of the cluster.
    #[cfg(feature = "cluster")]
    Node(u32),
    V4(Ipv4Addr),
    /// The upper 48 bits.
    V6(u64),
}

impl From<IpAddr> for Origin {
    fn from(ip: IpAddr) -> Self {
        // A socket that listens for both families shows an IPv4 address as an IPv6 address.
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => Self::V6((ip.to_bits() >> ORIGIN_BITS) as u64),
        }
    }
}

impl Origin {
    pub(super) fn group(self) -> Group {
        match self {
            Self::V4(ip) => Group::V4(ip),
            Self::V6(upper) => Group::V6(upper >> (ORIGIN_BITS - GROUP_BITS)),
            #[cfg(feature = "cluster")]
            Self::Node(number) => Group::Node(number),
        }
    }
}

/// An origin with its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claimant {
    /// The IP address itself.
    pub(super) client: IpAddr,
    pub(super) origin: Origin,
    /// The weight of the origin; at least 1.
    pub(super) weight: u32,
    /// The most that all origins of its group weigh together; at least `weight`.
    pub(super) group_limit: u32,
}

#[cfg(feature = "cluster")]
impl Claimant {
    /// Returns the one origin that stands for all peers at another node.
    pub(super) fn of_node(node: super::cluster::NodeNumber) -> Self {
        Self {
            client: std::net::Ipv4Addr::UNSPECIFIED.into(),
            origin: Origin::Node(node.0),
            weight: 1,
            group_limit: 1,
        }
    }
}

/// The weights of origins, where they are not 1.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weights {
    /// The networks with their weights, the longest prefix first.
    networks: Vec<(Network, u32)>,
}

impl Weights {
    /// Gives each origin in `network` this weight, at least 1.
    pub(super) fn insert(&mut self, network: Network, weight: u32) {
        let network = network.truncated(ORIGIN_BITS);
        self.networks.retain(|(known, _)| *known != network);
        self.networks.push((network, weight.max(1)));
        self.networks
            .sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix()));
    }

    /// Returns the origin of an address, with its weight.
    pub(super) fn claimant(&self, ip: IpAddr) -> Claimant {
        let ip = ip.to_canonical();
        let weight = self.weight(ip, ORIGIN_BITS);
        let group_limit = match ip {
            IpAddr::V4(_) => weight,
            IpAddr::V6(_) => {
                let whole = self.weight(ip, GROUP_BITS).saturating_mul(GROUP_WEIGHT);
                whole.max(self.heaviest_within(Network::from(ip).truncated(GROUP_BITS)))
            }
        };
        Claimant {
            client: ip,
            origin: ip.into(),
            weight,
            group_limit,
        }
    }

    /// Returns the weight of the longest network that contains `ip`, among the networks with a prefix of at most
    /// `longest` bits.
    fn weight(&self, ip: IpAddr, longest: u32) -> u32 {
        let mut networks = self.networks.iter();
        let fits = |network: &Network| network.prefix() <= longest && network.contains(ip);
        networks
            .find(|(network, _)| fits(network))
            .map_or(1, |(_, weight)| *weight)
    }

    /// Returns the largest weight of the networks in a group.
    fn heaviest_within(&self, group: Network) -> u32 {
        let within = self.networks.iter().filter(|(network, _)| {
            network.prefix() > GROUP_BITS && network.truncated(GROUP_BITS) == group
        });
        within.map(|(_, weight)| *weight).max().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(ip: &str) -> IpAddr {
        ip.parse().expect("an address")
    }

    fn origin(text: &str) -> Origin {
        ip(text).into()
    }

    fn weights(networks: &[(&str, u32)]) -> Weights {
        let mut weights = Weights::default();
        for (network, weight) in networks {
            weights.insert(network.parse().expect("a network"), *weight);
        }
        weights
    }

    fn weighed(weights: &Weights, address: &str) -> (u32, u32) {
        let claimant = weights.claimant(ip(address));
        (claimant.weight, claimant.group_limit)
    }

    #[test]
    fn an_ipv6_network_is_one_origin_and_an_ipv4_address_is_one_however_it_is_written() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1:2:3"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
    }

    #[test]
    fn a_group_is_an_ipv4_address_or_an_ipv6_48() {
        let group = |text| origin(text).group();
        assert_eq!(group("2001:db8::1"), group("2001:db8:0:ffff::1"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:1::1"));
        assert_ne!(group("192.0.2.1"), group("192.0.2.2"));
    }

    #[test]
    fn an_address_weighs_one_and_a_48_at_most_four() {
        let weights = Weights::default();
        assert_eq!(weighed(&weights, "192.0.2.1"), (1, 1));
        assert_eq!(weighed(&weights, "::ffff:192.0.2.1"), (1, 1));
        assert_eq!(weighed(&weights, "2001:db8::1"), (1, 4));
    }

    #[test]
    fn the_longest_network_tells_the_weight_in_whatever_order_they_are_given() {
        let (wide, narrow) = (("192.0.0.0/16", 5), ("192.0.2.0/24", 7));
        for networks in [[wide, narrow], [narrow, wide]] {
            let weights = weights(&networks);
            assert_eq!(weighed(&weights, "192.0.2.1"), (7, 7));
            assert_eq!(weighed(&weights, "::ffff:192.0.3.1"), (5, 5));
            assert_eq!(weighed(&weights, "192.1.2.1"), (1, 1));
        }
        assert_eq!(weighed(&weights(&[wide, wide, narrow]), "192.0.3.1").0, 5);
        assert_eq!(weighed(&weights(&[("192.0.2.1", 0)]), "192.0.2.1"), (1, 1));
    }

    #[test]
    fn a_48_weighs_four_of_its_addresses_or_as_much_as_the_heaviest() {
        let wide = weights(&[("2001:db8::/32", 10)]);
        assert_eq!(weighed(&wide, "2001:db8::1"), (10, 40));
        let narrow = weights(&[("2001:db8:0:1::/64", 10)]);
        assert_eq!(weighed(&narrow, "2001:db8:0:1::1"), (10, 10));
        assert_eq!(weighed(&narrow, "2001:db8:0:2::1"), (1, 10));
        assert_eq!(weighed(&narrow, "2001:db8:1::1"), (1, 4));
        let huge = weights(&[("::/0", u32::MAX)]);
        assert_eq!(weighed(&huge, "::1"), (u32::MAX, u32::MAX));
    }

    #[test]
    fn all_addresses_of_an_origin_weigh_the_same() {
        let weights = weights(&[("2001:db8::7", 3)]);
        for address in ["2001:db8::7", "2001:db8::8"] {
            assert_eq!(weighed(&weights, address), (3, 4), "{address}");
        }
    }
}
