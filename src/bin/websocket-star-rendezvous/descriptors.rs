//! The limit on file descriptors: each connection needs one.

use libp2p_websocket_star::rendezvous::Config;

/// The number of descriptors kept for other things than connections: what the process has open anyway, files that are
/// read, and connections that are being refused.
const OTHERS: u64 = 32;

/// Raises the limit on descriptors as far as the system allows, and lowers the connection limit of the server if there
/// are too few.
pub fn prepare(config: Config) -> Config {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(descriptors) => fitted(config, descriptors),
        Err(error) => {
            tracing::warn!(%error, "cannot read the limit on file descriptors");
            config
        }
    }
}

fn fitted(config: Config, descriptors: u64) -> Config {
    let places = usize::try_from(descriptors.saturating_sub(OTHERS)).unwrap_or(usize::MAX);
    let wanted = config.max_connections();
    if places >= wanted {
        return config;
    }
    tracing::warn!(
        descriptors,
        wanted,
        "only {places} connections are possible: raise the limit on file descriptors (ulimit -n), or lower --max-links"
    );
    config.with_max_connections(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_as_many_as_there_are_descriptors_for() {
        let wanted = Config::default().max_connections();
        assert!(wanted > 11_000, "{wanted}");
        for (descriptors, places) in [(1024, 992), (60, 28), (10, 0), (u64::MAX, wanted)] {
            let fitted = fitted(Config::default(), descriptors);
            assert_eq!(fitted.max_connections(), places);
        }
    }
}
