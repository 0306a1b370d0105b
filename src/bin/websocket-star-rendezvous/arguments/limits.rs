//! The flags for limits: what one peer may use, and what all peers together may use.

use std::time::Duration;

use libp2p_websocket_star::rendezvous::Limits;

use super::values::{count, duration, positive_duration, rate, size, size_or_none};

/// The defaults are those of [`Limits`].
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArguments {
    /// Links in total. When all are in use, the addresses that have most of them give way to others
    #[arg(long, value_name = "N", value_parser = count, default_value = "10000")]
    max_links: usize,
    /// Links from one IPv4 address or IPv6 /64; further ones get 429. Behind a proxy, see --trusted-proxy
    #[arg(long, value_name = "N", value_parser = count, default_value = "1000")]
    max_links_per_ip: usize,
    /// Connections per second from one IPv4 address or IPv6 /64; further ones are reset
    #[arg(long, value_name = "N", value_parser = rate, default_value = "25")]
    connection_rate: u32,
    /// Burst for --connection-rate: connections at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "1200")]
    connection_burst: u32,
    /// Addresses that one link may join
    #[arg(long, value_name = "N", value_parser = count, default_value = "16")]
    max_joins: usize,
    /// Joins of one link per second; further ones are refused
    #[arg(long, value_name = "N", value_parser = rate, default_value = "4")]
    join_rate: u32,
    /// Burst for --join-rate: joins at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "64")]
    join_burst: u32,
    /// Joins per second of all links from one IPv4 address or IPv6 /64
    #[arg(long, value_name = "N", value_parser = rate, default_value = "100")]
    origin_join_rate: u32,
    /// Burst for --origin-join-rate: joins at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "2000")]
    origin_join_burst: u32,
    /// Dials from one link, and as many to it, that wait for their answer
    #[arg(long, value_name = "N", value_parser = count, default_value = "256")]
    max_pending_dials: usize,
    /// Dials from one link, and as many to it, that have an open stream
    #[arg(long, value_name = "N", value_parser = count, default_value = "4096")]
    max_open_dials: usize,
    /// Dials of one link per second, failed ones included
    #[arg(long, value_name = "N", value_parser = rate, default_value = "100")]
    dial_rate: u32,
    /// Burst for --dial-rate: dials at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "1000")]
    dial_burst: u32,
    /// Dials per second of all links from one IPv4 address or IPv6 /64
    #[arg(long, value_name = "N", value_parser = rate, default_value = "1000")]
    origin_dial_rate: u32,
    /// Burst for --origin-dial-rate: dials at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "10000")]
    origin_dial_burst: u32,
    /// Refused requests per second of all links from one IPv4 address or IPv6 /64; beyond that, the server does not
    /// read a refused link until its address has rested, 5s at most
    #[arg(long, value_name = "N", value_parser = rate, default_value = "100")]
    refusal_rate: u32,
    /// Burst for --refusal-rate: refused requests at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "1000")]
    refusal_burst: u32,
    /// A WebSocket message must be shorter than this
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1000000")]
    max_message: usize,
    /// Data queued for one link, beyond which its senders have to wait
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1MiB")]
    max_queue: usize,
    /// Memory of all links together for unfinished messages, queues and open dials; beyond that, links of the addresses
    /// that hold most are closed
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB")]
    max_memory: usize,
    /// Data per second of all announcements together, with up to 5,000 links
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16MiB")]
    announce_rate: usize,
    /// Data per second that a link must accept, on average over --stall-timeout, while others wait for it; a slower
    /// link is closed. 0 for no minimum
    #[arg(long, value_name = "SIZE", value_parser = size_or_none, default_value = "2KiB")]
    min_drain_rate: usize,
    /// Time limit for a PROXY protocol header, for a TLS handshake, for an HTTP request, and for the client to accept
    /// its answer
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "10s")]
    handshake_timeout: Duration,
    /// Maximum age of a connection that is not a link
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "60s")]
    max_http_age: Duration,
    /// HTTP requests on one connection
    #[arg(long, value_name = "N", value_parser = count, default_value = "100")]
    max_http_requests: usize,
    /// HTTP requests per second from one IPv4 address or IPv6 /64, on all its connections; further ones get 429
    #[arg(long, value_name = "N", value_parser = rate, default_value = "50")]
    http_rate: u32,
    /// Burst for --http-rate: HTTP requests at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "2400")]
    http_burst: u32,
    /// Time limit from the start of a link to its first join
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "30s")]
    join_timeout: Duration,
    /// Time limit for the answer of a dialled peer
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "30s")]
    dial_timeout: Duration,
    /// Close a link that accepts none of its queued data for this long
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "60s")]
    stall_timeout: Duration,
    /// How long a receiver that is too slow may hold up the other dials of a link that sends to it; then its dial is
    /// reset
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    hold_timeout: Duration,
    /// Data per second that a receiver must accept, from all senders together, to hold up a sender for longer than
    /// --hold-timeout. With 0, any amount is enough
    #[arg(long, value_name = "SIZE", value_parser = size_or_none, default_value = "128KiB")]
    hold_rate: usize,
    /// Time limit for the delivery of queued data when the server stops
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    shutdown_timeout: Duration,
    /// Maximum age of a link, less up to a tenth; then the link is closed in order, and peers come back at once.
    /// Without it, there is no maximum
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    max_link_age: Option<Duration>,
}

impl LimitArguments {
    pub(super) fn limits(&self) -> Limits {
        let limits = Limits::default();
        let limits = match self.max_link_age {
            Some(age) => limits.with_link_age(age),
            None => limits,
        };
        limits
            .with_max_links(self.max_links)
            .with_max_links_per_ip(self.max_links_per_ip)
            .with_connection_rate(self.connection_rate, self.connection_burst)
            .with_max_joins(self.max_joins)
            .with_join_rate(self.join_rate, self.join_burst)
            .with_origin_join_rate(self.origin_join_rate, self.origin_join_burst)
            .with_max_pending_dials(self.max_pending_dials)
            .with_max_open_dials(self.max_open_dials)
            .with_dial_rate(self.dial_rate, self.dial_burst)
            .with_origin_dial_rate(self.origin_dial_rate, self.origin_dial_burst)
            .with_refusal_rate(self.refusal_rate, self.refusal_burst)
            .with_message_limit(self.max_message)
            .with_queue_limit(self.max_queue)
            .with_max_memory(self.max_memory)
            .with_announce_rate(self.announce_rate)
            .with_min_drain_rate(self.min_drain_rate as u64)
            .with_handshake_timeout(self.handshake_timeout)
            .with_max_http_age(self.max_http_age)
            .with_max_http_requests(self.max_http_requests)
            .with_http_rate(self.http_rate, self.http_burst)
            .with_join_timeout(self.join_timeout)
            .with_dial_timeout(self.dial_timeout)
            .with_stall_timeout(self.stall_timeout)
            .with_hold_timeout(self.hold_timeout)
            .with_hold_rate(self.hold_rate as u64)
            .with_shutdown_timeout(self.shutdown_timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn command() -> Command {
        LimitArguments::augment_args(Command::new("limits"))
    }

    /// Returns the settings that result from these arguments, one a line.
    fn settings(arguments: &[&str]) -> BTreeSet<String> {
        let arguments = [&["limits"], arguments].concat();
        let matches = command().try_get_matches_from(arguments).expect("valid");
        let limits = LimitArguments::from_arg_matches(&matches).expect("valid");
        lines(&limits.limits())
    }

    /// Returns the settings, one a line; each number of a rate has the name of the rate before it.
    fn lines(limits: &Limits) -> BTreeSet<String> {
        let text = format!("{limits:#?}");
        let mut of = "";
        let mut settings = BTreeSet::new();
        for line in text.lines().map(str::trim) {
            if let Some((name, _)) = line.split_once(": ").filter(|_| line.ends_with('{')) {
                of = name;
            } else if line == "}," {
                of = "";
            } else if line.contains(": ") && line.ends_with(',') {
                settings.insert(format!("{of} {line}").trim().to_owned());
            }
        }
        settings
    }

    #[test]
    fn every_limit_of_the_library_has_a_flag_that_sets_it_and_nothing_else() {
        let unchanged = lines(&Limits::default());
        assert_eq!(settings(&[]), unchanged);
        let mut changed = BTreeSet::new();
        let command = command();
        for argument in command.get_arguments() {
            let flag = format!("--{}", argument.get_long().expect("a flag"));
            // No limit has the default 7.
            let with_flag = settings(&[&flag, "7"]);
            let difference: Vec<_> = unchanged.difference(&with_flag).collect();
            assert_eq!(difference.len(), 1, "{flag}: {difference:?}");
            changed.extend(difference.into_iter().cloned());
        }
        assert_eq!(changed, unchanged, "every one has been changed by a flag");
    }

    #[test]
    fn a_drain_rate_of_nothing_is_allowed() {
        assert!(settings(&["--min-drain-rate", "0"]).contains("drain_rate: 0,"));
    }
}
