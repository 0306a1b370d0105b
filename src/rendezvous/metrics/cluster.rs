//! The metrics of what a node knows of its cluster.

use std::fmt;

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};

use super::{number, numbers};
use crate::rendezvous::cluster::{ClusterStatus, TrunkStatus};

pub(super) fn encode(status: &ClusterStatus, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    for (name, help, value) in [
        (
            "rendezvous_cluster_nodes",
            "other nodes that are alive",
            status.nodes as u64,
        ),
        (
            "rendezvous_cluster_trunks",
            "trunks to other nodes that are open",
            status.trunks as u64,
        ),
        (
            "rendezvous_cluster_remote_peers",
            "peers joined at other nodes, in all tenants",
            status.remote_peers as u64,
        ),
        (
            "rendezvous_cluster_unwritten",
            "joins and leaves that are not in the directory yet",
            status.unwritten as u64,
        ),
        (
            "rendezvous_cluster_unannounced",
            "peers at other nodes that are not announced now, because there are more than can be announced",
            status.unannounced as u64,
        ),
        (
            "rendezvous_cluster_watched",
            "1 while the node is notified of changes in the directory",
            status.is_watched.into(),
        ),
    ] {
        number(to, name, help, MetricType::Gauge, value)?;
    }
    for (name, help, value) in [
        (
            "rendezvous_cluster_conflicts_total",
            "joins that lost to a later join at another node",
            status.conflicts,
        ),
        (
            "rendezvous_cluster_trunk_cuts_total",
            "trunks to other nodes that were cut",
            status.cuts,
        ),
        (
            "rendezvous_cluster_bad_records_total",
            "records of other nodes that could not be used",
            status.bad_records,
        ),
    ] {
        number(to, name, help, MetricType::Counter, value)?;
    }
    if let Some(age) = status.directory_age {
        let name = "rendezvous_cluster_directory_age_seconds";
        let help = "seconds since the directory last showed that it is up to date";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        family.encode_gauge(&age.as_secs_f64())?;
    }
    encode_trunks(&status.each, to)
}

/// Encodes the metrics of each trunk.
fn encode_trunks(trunks: &[TrunkStatus], to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    type Number = fn(&TrunkStatus) -> u64;
    let all: [(&str, &str, MetricType, Number); 5] = [
        (
            "rendezvous_cluster_trunk_open",
            "1 while the trunk to that node is open",
            MetricType::Gauge,
            |trunk| trunk.is_open.into(),
        ),
        (
            "rendezvous_cluster_trunk_streams",
            "links here with a stream to that node",
            MetricType::Gauge,
            |trunk| trunk.streams as u64,
        ),
        (
            "rendezvous_cluster_trunk_stalled_streams",
            "streams with more to send than that node accepts now",
            MetricType::Gauge,
            |trunk| trunk.stalled as u64,
        ),
        (
            "rendezvous_cluster_trunk_sent_bytes_total",
            "bytes sent to that node",
            MetricType::Counter,
            |trunk| trunk.sent_bytes,
        ),
        (
            "rendezvous_cluster_trunk_received_bytes_total",
            "bytes received from that node",
            MetricType::Counter,
            |trunk| trunk.received_bytes,
        ),
    ];
    for (name, help, kind, number) in all {
        let each = trunks.iter();
        let each = each.map(|trunk| (vec![("node", trunk.node.as_str())], number(trunk)));
        numbers(to, name, help, kind, each)?;
    }
    let name = "rendezvous_cluster_trunk_cuts_by_reason_total";
    let help = "times the trunk to that node was cut, by reason";
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for trunk in trunks {
        for (why, count) in &trunk.cuts {
            let labels = [("node", trunk.node.as_str()), ("reason", &why.to_string())];
            family.encode_family(&labels)?.encode_gauge(count)?;
        }
    }
    let name = "rendezvous_cluster_trunk_round_trip_seconds";
    let help = "seconds that the last answer of that node took";
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for trunk in trunks {
        if let Some(time) = trunk.round_trip {
            let labels = [("node", trunk.node.as_str())];
            let mut member = family.encode_family(&labels)?;
            member.encode_gauge(&time.as_secs_f64())?;
        }
    }
    Ok(())
}
