//! Checks the way to a rendezvous, before any request is sent: the address, the proxy, DNS, TCP and TLS.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use libp2p_websocket_star::{
    StarAddr,
    error::LinkError,
    probe::{Handshake, Probe, Wire},
};

use super::{
    Patient, advice, certificate, failed,
    report::{Finding, Report},
    skip,
};
use crate::{failure::Failure, output::milliseconds};

/// The number of addresses of one name that are tried.
const ADDRESSES: usize = 16;

/// Checks an address that has been parsed.
pub fn address(star: &StarAddr) -> Finding {
    let rendezvous = star.rendezvous();
    let seen = format!("{rendezvous} ({})", star.to_multiaddr());
    match (rendezvous.is_secure(), rendezvous.port()) {
        (false, 443) => Finding::warning(
            seen,
            "Port 443 is usually for wss: check whether the address must have wss instead of ws",
        ),
        (true, 80) => Finding::warning(
            seen,
            "Port 80 is usually for ws: check whether the address must have ws instead of wss",
        ),
        (false, _) if !rendezvous.host().ip().is_some_and(|ip| ip.is_loopback()) => {
            Finding::warning(
                seen,
                "Without TLS, others on the way can see which peers connect, but not what they send: use wss if the rendezvous has it",
            )
        }
        _ => Finding::ok(seen),
    }
}

/// Checks the way to the rendezvous and returns the connection; `None` if there is none.
///
/// # Errors
/// If standard output cannot be written.
pub async fn check(patient: &Patient, report: &mut Report) -> Result<Option<Wire>, Failure> {
    let probe = &patient.probe;
    let wire = match probe.proxy() {
        Ok(None) => {
            report.tell("proxy", &Finding::ok("none is used"))?;
            directly(patient, report).await?
        }
        Ok(Some(proxy)) => {
            let begin = Instant::now();
            let connected = probe.connect_through(&proxy).await;
            let finding = match &connected {
                Ok(_) => Finding::ok(format!(
                    "connected through {proxy}, in {}",
                    milliseconds(begin.elapsed())
                )),
                Err(error) => failed(error),
            };
            report.tell("proxy", &finding.since(begin))?;
            report.tell("dns", &Finding::skipped("the proxy looks up the name"))?;
            report.tell("tcp", &Finding::skipped("the proxy connects"))?;
            connected.ok()
        }
        Err(error) => {
            report.tell("proxy", &failed(&error))?;
            skip(&["dns", "tcp"], "the proxy cannot be used", report)?;
            None
        }
    };
    encrypted(patient, wire, report).await
}

async fn directly(patient: &Patient, report: &mut Report) -> Result<Option<Wire>, Failure> {
    let begin = Instant::now();
    let found = match patient.probe.resolve().await {
        Ok(found) => found,
        Err(error) => {
            report.tell("dns", &failed(&error).since(begin))?;
            report.tell("tcp", &Finding::skipped("there is no address"))?;
            return Ok(None);
        }
    };
    let finding = match patient.star.rendezvous().host().name() {
        Some(_) => Finding::ok(listed(&found, begin.elapsed())).since(begin),
        None => Finding::skipped("the address has no name"),
    };
    report.tell("dns", &finding)?;
    let begin = Instant::now();
    let (wire, finding) = connect(&patient.probe, &found).await;
    report.tell("tcp", &finding.since(begin))?;
    Ok(wire)
}

fn listed(found: &[SocketAddr], took: Duration) -> String {
    let shown = found.iter().take(ADDRESSES);
    let shown: Vec<_> = shown.map(|addr| addr.ip().to_string()).collect();
    format!("{}, in {}", shown.join(", "), milliseconds(took))
}

/// Connects to all of the addresses at once, and keeps one connection.
async fn connect(probe: &Probe, found: &[SocketAddr]) -> (Option<Wire>, Finding) {
    let tries = found.iter().take(ADDRESSES).map(|addr| async move {
        let begin = Instant::now();
        (addr, probe.connect(*addr).await, begin.elapsed())
    });
    let (mut good, mut bad, mut wire, mut last) = (Vec::new(), Vec::new(), None, None);
    for (addr, connected, took) in futures::future::join_all(tries).await {
        match connected {
            Ok(connected) => {
                good.push(format!("{addr} in {}", milliseconds(took)));
                wire.get_or_insert(connected);
            }
            Err(error) => {
                bad.push(format!("{addr}: {error}"));
                last = Some(error);
            }
        }
    }
    let seen = [&good[..], &bad].concat().join(", ");
    let finding = match last {
        None => Finding::ok(seen),
        Some(error) if good.is_empty() => Finding::failed(seen, advice::of_link(&error)),
        Some(_) => Finding::warning(
            seen,
            "Some of the addresses do not work, and nodes try the next one after 250 ms only: remove them from DNS",
        ),
    };
    (wire, finding)
}

/// Checks TLS, if the address asks for it.
async fn encrypted(
    patient: &Patient,
    wire: Option<Wire>,
    report: &mut Report,
) -> Result<Option<Wire>, Failure> {
    if !patient.star.rendezvous().is_secure() {
        report.tell("tls", &Finding::skipped("the address is without TLS (ws)"))?;
        return Ok(wire);
    }
    let Some(wire) = wire else {
        report.tell("tls", &Finding::skipped("there is no connection"))?;
        return Ok(None);
    };
    let begin = Instant::now();
    let Handshake {
        certificate,
        outcome,
        ..
    } = patient.probe.encrypt(wire).await;
    let shown = certificate.as_deref().map(certificate::read);
    let finding = match (&outcome, shown) {
        (Ok(encrypted), Some(Ok(shown))) => shown.finding(encrypted.version),
        (Ok(_), _) => Finding::warning(
            "the certificate cannot be read",
            "Inspect it with `openssl s_client`",
        ),
        (Err(error), shown) => {
            let issuer = shown.and_then(Result::ok).map(|shown| shown.issuer);
            failed_tls(error, issuer.as_deref())
        }
    };
    report.tell("tls", &finding.since(begin))?;
    Ok(outcome.ok().map(|encrypted| encrypted.wire))
}

fn failed_tls(error: &LinkError, issuer: Option<&str>) -> Finding {
    let seen = match issuer {
        Some(issuer) => format!("{} (issued by {issuer})", advice::seen(error)),
        None => advice::seen(error),
    };
    Finding::failed(seen, advice::of_link(error))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use libp2p_websocket_star::Config;
    use tokio::net::{TcpListener, TcpSocket};

    use super::{super::report::Status, *};

    #[tokio::test]
    async fn an_address_that_leads_nowhere_beside_one_that_does_is_a_warning() {
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let good = listening.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (good, _listener) = good.expect("a free port");
        let refusing = TcpSocket::new_v4().expect("a socket");
        // The port is bound but not listened on.
        let bound = refusing.bind((Ipv4Addr::LOCALHOST, 0).into());
        let bad = bound
            .and_then(|()| refusing.local_addr())
            .expect("a free port");
        let star = "/dns4/star.example/tcp/80/ws/p2p-websocket-star".parse();
        let probe = Probe::new(&Config::default(), &star.expect("an address"));
        for (found, has_wire, expected) in [
            (&[good][..], true, Status::Ok),
            (&[bad, good], true, Status::Warning),
            (&[bad], false, Status::Failed),
        ] {
            let (wire, finding) = connect(&probe, found).await;
            assert_eq!((wire.is_some(), finding.status), (has_wire, expected));
        }
    }
}
