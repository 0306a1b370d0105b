//! The flags for quotas: how much peers may send.

use libp2p_websocket_star::rendezvous::{Config, Quota};

use super::values::size;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Quotas")]
pub(super) struct QuotaArguments {
    /// Bytes per second that one peer may send to others, such as 1MiB. Excess bytes are delayed
    #[arg(long, value_name = "BYTES", value_parser = size)]
    peer_rate: Option<usize>,
    /// Bytes per day that one peer may send, from midnight in UTC. After that, its streams end, and dials from it and
    /// to it are refused
    #[arg(long, value_name = "BYTES", value_parser = size)]
    peer_daily: Option<usize>,
    /// Bytes per second that all peers at one IPv4 address or IPv6 /64 may send, times its --origin-weight. The peers
    /// share it evenly
    #[arg(long, value_name = "BYTES", value_parser = size)]
    origin_rate: Option<usize>,
    /// Bytes per day that all peers at one IPv4 address or IPv6 /64 may send, times its --origin-weight
    #[arg(long, value_name = "BYTES", value_parser = size)]
    origin_daily: Option<usize>,
    /// Bytes per second that all peers of one --tenant may send, or all peers if there are no tenants. Addresses share
    /// it by their --origin-weight
    #[arg(long, value_name = "BYTES", value_parser = size)]
    tenant_rate: Option<usize>,
    /// Bytes per day that all peers of one --tenant may send, or all peers if there are no tenants
    #[arg(long, value_name = "BYTES", value_parser = size)]
    tenant_daily: Option<usize>,
}

fn quota(per_second: Option<usize>, per_day: Option<usize>) -> Quota {
    let mut quota = Quota::default();
    if let Some(bytes) = per_second {
        quota = quota.with_bytes_per_second(bytes as u64);
    }
    if let Some(bytes) = per_day {
        quota = quota.with_bytes_per_day(bytes as u64);
    }
    quota
}

impl QuotaArguments {
    pub(super) fn config(&self, config: Config) -> Config {
        config
            .with_peer_quota(quota(self.peer_rate, self.peer_daily))
            .with_origin_quota(quota(self.origin_rate, self.origin_daily))
            .with_tenant_quota(quota(self.tenant_rate, self.tenant_daily))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{super::Arguments, *};

    #[test]
    fn quotas_come_to_the_config() {
        let flags = [
            "rendezvous",
            "--peer-rate=1MiB",
            "--peer-daily=2GiB",
            "--origin-rate=3KiB",
            "--origin-daily=4",
            "--tenant-rate=5",
            "--tenant-daily=6",
        ];
        let arguments = Arguments::try_parse_from(flags).expect("valid");
        let quota = |per_second, per_day| {
            let quota = Quota::default().with_bytes_per_second(per_second);
            quota.with_bytes_per_day(per_day)
        };
        let expected = Config::default()
            .with_peer_quota(quota(1 << 20, 2 << 30))
            .with_origin_quota(quota(3072, 4))
            .with_tenant_quota(quota(5, 6));
        assert_eq!(
            format!("{:?}", arguments.config().expect("no tenants")),
            format!("{expected:?}")
        );
        for bad in ["--peer-rate=0", "--tenant-daily=1.5", "--origin-rate=-1"] {
            assert!(
                Arguments::try_parse_from(["rendezvous", bad]).is_err(),
                "{bad}"
            );
        }
    }
}
