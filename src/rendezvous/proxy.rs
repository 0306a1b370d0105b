//! Finds the client behind a reverse proxy: `X-Forwarded-For`, as far as it can be trusted. No IO.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use hyper::header::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The IP addresses that begin with the same bits: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
///
/// ```
/// use libp2p_websocket_star::rendezvous::Network;
///
/// let network: Network = "10.1.0.0/16".parse()?;
/// assert!(network.contains([10, 1, 2, 3].into()));
/// assert!(!network.contains([10, 2, 2, 3].into()));
/// # Ok::<(), libp2p_websocket_star::rendezvous::NetworkError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// The first address of the network; never an IPv4 address that is written as an IPv6 address.
    addr: IpAddr,
    prefix: u32,
}

/// An error: the text is not a [`Network`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// There is no IP address before the slash.
    #[error("must be an IP address, or a network such as 10.0.0.0/8 or 2001:db8::/32")]
    Address,
    /// The text after the slash is not a valid number of bits for such an address.
    #[error("must have a number from 0 to {longest} after the slash")]
    Prefix {
        /// The number of bits in an address of that family.
        longest: u32,
    },
}

impl Network {
    fn new(addr: IpAddr, prefix: u32) -> Self {
        let addr = match addr {
            IpAddr::V4(addr) => {
                let mask = u32::MAX.checked_shl(Ipv4Addr::BITS - prefix);
                Ipv4Addr::from_bits(addr.to_bits() & mask.unwrap_or_default()).into()
            }
            IpAddr::V6(addr) => {
                let mask = u128::MAX.checked_shl(Ipv6Addr::BITS - prefix);
                Ipv6Addr::from_bits(addr.to_bits() & mask.unwrap_or_default()).into()
            }
        };
        Self { addr, prefix }
    }

    /// Returns the number of bits that its addresses have in common.
    pub(super) fn prefix(&self) -> u32 {
        self.prefix
    }

    /// Widens an IPv6 network so that its addresses have at most `prefix` bits in common. An IPv4 network stays as it
    /// is.
    pub(super) fn truncated(self, prefix: u32) -> Self {
        match self.addr {
            IpAddr::V4(_) => self,
            IpAddr::V6(_) => Self::new(self.addr, self.prefix.min(prefix)),
        }
    }

    /// Returns the first of its addresses.
    pub fn first(&self) -> IpAddr {
        self.addr
    }

    /// Returns the last of its addresses.
    pub fn last(&self) -> IpAddr {
        match self.addr {
            IpAddr::V4(addr) => {
                let others = u32::MAX.checked_shr(self.prefix).unwrap_or_default();
                Ipv4Addr::from_bits(addr.to_bits() | others).into()
            }
            IpAddr::V6(addr) => {
                let others = u128::MAX.checked_shr(self.prefix).unwrap_or_default();
                Ipv6Addr::from_bits(addr.to_bits() | others).into()
            }
        }
    }

    /// Returns whether `addr` is one of its addresses. An IPv4 address that is written as an IPv6 address counts as the
    /// IPv4 address.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        bits(addr) == bits(self.addr) && Self::new(addr, self.prefix) == *self
    }
}

impl From<IpAddr> for Network {
    fn from(addr: IpAddr) -> Self {
        let addr = addr.to_canonical();
        let prefix = bits(addr);
        Self { addr, prefix }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = addr.parse().map_err(|_| NetworkError::Address)?;
        let network = Self::from(written);
        let Some(prefix) = prefix else {
            return Ok(network);
        };
        let longest = bits(written);
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= longest);
        let prefix: u32 = prefix.ok_or(NetworkError::Prefix { longest })?;
        // If an IPv4 address was written as an IPv6 address, only the last 32 bits count.
        Ok(match (prefix + network.prefix).checked_sub(longest) {
            Some(prefix) => Self::new(network.addr, prefix),
            None => Self::new(written, prefix),
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

fn bits(addr: IpAddr) -> u32 {
    match addr {
        IpAddr::V4(_) => Ipv4Addr::BITS,
        IpAddr::V6(_) => Ipv6Addr::BITS,
    }
}

/// The proxies that are trusted to say where a request comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies(Arc<[Network]>);

impl FromIterator<Network> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl TrustedProxies {
    /// Returns whether there is no such proxy.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether an address belongs to one of the proxies.
    pub(super) fn contain(&self, addr: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(addr))
    }

    /// Returns the client whose request `remote` has handed over.
    ///
    /// Each proxy appends the address of the peer that asked it. The list is therefore read from its end, up to the
    /// first address that is not trusted: everything before it is only what that peer claims. Reading also stops at
    /// anything that is not an address, because a proxy would not append it.
    pub(super) fn client(&self, remote: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut last = remote.to_canonical();
        if !self.contain(last) {
            return last;
        }
        let values = headers.get_all(FORWARDED_FOR).into_iter().rev();
        let mut hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        while let Some(hop) = hops.next().and_then(parse_hop) {
            last = hop;
            if !self.contain(hop) {
                break;
            }
        }
        last
    }
}

/// Parses an address as proxies write it: some add the port, and an IPv6 address may be in brackets.
fn parse_hop(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let addr = match bracketed {
        Some(bracketed) => IpAddr::V6(bracketed.parse().ok()?),
        None => text
            .parse()
            .or_else(|_| text.parse().map(|addr: SocketAddr| addr.ip()))
            .ok()?,
    };
    Some(addr.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn trusted(networks: &[&str]) -> TrustedProxies {
        let networks = networks.iter().map(|text| text.parse());
        networks.collect::<Result<_, _>>().expect("networks")
    }

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value).expect("a value");
            headers.append(FORWARDED_FOR, value);
        }
        headers
    }

    /// Returns the client of a request through 10.0.0.1, where 10.0.0.0/8 and fd00::/8 are trusted.
    fn through_proxy(values: &[&[u8]]) -> IpAddr {
        let trusted = trusted(&["10.0.0.0/8", "fd00::/8"]);
        trusted.client(ip("10.0.0.1"), &headers(values))
    }

    #[test]
    fn a_network_goes_from_its_first_to_its_last_address() {
        for (network, first, last) in [
            ("10.9.9.9/8", "10.0.0.0", "10.255.255.255"),
            ("10.0.0.7", "10.0.0.7", "10.0.0.7"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("2001:db8::/126", "2001:db8::", "2001:db8::3"),
            ("::1", "::1", "::1"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::ffff:10.0.0.0/104", "10.0.0.0", "10.255.255.255"),
        ] {
            let network: Network = network.parse().expect(network);
            assert_eq!((network.first(), network.last()), (ip(first), ip(last)));
        }
    }

    #[test]
    fn a_network_is_an_address_or_has_a_prefix() {
        for (network, inside, outside) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.0.0.1/32", "10.0.0.1", "10.0.0.0"),
            ("10.9.9.9/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/31", "10.0.0.1", "10.0.0.2"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.9"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
            ("::1", "::1", "::2"),
            ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("::ffff:0:0/90", "::fff0:0:0", "10.0.0.1"),
        ] {
            let parsed: Network = network.parse().expect(network);
            assert!(parsed.contains(ip(inside)), "{network} {inside}");
            assert!(!parsed.contains(ip(outside)), "{network} {outside}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/8",
            "10.0.0",
            "10.0.0.1:80",
            "[::1]",
            "localhost",
            " ::1",
        ] {
            assert_eq!(
                text.parse::<Network>(),
                Err(NetworkError::Address),
                "{text}"
            );
        }
        for (text, longest) in [
            ("10.0.0.0/33", 32),
            ("10.0.0.0/", 32),
            ("10.0.0.0/-1", 32),
            ("10.0.0.0/8/8", 32),
            ("10.0.0.0/255.0.0.0", 32),
            ("::/129", 128),
        ] {
            let error = NetworkError::Prefix { longest };
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
    }

    #[test]
    fn nobody_is_believed_who_is_not_trusted() {
        let claims = headers(&[b"192.0.2.1"]);
        let stranger = ip("203.0.113.9");
        assert_eq!(trusted(&[]).client(stranger, &claims), stranger);
        let proxies = trusted(&["10.0.0.0/8"]);
        assert_eq!(proxies.client(stranger, &claims), stranger);
        assert_eq!(
            proxies.client(ip("::ffff:10.0.0.1"), &claims),
            ip("192.0.2.1")
        );
    }

    #[test]
    fn the_last_address_that_is_not_trusted_is_the_clients() {
        for (values, expected) in [
            (&[&b"192.0.2.1"[..]][..], "192.0.2.1"),
            (&[b"6.6.6.6, 192.0.2.1"], "192.0.2.1"),
            (&[b"6.6.6.6,192.0.2.1 ,\t10.0.0.2"], "192.0.2.1"),
            (
                &[b"6.6.6.6", b"192.0.2.1", b"10.0.0.2, fd00::1"],
                "192.0.2.1",
            ),
            (&[b"192.0.2.1:5678"], "192.0.2.1"),
            (&[b"2001:db8::1"], "2001:db8::1"),
            (&[b"[2001:db8::1]"], "2001:db8::1"),
            (&[b"[2001:db8::1]:80"], "2001:db8::1"),
            (&[b"::ffff:192.0.2.1"], "192.0.2.1"),
            // If all addresses are proxies, the client is the first of them.
            (&[b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(through_proxy(values), ip(expected), "{values:?}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_list() {
        for bad in [
            &b""[..],
            b" ",
            b"unknown",
            b"_hidden",
            b"1.2.3",
            b"1.2.3.4:",
            b"1.2.3.4:99999",
            b"[::1",
            b"[1.2.3.4]",
            b"::1]:80",
            b"\"[::1]:80\"",
            b"fe80::1%eth0",
            b"\xff\xfe",
            b"1.2.3.4;5",
        ] {
            assert_eq!(through_proxy(&[bad]), ip("10.0.0.1"), "{bad:?}");
            let before_a_proxy = [b"192.0.2.1, ", bad, b", 10.0.0.2"].concat();
            assert_eq!(through_proxy(&[&before_a_proxy]), ip("10.0.0.2"), "{bad:?}");
            let before_the_client = [bad, b", 192.0.2.1"].concat();
            assert_eq!(through_proxy(&[&before_the_client]), ip("192.0.2.1"));
        }
    }

    #[test]
    fn a_list_of_any_length_is_read_from_its_end() {
        let mut long = b"6.6.6.6, ".repeat(100_000);
        long.extend(b"192.0.2.1");
        assert_eq!(through_proxy(&[&long]), ip("192.0.2.1"));
        let mut proxies = b"192.0.2.1".to_vec();
        proxies.extend(b", 10.0.0.2".repeat(100_000));
        assert_eq!(through_proxy(&[&proxies]), ip("192.0.2.1"));
    }

    /// One entry of the list: a trusted proxy or an untrusted peer, in one of the ways in which it can be written.
    #[derive(Debug, Clone, Copy)]
    struct Hop {
        ip: IpAddr,
        is_trusted: bool,
        style: u8,
        begins_line: bool,
    }

    fn hop() -> impl Strategy<Value = Hop> {
        any::<(bool, bool, u8, u8, bool)>().prop_map(|(is_trusted, is_v6, last, style, line)| {
            let ip = match (is_trusted, is_v6) {
                (true, false) => Ipv4Addr::new(10, 0, 0, last).into(),
                (false, false) => Ipv4Addr::new(192, 0, 2, last).into(),
                (true, true) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into(),
                (false, true) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into(),
            };
            Hop {
                ip,
                is_trusted,
                style,
                begins_line: line,
            }
        })
    }

    impl Hop {
        fn written(&self) -> String {
            match (self.ip, self.style % 3) {
                (ip, 0) => format!(" {ip}"),
                (IpAddr::V4(ip), 1) => format!("::ffff:{ip}\t"),
                (IpAddr::V4(ip), _) => format!("{ip}:80"),
                (IpAddr::V6(ip), 1) => format!("[{ip}]"),
                (IpAddr::V6(ip), _) => format!(" [{ip}]:80 "),
            }
        }
    }

    proptest! {
        #[test]
        fn the_list_is_read_from_its_end_as_far_as_proxies_are_trusted(
            hops in proptest::collection::vec(hop(), 0..12),
        ) {
            let mut lines: Vec<String> = Vec::new();
            for hop in &hops {
                match lines.last_mut().filter(|_| !hop.begins_line) {
                    Some(line) => *line = format!("{line},{}", hop.written()),
                    None => lines.push(hop.written()),
                }
            }
            let lines: Vec<_> = lines.iter().map(String::as_bytes).collect();
            let stranger = hops.iter().rev().find(|hop| !hop.is_trusted);
            let expected = stranger.or(hops.first()).map_or(ip("10.0.0.1"), |hop| hop.ip);
            prop_assert_eq!(through_proxy(&lines), expected);
        }

        #[test]
        fn whatever_comes_first_the_proxys_own_word_counts(before in "[ -~]{0,60}") {
            let value = format!("{before}, 192.0.2.1");
            prop_assert_eq!(through_proxy(&[value.as_bytes()]), ip("192.0.2.1"));
        }

        #[test]
        fn any_network_is_parsed_or_refused(text in "[0-9a-f.:/]{0,40}") {
            if let Ok(network) = text.parse::<Network>() {
                prop_assert!(network.contains(network.addr));
                prop_assert_eq!(network.to_string().parse(), Ok(network));
            }
        }
    }
}
