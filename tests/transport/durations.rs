//! Tests every duration of both configurations at its extremes.

use std::{fmt::Debug, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::transport::TransportEvent;
use libp2p_websocket_star::{
    Config, Connection,
    rendezvous::{self, Limits, Server},
};

use crate::support::{
    address, ed25519, pattern,
    raw::{Raw, echo},
    within,
};

/// Sets one duration, of the client or of the server.
type Set = fn(Config, rendezvous::Config, Duration) -> (Config, rendezvous::Config);

const DURATIONS: [(&str, Set); 17] = [
    ("connect", |c, s, d| (c.with_connect_timeout(d), s)),
    ("join", |c, s, d| (c.with_join_timeout(d), s)),
    ("dial", |c, s, d| (c.with_dial_timeout(d), s)),
    ("stall", |c, s, d| (c.with_stall_timeout(d), s)),
    ("hold-up", |c, s, d| (c.with_hold_up_timeout(d), s)),
    ("first back-off", |c, s, d| {
        (c.with_backoff(d, Duration::ZERO), s)
    }),
    ("longest back-off", |c, s, d| {
        (c.with_backoff(Duration::ZERO, d), s)
    }),
    ("client's announcements", |c, s, d| {
        (c.with_announce_interval(d), s)
    }),
    ("announcements", |c, s, d| (c, s.with_announce_interval(d))),
    ("ping interval", |c, s, d| (c, s.with_ping_interval(d))),
    ("ping timeout", |c, s, d| (c, s.with_ping_timeout(d))),
    ("handshake", |c, s, d| {
        (c, limits(s, |l| l.with_handshake_timeout(d)))
    }),
    ("HTTP age", |c, s, d| {
        (c, limits(s, |l| l.with_max_http_age(d)))
    }),
    ("server's join", |c, s, d| {
        (c, limits(s, |l| l.with_join_timeout(d)))
    }),
    ("server's dial", |c, s, d| {
        (c, limits(s, |l| l.with_dial_timeout(d)))
    }),
    ("server's stall", |c, s, d| {
        (c, limits(s, |l| l.with_stall_timeout(d)))
    }),
    ("shutdown", |c, s, d| {
        (c, limits(s, |l| l.with_shutdown_timeout(d)))
    }),
];

/// The limits of a configuration cannot be read back, so each test sets one limit on top of the defaults.
fn limits(config: rendezvous::Config, set: impl FnOnce(Limits) -> Limits) -> rendezvous::Config {
    config.with_limits(set(Limits::default()))
}

/// Has one node dial another through a server, and get its bytes echoed. Returns an error if that is not possible.
async fn meet((config, server): (Config, rendezvous::Config)) -> Result<(), String> {
    let server = Server::bind(server).await.expect("a free port");
    let result = talk(&server, config).await;
    // The nodes are gone by now.
    within("the shutdown", server.shutdown()).await;
    result
}

async fn talk(server: &Server, config: Config) -> Result<(), String> {
    let mut listener = Raw::with(&ed25519(), config.clone());
    let dialer = Raw::with(&ed25519(), config);
    let id = listener.listen_on(&address(server));
    id.expect("a good address");
    let to = match listener.event().await {
        TransportEvent::NewAddress { listen_addr, .. } => listen_addr.to_string(),
        other => return Err(format!("{other:?}")),
    };
    let serve = async {
        loop {
            let (connection, _) = listener.accept().await;
            // The dialer reports what goes wrong.
            let _ = echo(connection).await;
        }
    };
    let ask = async {
        let dialled = dialer.start_dial(&to).await;
        say(dialled.map_err(text)?).await.map_err(text)
    };
    tokio::select! {
        result = within("an outcome", ask) => result,
        () = serve => Ok(()),
    }
}

async fn say(mut connection: Connection) -> std::io::Result<()> {
    let data = pattern(0, 100_000);
    connection.write_all(&data).await?;
    connection.close().await?;
    let mut echoed = Vec::new();
    connection.read_to_end(&mut echoed).await?;
    assert!(echoed == data, "{} bytes", echoed.len());
    Ok(())
}

fn text(error: impl Debug) -> String {
    format!("{error:?}")
}

#[tokio::test]
async fn the_longest_duration_of_each_kind_means_never() {
    for (name, set) in DURATIONS {
        let configs = set(client_config(), server_config(), Duration::MAX);
        assert_eq!(meet(configs).await, Ok(()), "{name}");
    }
}

#[tokio::test]
async fn a_duration_of_zero_panics_nowhere_and_has_an_outcome() {
    for (name, set) in DURATIONS {
        let configs = set(client_config(), server_config(), Duration::ZERO);
        // If a task has panicked, that shows when its node is dropped.
        let outcome = meet(configs).await;
        let must_work = ["back-off", "announcements", "shutdown"];
        if must_work.iter().any(|kind| name.ends_with(kind)) {
            assert_eq!(outcome, Ok(()), "{name}");
        }
    }
}

/// The dialer does not listen at its rendezvous, which is on loopback.
fn client_config() -> Config {
    Config::default().with_allow_local_rendezvous(true)
}

fn server_config() -> rendezvous::Config {
    rendezvous::Config::default()
}
