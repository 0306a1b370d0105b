//! The flags for what one peer, and all together, may use.

use std::time::Duration;

use libp2p_websocket_star::rendezvous::Limits;

use super::values::{count, duration, positive_duration, rate, size, size_or_none};

/// The defaults are those of [`Limits`].
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArguments {
    /// Links in all. When there are so many, those of the addresses that have most give way to others
    #[arg(long, value_name = "N", value_parser = count, default_value = "10000")]
    max_links: usize,
    /// Links from one IPv4 address or IPv6 /64; further ones get 429. Behind a proxy, see --trusted-proxy
    #[arg(long, value_name = "N", value_parser = count, default_value = "1000")]
    max_links_per_ip: usize,
    /// Connections from one IPv4 address or IPv6 /64 per second; further ones are reset
    #[arg(long, value_name = "N", value_parser = rate, default_value = "25")]
    connection_rate: u32,
    /// Connections from there at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "1200")]
    connection_burst: u32,
    /// Addresses that one link may join
    #[arg(long, value_name = "N", value_parser = count, default_value = "16")]
    max_joins: usize,
    /// Joins of a link per second; further ones are refused
    #[arg(long, value_name = "N", value_parser = rate, default_value = "4")]
    join_rate: u32,
    /// Joins of a link at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "64")]
    join_burst: u32,
    /// Joins per second of all links from one IPv4 address or IPv6 /64
    #[arg(long, value_name = "N", value_parser = rate, default_value = "100")]
    origin_join_rate: u32,
    /// Joins of those at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "2000")]
    origin_join_burst: u32,
    /// Dials from a link, and as many to it, that wait for their answer
    #[arg(long, value_name = "N", value_parser = count, default_value = "256")]
    max_pending_dials: usize,
    /// Dials from a link, and as many to it, with an open stream
    #[arg(long, value_name = "N", value_parser = count, default_value = "4096")]
    max_open_dials: usize,
    /// Dials of a link per second, failed ones included
    #[arg(long, value_name = "N", value_parser = rate, default_value = "100")]
    dial_rate: u32,
    /// Dials of a link at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "1000")]
    dial_burst: u32,
    /// Dials per second of all links from one IPv4 address or IPv6 /64
    #[arg(long, value_name = "N", value_parser = rate, default_value = "1000")]
    origin_dial_rate: u32,
    /// Dials of those at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "10000")]
    origin_dial_burst: u32,
    /// Refused requests per second of all links from one IPv4 address or IPv6 /64; beyond that, a link that is refused
    /// is not read until its address has rested, 5s at most
    #[arg(long, value_name = "N", value_parser = rate, default_value = "100")]
    refusal_rate: u32,
    /// Refused requests of those at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "1000")]
    refusal_burst: u32,
    /// A WebSocket message must be shorter than this
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1000000")]
    max_message: usize,
    /// What may wait for one link until its senders have to wait
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1MiB")]
    max_queue: usize,
    /// What all links together may hold of unfinished messages, of what waits for them, and of open dials; beyond that, those
    /// of the addresses that hold most are closed
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB")]
    max_memory: usize,
    /// What all announcements together may take per second, with up to 5,000 links
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16MiB")]
    announce_rate: usize,
    /// What a link must take per second, on the average over the stall timeout, while others wait for it;
    /// otherwise it is closed. 0 lets it be as slow as it likes
    #[arg(long, value_name = "SIZE", value_parser = size_or_none, default_value = "2KiB")]
    min_drain_rate: usize,
    /// For a header of the PROXY protocol, for a TLS handshake, for an HTTP request, and for its answer to be taken
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "10s")]
    handshake_timeout: Duration,
    /// How old a connection may become that is no link
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "60s")]
    max_http_age: Duration,
    /// HTTP requests on one connection
    #[arg(long, value_name = "N", value_parser = count, default_value = "100")]
    max_http_requests: usize,
    /// HTTP requests of one IPv4 address or IPv6 /64 per second, on all its connections; further ones get 429
    #[arg(long, value_name = "N", value_parser = rate, default_value = "50")]
    http_rate: u32,
    /// HTTP requests of those at once after a rest
    #[arg(long, value_name = "N", value_parser = rate, default_value = "2400")]
    http_burst: u32,
    /// From the start of a link to its first join
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "30s")]
    join_timeout: Duration,
    /// For the answer of a dialled peer
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "30s")]
    dial_timeout: Duration,
    /// A link that takes none of what is queued for it for so long is closed
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "60s")]
    stall_timeout: Duration,
    /// How long a receiver that takes too little may hold up the other dials of who sends to it; then their dial is reset
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    hold_timeout: Duration,
    /// What a receiver must take per second, whoever sends it, to hold up a sender for longer. 0 lets it be as slow as it
    /// likes, as long as it takes anything
    #[arg(long, value_name = "SIZE", value_parser = size_or_none, default_value = "128KiB")]
    hold_rate: usize,
    /// To hand over what is queued when the server stops
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    shutdown_timeout: Duration,
    /// How old a link may become, less up to a tenth of that; then it is closed in order, and peers come back at once. Without
    /// it, as old as it likes
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

    /// The settings that these arguments come to, one a line.
    fn settings(arguments: &[&str]) -> BTreeSet<String> {
        let arguments = [&["limits"], arguments].concat();
        let matches = command().try_get_matches_from(arguments).expect("valid");
        let limits = LimitArguments::from_arg_matches(&matches).expect("valid");
        lines(&limits.limits())
    }

    /// One a line; each number of a rate behind the name of its rate.
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
            // Not a default of any.
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
