//! The addresses of clients: each origin has an address of its own.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::{TcpSocket, TcpStream};

/// The number of /64 networks of its /48 that an attacker uses.
const NETWORKS: usize = 1024;
/// The address of the server over IPv6, in the range that is routed to this machine.
const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// The addresses that an attacker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// One IPv4 address.
    V4,
    /// An IPv6 /48 that is routed to this machine.
    V6,
    /// An IPv6 /48 that a trusted proxy reports.
    Forwarded,
}

impl Family {
    pub const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Forwarded];

    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "an IPv4 address",
            Self::V6 => "an IPv6 /48",
            Self::Forwarded => "an IPv6 /48 behind a proxy",
        }
    }

    /// Returns the weight that the server gives to the addresses: the maximum, in units of one IPv4 address.
    pub fn weight(self) -> usize {
        match self {
            Self::V4 => 1,
            Self::V6 | Self::Forwarded => 4,
        }
    }
}

/// The origin of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    ip: IpAddr,
    /// The client address that a proxy reports.
    client: Option<Ipv6Addr>,
}

impl Source {
    /// Returns one of the honest origins.
    pub fn honest(origin: usize) -> Self {
        Self::v4(1, origin)
    }

    /// Returns an origin of the measuring process.
    pub fn watcher(n: usize) -> Self {
        Self::v4(2, n)
    }

    /// Returns the source of the attacker's `n`-th connection. Each attack has its own address or /48, so that it
    /// does not find rates used up by another attack.
    pub fn attacker(family: Family, attack: usize, n: usize) -> Self {
        let networks = Ipv6Addr::new(
            0x2001,
            0xdb8,
            0x100 + attack as u16,
            (n % NETWORKS) as u16,
            0,
            0,
            0,
            1,
        );
        match family {
            Family::V4 => Self::v4(3, attack),
            Family::V6 => Self {
                ip: networks.into(),
                client: None,
            },
            Family::Forwarded => Self {
                ip: Ipv4Addr::LOCALHOST.into(),
                client: Some(networks),
            },
        }
    }

    fn v4(kind: u8, n: usize) -> Self {
        let ip = Ipv4Addr::new(127, kind, (n / 250) as u8, (n % 250) as u8 + 1);
        Self {
            ip: ip.into(),
            client: None,
        }
    }

    pub async fn connect(self, port: u16) -> io::Result<TcpStream> {
        let (socket, server) = match self.ip {
            IpAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::from(Ipv4Addr::LOCALHOST)),
            IpAddr::V6(_) => {
                let socket = TcpSocket::new_v6()?;
                // The addresses are routed here, but none of them is assigned to this machine.
                socket2::SockRef::from(&socket).set_freebind_v6(true)?;
                (socket, SERVER.into())
            }
        };
        socket.bind(SocketAddr::new(self.ip, 0))?;
        socket.connect(SocketAddr::new(server, port)).await
    }

    /// Returns the header lines that a proxy adds to report the client.
    pub fn headers(self) -> String {
        let of = |client| format!("X-Forwarded-For: {client}\r\n");
        self.client.map_or_else(String::new, of)
    }
}
