//! The server, which is a process of its own.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use libp2p_websocket_star::rendezvous::{Config, Refused, Server};
use serde_json::json;

use crate::{other::tell, plan::Plan};

/// Runs the server for a plan of this size. With `both`, it listens on IPv6 too.
pub async fn serve(plan: Plan, both: bool) -> io::Result<()> {
    let addr: SocketAddr = match both {
        true => (Ipv6Addr::UNSPECIFIED, 0).into(),
        false => (Ipv4Addr::LOCALHOST, 0).into(),
    };
    let mut config = Config::default()
        .with_listen_addr(addr)
        .with_limits(plan.limits());
    if !both {
        config = config.with_trusted_proxies([std::net::IpAddr::from(Ipv4Addr::LOCALHOST).into()]);
    }
    let server = Server::bind(config).await.map_err(io::Error::other)?;
    tell(|| {
        let now = server.snapshot();
        let refused: u64 = now
            .refusals
            .iter()
            .filter(|(reason, _)| {
                matches!(
                    reason,
                    Refused::TooManyConnections
                        | Refused::ConnectionRate
                        | Refused::ConnectionGaveWay
                )
            })
            .map(|(_, count)| count)
            .sum();
        json!({
            "port": server.local_addr().port(),
            "links": now.links,
            "connections": now.connections,
            "peers": now.peers.len(),
            "dials": now.dials,
            "queued": now.queued_bytes,
            "joins": now.counters.joins,
            "joins refused": now.counters.joins_refused,
            "dropped": now.announcements_dropped,
            "refused": refused,
        })
    })
    .await
}
