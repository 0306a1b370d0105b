//! `star doctor`: finds what is wrong between here and a rendezvous, one check after the other.

mod advice;
mod certificate;
mod clock;
mod report;
mod through;
mod way;

use std::time::Instant;

use libp2p_identity::Keypair;
use libp2p_websocket_star::{
    Config, Error, StarAddr,
    error::LinkError,
    probe::{Probe, Wire},
};

use self::report::{Finding, Report};
use crate::{
    address::{self, Place},
    arguments::DoctorArguments,
    errors::with_sources,
    failure::{Failure, StartError},
    node::{Cause, Habits, JoinFailure, Node},
    output::milliseconds,
    stop::Stop,
};

/// The checks that are skipped without a connection. The next constants are the checks that are skipped without a link,
/// without a node that has joined, and without a second node that reaches it.
const WITHOUT_WIRE: &[&str] = &[
    "upgrade",
    "open",
    "join",
    "dial",
    "round trip",
    "bulk",
    "clock",
];
const WITHOUT_LINK: &[&str] = &["join", "dial", "round trip", "bulk"];
const WITHOUT_NODE: &[&str] = &["dial", "round trip", "bulk"];
const WITHOUT_DIAL: &[&str] = &["round trip", "bulk"];

/// Runs all checks that are possible.
///
/// # Errors
/// [`Failure::Told`] if a check has failed; other errors if the checks cannot begin, or standard output cannot be
/// written.
pub async fn run(arguments: DoctorArguments, stop: &mut Stop) -> Result<(), Failure> {
    let mut report = Report::new(arguments.node.json);
    tokio::select! {
        checked = check(&arguments, &mut report) => checked?,
        () = stop.wanted() => return Err(Failure::Told),
    }
    report.end()
}

/// The rendezvous to check, and the settings of the node that checks it.
struct Patient {
    star: StarAddr,
    key: Keypair,
    config: Config,
    probe: Probe,
    bulk: bool,
}

async fn check(arguments: &DoctorArguments, report: &mut Report) -> Result<(), Failure> {
    let Some((star, config)) = address_and_config(arguments, report)? else {
        return Ok(());
    };
    let patient = Patient {
        probe: Probe::new(&config, &star),
        key: arguments.node.key()?,
        star,
        config,
        bulk: !arguments.no_bulk,
    };
    let wire = way::check(&patient, report).await?;
    match wire {
        Some(wire) => patient.at_the_rendezvous(wire, report).await,
        None => skip(WITHOUT_WIRE, "there is no connection", report),
    }
}

fn skip(checks: &[&str], why: &str, report: &mut Report) -> Result<(), Failure> {
    for check in checks {
        report.tell(check, &Finding::skipped(why))?;
    }
    Ok(())
}

/// Checks the address, and returns it with the configuration of a node there. `None` if the check has failed.
fn address_and_config(
    arguments: &DoctorArguments,
    report: &mut Report,
) -> Result<Option<(StarAddr, Config)>, Failure> {
    let text = address::rendezvous_text(arguments.rendezvous.clone())?;
    let place = text.parse::<Place>();
    let star = match place.and_then(|place| address::rendezvous(Some(place))) {
        Ok(star) => star,
        Err(error) => {
            let finding = Finding::failed(
                with_sources(&error),
                "Ask the operator of the rendezvous for its address",
            );
            report.tell("address", &finding)?;
            return Ok(None);
        }
    };
    match arguments.node.config(&star) {
        Ok(config) => {
            report.tell("address", &way::address(&star))?;
            Ok(Some((star, config)))
        }
        Err(StartError::Config(Error::Token(error))) => {
            let finding = Finding::failed(error.to_string(), "Use an address with wss");
            report.tell("address", &finding)?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

impl Patient {
    /// Runs the checks that need a connection.
    async fn at_the_rendezvous(&self, wire: Wire, report: &mut Report) -> Result<(), Failure> {
        let opened = self.open(wire, report).await?;
        match opened {
            true => self.join(report).await?,
            false => skip(WITHOUT_LINK, "no link can be opened", report)?,
        }
        report.tell("clock", &clock::check(self).await)
    }

    /// Checks the upgrade and the first packets. Returns whether a link can be opened.
    async fn open(&self, wire: Wire, report: &mut Report) -> Result<bool, Failure> {
        let begin = Instant::now();
        let upgraded = match self.probe.upgrade(wire).await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                report.tell("upgrade", &failed(&error).since(begin))?;
                report.tell("open", &Finding::skipped("there is no WebSocket"))?;
                return Ok(false);
            }
        };
        let seen = format!(
            "upgraded to a WebSocket, in {}",
            milliseconds(begin.elapsed())
        );
        report.tell("upgrade", &Finding::ok(seen).since(begin))?;
        let begin = Instant::now();
        let opened = upgraded.opened().await;
        let finding = match &opened {
            Ok(open) => Finding::ok(format!(
                "Engine.IO 3, with a heartbeat every {} s",
                open.ping_interval.as_secs()
            )),
            Err(error) => failed(error),
        };
        report.tell("open", &finding.since(begin))?;
        Ok(opened.is_ok())
    }

    async fn join(&self, report: &mut Report) -> Result<(), Failure> {
        let mut node = Node::new(&self.key, self.config.clone(), Habits::default())?;
        let begin = Instant::now();
        match node.join(&self.star).await {
            Ok(_) => {
                let seen = format!("as {}, in {}", node.peer(), milliseconds(begin.elapsed()));
                report.tell("join", &Finding::ok(seen).since(begin))?;
                through::check(self, node, report).await
            }
            Err(error) => {
                report.tell("join", &refused(&error).since(begin))?;
                skip(WITHOUT_NODE, "this node has not joined", report)
            }
        }
    }
}

/// Returns the finding for a step of the way to the rendezvous that has failed.
fn failed(error: &LinkError) -> Finding {
    Finding::failed(advice::seen(error), advice::of_link(error))
}

/// Returns the finding for a node that could not join.
fn refused(failure: &JoinFailure) -> Finding {
    let advice = match failure.cause() {
        Some(Cause::Join(error)) => advice::of_join(error),
        Some(Cause::Link(error)) => advice::of_link(error),
        _ => "Check the identity and the address",
    };
    Finding::failed(failure.told(), advice)
}
