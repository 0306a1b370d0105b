//! `/metrics`, in Prometheus' text format 0.0.4, with the names of the npm server.
//!
//! Nothing is kept for it but what is counted anyway: it is put together when it is asked for.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _, text},
    metrics::{MetricType, histogram::Histogram},
    registry::Registry,
};

use super::{
    access::{AccessCount, Doorkeeper, by_name},
    hub::{Figures, Hub},
};

/// OpenMetrics wants every counter to end in `_total`; the npm server's do not.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// From a neighbour's answer to the deadline, in seconds.
const DIAL_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// How long dialled peers take to answer.
#[derive(Debug, Clone)]
pub(super) struct DialTime(Histogram);

impl Default for DialTime {
    fn default() -> Self {
        Self(Histogram::new(DIAL_BUCKETS))
    }
}

impl DialTime {
    pub(super) fn observe(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }
}

/// The whole text.
pub(super) fn encode(hub: &Hub) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape {
        figures: hub.figures(),
        dial_time: hub.dial_time().clone(),
        access: hub.doorkeeper().map(Doorkeeper::counts).unwrap_or_default(),
        expires: hub.tls().map(|tls| {
            let expires = tls.expires().duration_since(UNIX_EPOCH);
            expires.unwrap_or_default().as_secs()
        }),
    }));
    let mut text = String::new();
    text::encode_registry(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape {
    figures: Figures,
    dial_time: DialTime,
    access: Vec<AccessCount>,
    expires: Option<u64>,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        let Figures {
            peers, snapshot, ..
        } = &self.figures;
        let counters = snapshot.counters;
        let (joined, not_joined) = (counters.joins, counters.joins_refused);
        let (dialled, not_dialled) = (counters.dials, counters.dials_failed);

        gauge(to, "rendezvous_peers", "peers online now", peers)?;
        for (name, help, value) in [
            (
                "rendezvous_joins_total",
                "all joins since server started",
                joined + not_joined,
            ),
            (
                "rendezvous_joins_total_success",
                "successful joins since server started",
                joined,
            ),
            (
                "rendezvous_joins_total_failure",
                "refused joins since server started",
                not_joined,
            ),
            (
                "rendezvous_dials_total",
                "all dials since server started",
                dialled + not_dialled,
            ),
            (
                "rendezvous_dials_total_success",
                "accepted dials since server started",
                dialled,
            ),
            (
                "rendezvous_dials_total_failure",
                "failed dials since server started",
                not_dialled,
            ),
            (
                "rendezvous_relayed_items_total",
                "items relayed",
                snapshot.relayed_items,
            ),
            (
                "rendezvous_relayed_bytes_total",
                "bytes of the items relayed",
                snapshot.relayed_bytes,
            ),
            (
                "rendezvous_announcements_dropped_total",
                "announcements dropped because a link was behind",
                snapshot.announcements_dropped,
            ),
            (
                "rendezvous_panics_total",
                "connections ended by a bug of the server",
                snapshot.panics,
            ),
        ] {
            counter(to, name, help, value)?;
        }
        gauge(
            to,
            "rendezvous_links",
            "links open now, joined or not",
            &snapshot.links,
        )?;
        gauge(
            to,
            "rendezvous_connections",
            "connections open now, links included",
            &snapshot.connections,
        )?;
        gauge(
            to,
            "rendezvous_dials",
            "dials pending or open now",
            &snapshot.dials,
        )?;
        gauge(
            to,
            "rendezvous_queue_bytes",
            "bytes that wait to be written",
            &snapshot.queued_bytes,
        )?;
        gauge(
            to,
            "rendezvous_memory_bytes",
            "bytes held of unfinished messages and of what waits to be written",
            &snapshot.memory_bytes,
        )?;
        if let Some(expires) = &self.expires {
            let help = "when the certificate expires, in seconds since 1970";
            gauge(to, "rendezvous_certificate_expiry_seconds", help, expires)?;
        }
        self.encode_refusals(to)?;
        self.encode_access(to)?;
        let help = "seconds until a dialled peer answered";
        let histogram = &self.dial_time.0;
        histogram.encode(to.encode_descriptor(
            "rendezvous_dial_seconds",
            help,
            None,
            histogram.metric_type(),
        )?)
    }
}

impl Scrape {
    fn encode_access(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, counts) in by_name(&self.access) {
            let name = format!("rendezvous_access_{name}_total");
            let help = counts.values().next().map_or("", |count| count.help);
            let mut family = to.encode_descriptor(&name, help, None, MetricType::Counter)?;
            for (by, AccessCount { count, .. }) in counts {
                match by {
                    "" => family.encode_gauge(&count)?,
                    by => family.encode_family(&[("by", by)])?.encode_gauge(&count)?,
                }
            }
        }
        Ok(())
    }

    fn encode_refusals(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "requests and links refused, and links closed, by reason";
        let name = "rendezvous_refusals_total";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (reason, count) in self.figures.snapshot.refusals.iter() {
            let labels = [("reason", reason.to_string())];
            family.encode_family(&labels)?.encode_gauge(&count)?;
        }
        Ok(())
    }
}

fn gauge(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(value)
}

/// A counter of exactly that name: encoded as a gauge, it gets no suffix.
fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_gauge(&value)
}
