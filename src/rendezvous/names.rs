//! The names under which peers may join. No IO.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use multiaddr::{Multiaddr, Protocol};

/// The longest DNS name, in bytes.
const MAX_NAME: usize = 253;
/// The longest part of it between two dots.
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

/// A text is no [`PublicName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a DNS name or an IP address, without a scheme or a port")]
pub struct PublicNameError;

impl FromStr for PublicName {
    type Err = PublicNameError;

    fn from_str(text: &str) -> Result<Self, PublicNameError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self(Name::Ip(ip)));
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

    fn is(&self, host: &Protocol<'_>) -> bool {
        match (&self.0, host) {
            (Name::Ip(IpAddr::V4(ip)), Protocol::Ip4(host)) => ip == host,
            (Name::Ip(IpAddr::V6(ip)), Protocol::Ip6(host)) => ip == host,
            (
                Name::Dns(name),
                Protocol::Dns(host)
                | Protocol::Dns4(host)
                | Protocol::Dns6(host)
                | Protocol::Dnsaddr(host),
            ) => name.eq_ignore_ascii_case(host.strip_suffix('.').unwrap_or(host)),
            _ => false,
        }
    }
}

/// The names under which peers may join; with none, under any but those of others.
#[derive(Debug, Clone)]
pub(crate) struct PublicNames {
    ours: Arc<[PublicName]>,
    /// Those of other tenants.
    others: Arc<[PublicName]>,
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
    /// How addresses under these names begin.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = Protocol<'_>> {
        self.ours.iter().map(PublicName::host)
    }

    /// The same, and never under these, which are others'.
    #[must_use]
    pub(crate) fn without(self, others: impl IntoIterator<Item = PublicName>) -> Self {
        Self {
            others: others.into_iter().collect(),
            ..self
        }
    }

    /// Whether an address that a peer joins begins with one of them. The port and the transport may be any: a proxy
    /// may have others than the server.
    pub(crate) fn admit(&self, address: &str) -> bool {
        if self.ours.is_empty() && self.others.is_empty() {
            return true;
        }
        let address = address.parse::<Multiaddr>();
        let host = address.as_ref().ok().and_then(|addr| addr.iter().next());
        let is_in = |names: &[PublicName]| {
            let host = host.as_ref();
            host.is_some_and(|host| names.iter().any(|name| name.is(host)))
        };
        match self.ours.is_empty() {
            true => !is_in(&self.others),
            false => is_in(&self.ours) && !is_in(&self.others),
        }
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
            "/dns4/192.0.2.1/tcp/443/wss/p2p-websocket-star",
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
        for address in ["/dns4/Red.example/tcp/1", "/dnsaddr/red.example./tcp/1"] {
            assert!(!any.admit(address), "{address}");
        }
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
