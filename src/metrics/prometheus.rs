//! For Prometheus.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{LinkSnapshot, Metrics, Snapshot};

impl Collector for Metrics {
    /// Everything begins with `websocket_star_`. The label `rendezvous` is that of links that are open: as many as there may be.
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
        for (_, reason, count) in now.all_resets() {
            let label = [("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&label)?)?;
        }
        for (name, help, number) in GAUGES {
            let name = format!("websocket_star_{name}");
            let mut family = to.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for link in &now.links {
                let Some(number) = number(link) else {
                    continue;
                };
                let label = [("rendezvous", &*link.rendezvous)];
                ConstGauge::new(number).encode(family.encode_family(&label)?)?;
            }
        }
        Ok(())
    }
}

type Gauge = (&'static str, &'static str, fn(&LinkSnapshot) -> Option<f64>);

const GAUGES: [Gauge; 4] = [
    ("links", "Links to rendezvous that are open", |_| Some(1.0)),
    ("joined", "Listeners that have joined", |link| {
        Some(link.joined as f64)
    }),
    ("streams", "Connections, and dials under way", |link| {
        Some(link.streams as f64)
    }),
    (
        "round_trip_seconds",
        "How long the answer to the last heartbeat took",
        |link| Some(link.round_trip?.as_secs_f64()),
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
        ("joins_failed", "Joins that have failed", now.joins_failed),
        ("dials", "Dials that have become a connection", now.dials),
        ("dials_failed", "Dials that have failed", now.dials_failed),
        (
            "accepted",
            "Connections of peers that dialled",
            now.accepted,
        ),
        ("refused", "Dials of peers that were refused", now.refused),
        (
            "sent_bytes",
            "Bytes of connections that went out",
            now.sent_bytes,
        ),
        (
            "received_bytes",
            "Bytes of connections that came in",
            now.received_bytes,
        ),
    ]
}
