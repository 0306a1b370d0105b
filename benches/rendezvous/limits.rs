//! Limits that do not refuse the load of a benchmark.

use libp2p_websocket_star::rendezvous::Limits;

/// Returns the default limits, with more links and higher rates. For the benchmarks `rendezvous` and `cluster`.
pub fn unrefused() -> Limits {
    Limits::default()
        .with_max_links(20_000)
        .with_max_links_per_ip(20_000)
        .with_connection_rate(1_000_000, 1_000_000)
        .with_http_rate(1_000_000, 1_000_000)
        .with_join_rate(1_000_000, 1_000_000)
        .with_origin_join_rate(1_000_000, 1_000_000)
        .with_dial_rate(1_000_000, 1_000_000)
        .with_origin_dial_rate(1_000_000, 1_000_000)
}
