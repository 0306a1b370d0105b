//! `/metrics`, in Prometheus' text format 0.0.4, with the names of the npm server.
//!
//! Nothing is stored for this beyond what is counted anyway. The text is put together when it is requested.

#[cfg(feature = "cluster")]
mod cluster;

use std::{fmt, sync::Arc, time::UNIX_EPOCH};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::MetricType,
    registry::Registry,
};

use super::{
    access::{AccessCount, Doorkeeper, by_name},
    dial_time::DialTime,
    hub::{Figures, Hub},
    snapshot::Snapshot,
    tenants::Tenants,
    usage::PeerUsage,
};

/// The content type. It is not OpenMetrics, where every counter must end in `_total`: some of the npm server's do not.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Encodes the metrics of all tenants, or of a single one.
pub(super) fn encode(tenants: &Tenants, tenant: Option<&Arc<Hub>>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape::new(tenants, tenant)));
    let mut text = String::new();
    text::encode_registry(&mut text, &registry)?;
    Ok(text)
}

/// What is counted for one tenant.
#[derive(Debug)]
struct Counted {
    /// The tenant's name; `None` if there are no other tenants.
    tenant: Option<String>,
    figures: Figures,
    dial_time: DialTime,
}

impl Counted {
    fn labels(&self) -> Labels<'_> {
        let tenant = self.tenant.as_deref();
        tenant
            .map(|tenant| ("tenant", tenant))
            .into_iter()
            .collect()
    }
}

/// What is counted for all tenants together.
#[derive(Debug)]
struct Whole {
    figures: Snapshot,
    top_peers: Vec<PeerUsage>,
    access: Vec<AccessCount>,
    expires: Option<u64>,
}

#[derive(Debug)]
struct Scrape {
    tenants: Vec<Counted>,
    /// `None` if the text is for a single tenant.
    whole: Option<Whole>,
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

impl Scrape {
    fn new(tenants: &Tenants, tenant: Option<&Arc<Hub>>) -> Self {
        let counted = |hub: &Arc<Hub>| Counted {
            tenant: tenants.are_several().then(|| hub.name().to_owned()),
            figures: hub.figures(),
            dial_time: hub.dial_time().clone(),
        };
        let house = tenants.house();
        Self {
            tenants: match tenant {
                Some(hub) => vec![counted(hub)],
                None => tenants.all().map(counted).collect(),
            },
            whole: tenant.is_none().then(|| Whole {
                figures: tenants.shared(Snapshot::default()),
                top_peers: house.top_peers(house.config().metrics_top_peers()),
                access: house
                    .doorkeeper()
                    .map(Doorkeeper::counts)
                    .unwrap_or_default(),
                expires: house.tls().map(|tls| {
                    let expires = tls.expires().duration_since(UNIX_EPOCH);
                    expires.unwrap_or_default().as_secs()
                }),
            }),
        }
    }

    /// Returns one number of each tenant, with its labels.
    fn each(&self, number: impl Fn(&Figures) -> u64) -> impl Iterator<Item = (Labels<'_>, u64)> {
        let tenants = self.tenants.iter();
        tenants.map(move |counted| (counted.labels(), number(&counted.figures)))
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        self.encode_counters(to)?;
        self.encode_gauges(to)?;
        if let Some(whole) = &self.whole {
            whole.encode(to)?;
        }
        self.encode_refusals(to)?;
        self.encode_dial_time(to)
    }
}

impl Scrape {
    fn encode_counters(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Count = fn(&Snapshot) -> u64;
        let counters: [(&str, &str, Count); 9] = [
            (
                "rendezvous_joins_total",
                "all joins since server started",
                |snapshot| snapshot.counters.joins + snapshot.counters.joins_refused,
            ),
            (
                "rendezvous_joins_total_success",
                "successful joins since server started",
                |snapshot| snapshot.counters.joins,
            ),
            (
                "rendezvous_joins_total_failure",
                "refused joins since server started",
                |snapshot| snapshot.counters.joins_refused,
            ),
            (
                "rendezvous_dials_total",
                "all dials since server started",
                |snapshot| snapshot.counters.dials + snapshot.counters.dials_failed,
            ),
            (
                "rendezvous_dials_total_success",
                "accepted dials since server started",
                |snapshot| snapshot.counters.dials,
            ),
            (
                "rendezvous_dials_total_failure",
                "failed dials since server started",
                |snapshot| snapshot.counters.dials_failed,
            ),
            (
                "rendezvous_relayed_items_total",
                "items relayed",
                |snapshot| snapshot.relayed_items,
            ),
            (
                "rendezvous_relayed_bytes_total",
                "bytes of the items relayed",
                |snapshot| snapshot.relayed_bytes,
            ),
            (
                "rendezvous_announcements_dropped_total",
                "announcements dropped because a link was behind",
                |snapshot| snapshot.announcements_dropped,
            ),
        ];
        for (name, help, count) in counters {
            let counts = self.each(|figures| count(&figures.snapshot));
            numbers(to, name, help, MetricType::Counter, counts)?;
        }
        Ok(())
    }

    fn encode_gauges(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Number = fn(&Figures) -> usize;
        let gauges: [(&str, &str, Number); 3] = [
            ("rendezvous_peers", "peers online now", |figures| {
                figures.peers
            }),
            (
                "rendezvous_links",
                "links open now, joined or not",
                |figures| figures.snapshot.links,
            ),
            ("rendezvous_dials", "dials pending or open now", |figures| {
                figures.snapshot.dials
            }),
        ];
        for (name, help, number) in gauges {
            let numbers_of_all = self.each(|figures| number(figures) as u64);
            numbers(to, name, help, MetricType::Gauge, numbers_of_all)?;
        }
        Ok(())
    }

    fn encode_refusals(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "requests and links refused, and links closed, by reason";
        let of_tenants = self.tenants.iter();
        let mut all: Vec<_> = of_tenants
            .map(|counted| (counted.labels(), counted.figures.snapshot.refusals))
            .collect();
        // Refusals from before the tenant is known.
        if let Some(whole) = &self.whole {
            match all.as_mut_slice() {
                [(labels, refusals)] if labels.is_empty() => {
                    *refusals = refusals.plus(whole.figures.refusals);
                }
                _ => all.push((Labels::new(), whole.figures.refusals)),
            }
        }
        let name = "rendezvous_refusals_total";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, refusals) in &all {
            for (reason, count) in refusals.iter() {
                let reason = reason.to_string();
                let mut labels = labels.clone();
                labels.push(("reason", &reason));
                family.encode_family(&labels)?.encode_gauge(&count)?;
            }
        }
        Ok(())
    }

    fn encode_dial_time(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "seconds until a dialled peer answered";
        let name = "rendezvous_dial_seconds";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for counted in &self.tenants {
            let histogram = counted.dial_time.histogram();
            let labels = counted.labels();
            if labels.is_empty() {
                // There are no other tenants.
                return histogram.encode(family);
            }
            histogram.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Whole {
    fn encode(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let figures = &self.figures;
        number(
            to,
            "rendezvous_panics_total",
            "connections ended by a bug of the server",
            MetricType::Counter,
            figures.panics,
        )?;
        for (name, help, value) in [
            (
                "rendezvous_connections",
                "connections open now, links included",
                figures.connections as u64,
            ),
            (
                "rendezvous_queue_bytes",
                "bytes waiting to be written",
                figures.queued_bytes as u64,
            ),
            (
                "rendezvous_memory_bytes",
                "bytes held by unfinished messages and by data waiting to be written",
                figures.memory_bytes,
            ),
        ] {
            number(to, name, help, MetricType::Gauge, value)?;
        }
        if let Some(expires) = self.expires {
            let help = "when the certificate expires, in seconds since 1970";
            let name = "rendezvous_certificate_expiry_seconds";
            number(to, name, help, MetricType::Gauge, expires)?;
        }
        #[cfg(feature = "cluster")]
        if let Some(status) = &figures.cluster {
            cluster::encode(status, to)?;
        }
        self.encode_top_peers(to)?;
        self.encode_access(to)
    }

    fn encode_top_peers(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.top_peers.is_empty() {
            return Ok(());
        }
        let help = "bytes that each of the heaviest senders has sent since midnight UTC";
        let name = "rendezvous_top_peer_sent_bytes";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for usage in &self.top_peers {
            let mut labels = vec![("peer", usage.peer.to_string())];
            labels.extend(usage.tenant.iter().map(|name| ("tenant", name.to_string())));
            let mut sent = family.encode_family(&labels)?;
            sent.encode_gauge(&usage.sent_today)?;
        }
        Ok(())
    }

    fn encode_access(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, counts) in by_name(&self.access) {
            let name = format!("rendezvous_access_{name}_total");
            let help = counts.values().next().map_or("", |count| count.help);
            let counts = counts.into_iter().map(|(by, count)| {
                let labels = (!by.is_empty()).then_some(("by", by));
                (labels.into_iter().collect(), count.count)
            });
            numbers(to, &name, help, MetricType::Counter, counts)?;
        }
        Ok(())
    }
}

fn number(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    value: u64,
) -> fmt::Result {
    numbers(to, name, help, kind, [(Labels::new(), value)])
}

/// Encodes numbers with their labels under exactly this name. Counters are encoded like gauges, because the encoder
/// adds no suffix to the name of a gauge.
fn numbers<'a>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    numbers: impl IntoIterator<Item = (Labels<'a>, u64)>,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, kind)?;
    for (labels, number) in numbers {
        match labels.is_empty() {
            true => family.encode_gauge(&number)?,
            false => family.encode_family(&labels)?.encode_gauge(&number)?,
        }
    }
    Ok(())
}
