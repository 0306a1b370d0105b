//! The names under which peers may join. No IO.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr, sync::Arc};

use multiaddr::{Multiaddr, Protocol};

/// The longest DNS name, in bytes.
const MAX_NAME: usize = 253;
/// The longest label of a DNS name, between two dots, in bytes.
const MAX_LABEL: usize = 63;

/// A name or an IP address under which peers know the rendezvous: `star.example`, `192.0.2.1`, `2001:db8::1`.
///
/// ```
/// use libp2p_websocket_star::rendezvous::PublicName;
///
/// let name: PublicName = "star.example".parse()?;
/// assert!("wss://star.example:443".parse::<PublicName>().is_err());
/// # Ok::<(), libp2p_websocket_star::rendezvous::PublicNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicName(Name);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Name {
    Ip(IpAddr),
    /// In lower case.
    Dns(String),
}

/// An error: the text is not a [`PublicName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a DNS name or an IP address, without a scheme or a port")]
pub struct PublicNameError;

impl FromStr for PublicName {
    type Err = PublicNameError;

    fn from_str(text: &str) -> Result<Self, PublicNameError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::of_ip(ip));
        }
        let is_label = |label: &str| {
            let byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(byte)
        };
        if text.len() > MAX_NAME || !text.split('.').all(is_label) {
            return Err(PublicNameError);
        }
        Ok(Self(Name::Dns(text.to_ascii_lowercase())))
    }
}

impl fmt::Display for PublicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Name::Ip(ip) => ip.fmt(f),
            Name::Dns(name) => f.write_str(name),
        }
    }
}

impl PublicName {
    pub(crate) fn host(&self) -> Protocol<'_> {
        match &self.0 {
            Name::Ip(ip) => (*ip).into(),
            Name::Dns(name) => Protocol::Dns(name.as_str().into()),
        }
    }

    /// Returns the host in one component of an address, if it names one, in the form in which a client requests it:
    /// without a final dot.
    fn in_part(part: &Protocol<'_>) -> Option<Self> {
        match part {
            Protocol::Ip4(ip) => Some(Self::of_ip((*ip).into())),
            Protocol::Ip6(ip) => Some(Self::of_ip((*ip).into())),
            Protocol::Dns(host)
            | Protocol::Dns4(host)
            | Protocol::Dns6(host)
            | Protocol::Dnsaddr(host) => host.strip_suffix('.').unwrap_or(host).parse().ok(),
            _ => None,
        }
    }

    /// Makes a name of an IP address. An IPv4 address that is written as an IPv6 address is the IPv4 address.
    fn of_ip(ip: IpAddr) -> Self {
        Self(Name::Ip(ip.to_canonical()))
    }
}

/// The names under which peers may join. If the list is empty, every name is allowed that no other tenant has.
#[derive(Debug, Clone)]
pub(crate) struct PublicNames {
    ours: Arc<[PublicName]>,
    /// The names of other tenants.
    others: Arc<BTreeSet<PublicName>>,
}

impl FromIterator<PublicName> for PublicNames {
    fn from_iter<I: IntoIterator<Item = PublicName>>(names: I) -> Self {
        Self {
            ours: names.into_iter().collect(),
            others: Arc::default(),
        }
    }
}

impl PublicNames {
    /// Returns the first component of addresses under each of these names.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = Protocol<'_>> {
        self.ours.iter().map(PublicName::host)
    }

    /// Excludes the names of other tenants. They are never admitted.
    #[must_use]
    pub(crate) fn without(self, others: impl IntoIterator<Item = PublicName>) -> Self {
        Self {
            others: Arc::new(others.into_iter().collect()),
            ..self
        }
    }

    /// Returns whether a peer may join an address: its host must be one of these names, and no component may name a
    /// host of another tenant. The port and the transport may be any, because a proxy may have others than the server.
    pub(crate) fn admit(&self, address: &str) -> bool {
        if self.ours.is_empty() && self.others.is_empty() {
            return true;
        }
        let Ok(address) = address.parse::<Multiaddr>() else {
            return false;
        };
        let Some(host) = address.iter().next().as_ref().and_then(PublicName::in_part) else {
            return false;
        };
        let mut hosts = address.iter().filter_map(|part| PublicName::in_part(&part));
        let is_others = hosts.any(|host| self.others.contains(&host));
        !is_others && (self.ours.is_empty() || self.ours.contains(&host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> PublicNames {
        let name = |text: &&str| text.parse().expect("a name");
        texts.iter().map(name).collect()
    }

    #[test]
    fn an_address_is_admitted_if_its_host_is_one_of_the_names() {
        let names = names(&["Star.example", "192.0.2.1", "2001:db8::1"]);
        for host in [
            "dns4/star.example",
            "dns/STAR.example",
            "dns6/star.Example",
            "dnsaddr/star.example",
            "dns4/star.example.",
            "ip4/192.0.2.1",
            "ip6/2001:db8::1",
            "ip6/2001:0db8:0:0:0:0:0:1",
        ] {
            for rest in ["tcp/443/wss", "tcp/9090/ws"] {
                let address = format!("/{host}/{rest}/p2p-websocket-star");
                assert!(names.admit(&address), "{address}");
            }
        }
        for address in [
            "/dns4/evil.example/tcp/443/wss/p2p-websocket-star",
            "/dns4/sub.star.example/tcp/443/wss/p2p-websocket-star",
            "/dns4/star.example.evil/tcp/443/wss/p2p-websocket-star",
            "/dns4/192.0.2.9/tcp/443/wss/p2p-websocket-star",
            "/ip4/192.0.2.2/tcp/443/wss/p2p-websocket-star",
            "/ip4/169.254.169.254/tcp/80/ws/p2p-websocket-star",
            "/tcp/443/dns4/star.example",
            "star.example",
            "",
        ] {
            assert!(!names.admit(address), "{address}");
        }
    }

    #[test]
    fn names_of_others_are_never_admitted() {
        let others = || ["red.example".parse().expect("a name")];
        let any = names(&[]).without(others());
        assert!(any.admit("/dns4/any.example/tcp/1/ws/p2p-websocket-star"));
        for address in [
            "/dns4/Red.example/tcp/1",
            "/dnsaddr/red.example./tcp/1",
            "/ip6zone/x/dns4/red.example/tcp/1",
            "/dns4/any.example/tcp/1/p2p-circuit/dns4/red.example/tcp/1",
            "/ip6zone/x/ip6/::1/tcp/1",
            "/tcp/1",
            "",
        ] {
            assert!(!any.admit(address), "{address}");
        }
        let ip = ["192.0.2.1".parse().expect("an address")];
        let any = names(&[]).without(ip);
        for address in [
            "/ip4/192.0.2.1/tcp/1",
            "/ip6/::ffff:192.0.2.1/tcp/1",
            "/dns4/192.0.2.1/tcp/1",
        ] {
            assert!(!any.admit(address), "{address}");
        }
        assert!(any.admit("/ip4/192.0.2.2/tcp/1"));
        let both = names(&["red.example", "blue.example"]).without(others());
        assert!(both.admit("/dns6/blue.example/tcp/1"));
        assert!(!both.admit("/dns6/red.example/tcp/1"));
    }

    #[test]
    fn without_names_every_address_is_admitted() {
        assert!(names(&[]).admit("/dns4/any.example"));
    }

    #[test]
    fn names_are_names_and_nothing_around_them() {
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            ".",
            "star..example",
            "star.example:443",
            "wss://star.example",
            "/dns4/star.example",
            "star.example\r\n",
            "star example",
            "[::1]",
            "*.example",
            &long,
        ] {
            assert_eq!(bad.parse::<PublicName>(), Err(PublicNameError), "{bad:?}");
        }
        for good in ["localhost", "star-1.example", "127.0.0.1", "::1"] {
            let name: PublicName = good.parse().expect("a name");
            assert_eq!(name.to_string(), good);
        }
    }
}
