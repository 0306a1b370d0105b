//! The collector for Prometheus.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{LinkSnapshot, Metrics, RESETS, Snapshot};

impl Collector for Metrics {
    /// All names begin with `websocket_star_`. The label `rendezvous` has one value for each rendezvous with an open
    /// link, so the limit on links bounds its values.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = self.snapshot();
        let to = &mut encoder;
        for (name, help, count) in counters(&now) {
            let name = format!("websocket_star_{name}");
            let counter = ConstCounter::new(count);
            counter.encode(to.encode_descriptor(&name, help, None, MetricType::Counter)?)?;
        }
        let (name, help) = ("websocket_star_resets", "Connections that were reset");
        let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
        for ((_, reason), count) in RESETS.iter().zip(now.resets) {
            let label = [("reason", *reason)];
            ConstCounter::new(count).encode(family.encode_family(&label)?)?;
        }
        // Several links can have the same URL, if they differ in the names that they look up or in the hosts that they
        // connect to.
        let mut links: BTreeMap<&str, Vec<&LinkSnapshot>> = BTreeMap::new();
        for link in &now.links {
            links.entry(&link.rendezvous).or_default().push(link);
        }
        for (name, help, number) in GAUGES {
            let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (rendezvous, links) in &links {
                if let Some(number) = number(links) {
                    let label = [("rendezvous", *rendezvous)];
                    ConstGauge::new(number).encode(family.encode_family(&label)?)?;
                }
            }
        }
        Ok(())
    }
}

/// A name, its help text, and the value for all links to one rendezvous.
type Gauge = (
    &'static str,
    &'static str,
    fn(&[&LinkSnapshot]) -> Option<f64>,
);

const GAUGES: [Gauge; 4] = [
    (
        "websocket_star_links",
        "Open links to rendezvous",
        |links| Some(links.len() as f64),
    ),
    (
        "websocket_star_joined",
        "Listeners that have joined",
        |links| Some(links.iter().map(|link| link.joined as f64).sum()),
    ),
    (
        "websocket_star_streams",
        "Connections and pending dials",
        |links| Some(links.iter().map(|link| link.streams as f64).sum()),
    ),
    (
        "websocket_star_round_trip_seconds",
        "Time until the last heartbeat was answered",
        |links| {
            let latest = links.iter().rev().find_map(|link| link.round_trip);
            latest.map(|time| time.as_secs_f64())
        },
    ),
];

fn counters(now: &Snapshot) -> [(&'static str, &'static str, u64); 11] {
    [
        ("links_opened", "Links that were opened", now.links_opened),
        ("links_lost", "Links that were lost", now.links_lost),
        (
            "links_failed",
            "Links that could not be opened",
            now.links_failed,
        ),
        ("joins", "Joins that were acknowledged", now.joins),
        ("joins_failed", "Joins that failed", now.joins_failed),
        ("dials", "Dials that became a connection", now.dials),
        ("dials_failed", "Dials that failed", now.dials_failed),
        (
            "accepted",
            "Dials of peers that were accepted",
            now.accepted,
        ),
        ("refused", "Dials of peers that were refused", now.refused),
        (
            "sent_bytes",
            "Bytes of connections that were sent",
            now.sent_bytes,
        ),
        (
            "received_bytes",
            "Bytes of connections that were received",
            now.received_bytes,
        ),
    ]
}
