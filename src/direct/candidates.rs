//! The addresses that lead directly to a node: those that this node sends, and those that it dials.

use std::{collections::VecDeque, net::IpAddr};

use multiaddr::{Multiaddr, Protocol};

use crate::link::embedded_v4;

/// The maximum number of addresses sent to a peer, and dialled for a peer. A swarm dials as many at the same time.
const MAX_TOLD: usize = 8;
/// The maximum number of confirmed addresses, and of observed addresses. It is small because every connected peer can
/// claim to have observed another address.
const MAX_OF_OTHERS: usize = 3;
/// The maximum number of remembered listen addresses.
const MAX_LISTENED: usize = 16;

/// The addresses at which this node may be reached directly.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Addresses that were tested or that the application has set, the newest first.
    confirmed: VecDeque<Multiaddr>,
    /// Addresses at which others see this node, the newest first.
    observed: VecDeque<Multiaddr>,
    listened: Vec<Multiaddr>,
}

impl Candidates {
    /// Notes that others see this node at `address`. Returns whether that is new.
    pub(super) fn observed(&mut self, address: &Multiaddr) -> bool {
        is_direct(address, true) && put_first(&mut self.observed, address)
    }

    /// Notes that this node can be reached at `address`. Returns whether that is new.
    pub(super) fn confirmed(&mut self, address: &Multiaddr) -> bool {
        is_direct(address, true) && put_first(&mut self.confirmed, address)
    }

    /// Notes that this node listens at `address`. Returns whether that is new.
    pub(super) fn listened(&mut self, address: &Multiaddr) -> bool {
        let new = is_direct(address, true)
            && self.listened.len() < MAX_LISTENED
            && !self.listened.contains(address);
        if new {
            self.listened.push(address.clone());
        }
        new
    }

    /// Notes that this node can no longer be reached at `address`.
    pub(super) fn expired(&mut self, address: &Multiaddr) {
        self.confirmed.retain(|known| known != address);
        self.observed.retain(|known| known != address);
        self.listened.retain(|known| known != address);
    }

    /// Returns the addresses to send to a peer, the best first.
    pub(super) fn to_tell(&self, loopback: bool) -> Vec<Multiaddr> {
        let mut told: Vec<Multiaddr> = Vec::new();
        let of_others = self.confirmed.iter().chain(&self.observed);
        for address in of_others.chain(&self.listened) {
            if is_direct(address, loopback) && !told.contains(address) {
                told.push(address.clone());
            }
        }
        told.truncate(MAX_TOLD);
        told
    }
}

/// Puts an address in front, and removes the oldest ones. Returns whether it is new.
fn put_first(addresses: &mut VecDeque<Multiaddr>, address: &Multiaddr) -> bool {
    let known = addresses.iter().position(|known| known == address);
    if let Some(known) = known {
        addresses.remove(known);
    }
    addresses.push_front(address.clone());
    addresses.truncate(MAX_OF_OTHERS);
    known.is_none()
}

/// Returns the addresses that are dialled, out of those that a peer has sent.
pub(super) fn to_dial(told: &[Multiaddr], loopback: bool) -> Vec<Multiaddr> {
    let direct = told.iter().filter(|address| is_direct(address, loopback));
    direct.take(MAX_TOLD).cloned().collect()
}

/// Returns whether an address begins with the IP address of a host that may be reached directly. Names are refused,
/// because a stranger could make this node look them up. Also refused are addresses of this machine itself, unless
/// `loopback` is set, addresses of groups of hosts, and link-local addresses, at which clouds run internal services.
fn is_direct(address: &Multiaddr, loopback: bool) -> bool {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => embedded_v4(ip).map_or(IpAddr::V6(ip), IpAddr::V4),
        _ => return false,
    };
    let relayed = parts.any(|part| {
        matches!(
            part,
            Protocol::P2pCircuit | Protocol::P2pWebSocketStar | Protocol::P2pWebRtcStar
        )
    });
    let elsewhere = match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_unicast_link_local(),
    };
    !relayed && !elsewhere && !ip.is_multicast() && (loopback || !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().expect("a multiaddr")
    }

    #[test]
    fn addresses_of_hosts_are_told_and_dialled() {
        for text in [
            "/ip4/192.0.2.1/tcp/4001",
            "/ip4/10.0.0.7/udp/4001/quic-v1",
            "/ip6/2001:db8::1/udp/4001/quic-v1",
        ] {
            assert!(is_direct(&address(text), false), "{text}");
        }
    }

    #[test]
    fn what_is_relayed_named_a_group_or_this_machine_is_neither_told_nor_dialled() {
        let peer = libp2p_identity::PeerId::random();
        for text in [
            "/ip4/192.0.2.1/tcp/443/wss/p2p-websocket-star".to_owned(),
            format!("/ip4/192.0.2.1/tcp/4001/p2p/{peer}/p2p-circuit"),
            format!("/p2p/{peer}"),
            "/dns4/inside.example/tcp/80".to_owned(),
            "/ip4/0.0.0.0/tcp/4001".to_owned(),
            "/ip4/127.0.0.1/tcp/22".to_owned(),
            "/ip6/::1/tcp/22".to_owned(),
            "/ip6/::ffff:127.0.0.1/tcp/22".to_owned(),
            "/ip6/64:ff9b::169.254.169.254/tcp/80".to_owned(),
            "/ip6/2002:7f00:1::/tcp/22".to_owned(),
            "/ip4/169.254.169.254/tcp/80".to_owned(),
            "/ip6/fe80::1/tcp/80".to_owned(),
            "/ip4/224.0.0.1/udp/4001/quic-v1".to_owned(),
            "/ip4/255.255.255.255/udp/4001/quic-v1".to_owned(),
            "/memory/7".to_owned(),
        ] {
            assert!(!is_direct(&address(&text), false), "{text}");
        }
        assert!(is_direct(&address("/ip4/127.0.0.1/tcp/22"), true));
    }

    #[test]
    fn the_newest_observed_addresses_are_told_first_and_not_too_many() {
        let mut candidates = Candidates::default();
        assert!(candidates.listened(&address("/ip4/10.0.0.7/tcp/4001")));
        assert!(candidates.listened(&address("/ip4/127.0.0.1/tcp/4001")));
        assert!(candidates.observed(&address("/ip4/192.0.2.1/tcp/1")));
        assert!(candidates.observed(&address("/ip4/192.0.2.1/tcp/2")));
        assert!(!candidates.observed(&address("/ip4/192.0.2.1/tcp/1")));
        let expected = ["192.0.2.1/tcp/1", "192.0.2.1/tcp/2", "10.0.0.7/tcp/4001"];
        let told = candidates.to_tell(false);
        assert_eq!(told, expected.map(|text| address(&format!("/ip4/{text}"))));

        for port in 10..10_000 {
            candidates.observed(&address(&format!("/ip4/192.0.2.1/tcp/{port}")));
        }
        assert!(candidates.confirmed(&address("/ip4/192.0.2.1/tcp/9")));
        let told = candidates.to_tell(false);
        let expected =
            ["9", "9999", "9998", "9997"].map(|port| format!("/ip4/192.0.2.1/tcp/{port}"));
        assert_eq!(told[..4], expected.map(|text| address(&text)));
        assert_eq!(told[4..], [address("/ip4/10.0.0.7/tcp/4001")]);
    }

    #[test]
    fn what_a_stranger_has_told_is_dialled_without_what_leads_elsewhere() {
        let told = ["127.0.0.1/tcp/22", "192.0.2.1/tcp/4001"];
        let told = told.map(|text| address(&format!("/ip4/{text}")));
        assert_eq!(to_dial(&told, false), told[1..]);
        let many: Vec<_> = (1..1_000)
            .map(|port| address(&format!("/ip4/192.0.2.1/tcp/{port}")))
            .collect();
        assert_eq!(to_dial(&many, false), many[..MAX_TOLD]);
    }
}
