//! Opens a link to a rendezvous one stage after the other. The transport takes the same stages in one go.

use std::{net::Ipv4Addr, time::Duration};

use libp2p_websocket_star::{
    Config, StarAddr,
    error::{LinkError, UpgradeError},
    probe::Probe,
    rendezvous::{self, Server, TlsConfig},
};
use tokio::net::TcpListener;

use crate::support::{
    address,
    certificates::Certificate,
    embedded,
    js::{Rendezvous, RendezvousOptions},
};

fn star(address: &str) -> StarAddr {
    address.parse().expect("an address")
}

/// Runs all stages, up to the packets that open a link.
async fn opens(config: &Config, star: &StarAddr) -> Result<(), LinkError> {
    let probe = Probe::new(config, star);
    assert!(probe.proxy()?.is_none());
    let found = probe.resolve().await?;
    let mut wire = probe.connect(found[0]).await?;
    if star.rendezvous().is_secure() {
        let handshake = probe.encrypt(wire).await;
        assert!(handshake.certificate.is_some());
        wire = handshake.outcome?.wire;
    }
    let opened = probe.upgrade(wire).await?.opened().await?;
    assert_eq!(opened.ping_interval, Duration::from_secs(25));
    Ok(())
}

#[tokio::test]
async fn all_stages_lead_to_ours_and_to_npms() {
    let config = Config::default();
    let server = embedded().await;
    opens(&config, &star(&address(&server)))
        .await
        .expect("ours");
    let npm = Rendezvous::start(RendezvousOptions::default()).await;
    opens(&config, &star(&npm.addr())).await.expect("npm's");
}

#[tokio::test]
async fn a_certificate_is_shown_whether_or_not_it_is_accepted() {
    let certificate = Certificate::new();
    let tls = TlsConfig::from_pem(certificate.pem.as_bytes(), certificate.key_pem.as_bytes());
    let config = rendezvous::Config::default().with_tls(tls.expect("a certificate"));
    let server = Server::bind(config).await.expect("a free port");
    let star = star(&address(&server));
    let trusting = Config::default().with_root_certificate(&certificate.der);
    let trusting = trusting.expect("a certificate");
    for config in [trusting.clone(), trusting.with_web_roots(false)] {
        opens(&config, &star).await.expect("it is trusted");
    }
    for config in [Config::default(), Config::default().with_web_roots(false)] {
        let probe = Probe::new(&config, &star);
        let wire = probe
            .connect(server.local_addr())
            .await
            .expect("it listens");
        let handshake = probe.encrypt(wire).await;
        assert_eq!(handshake.certificate.as_deref(), Some(&*certificate.der));
        let error = handshake.outcome.expect_err("nobody trusts it");
        assert!(matches!(error, LinkError::Tls(_)), "{error}");
    }
}

#[tokio::test]
async fn each_stage_fails_by_itself_and_in_time() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let silent = silent.expect("a free port");
    let addr = silent.local_addr().expect("bound");
    let config = Config::default().with_connect_timeout(Duration::from_millis(100));
    let address = format!("/ip4/127.0.0.1/tcp/{}/wss/p2p-websocket-star", addr.port());
    let probe = Probe::new(&config, &star(&address));
    let wire = probe.connect(addr).await.expect("it listens");
    let error = probe
        .encrypt(wire)
        .await
        .outcome
        .expect_err("it says nothing");
    assert!(matches!(error, LinkError::TimedOut { .. }), "{error}");

    let server = embedded().await;
    let wire = probe
        .connect(server.local_addr())
        .await
        .expect("it listens");
    let error = probe.encrypt(wire).await.outcome.expect_err("no TLS");
    assert!(matches!(error, LinkError::NotTls(_)), "{error}");

    let nowhere = Probe::new(
        &config,
        &star("/dns4/no.such.host.invalid/tcp/80/ws/p2p-websocket-star"),
    );
    let error = nowhere.resolve().await.expect_err("no such name");
    assert!(
        matches!(
            error,
            LinkError::Resolve { .. } | LinkError::TimedOut { .. }
        ),
        "{error}"
    );

    let limits = rendezvous::Limits::default().with_max_links_per_ip(0);
    let full = Server::bind(rendezvous::Config::default().with_limits(limits)).await;
    let full = full.expect("a free port");
    let wire = probe.connect(full.local_addr()).await.expect("it listens");
    let error = probe.upgrade(wire).await.expect_err("no room");
    let LinkError::Upgrade(error) = error else {
        panic!("{error}");
    };
    assert!(
        matches!(*error, UpgradeError::Status { status: 429, .. }),
        "{error}"
    );
}
