//! Checks the traffic through a rendezvous: a second node dials the first, pings it, and sends it bulk data.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p_identity::{Keypair, PeerId};
use libp2p_stream::{Control, IncomingStreams};
use libp2p_swarm::{DialError as SwarmDialError, StreamProtocol, SwarmEvent};
use libp2p_websocket_star::{
    StarAddr,
    error::{DialError, JoinRefusal},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Patient, WITHOUT_DIAL, advice,
    report::{Finding, Report},
    skip,
};
use crate::{
    failure::{Failure, StartError},
    node::{BehaviourEvent, Cause, Habits, Node, dial_error},
    output::milliseconds,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/websocket-star/doctor/1");
/// The bytes of bulk data: enough to make the start-up time negligible.
const BULK: u64 = 8 << 20;
/// The bytes that are written at once.
const PIECE: usize = 64 << 10;
/// The time limit for the bulk data, which is a rate of 140 kB/s.
const BULK_TIME: Duration = Duration::from_secs(60);
/// The time in which at least one byte of the bulk data must arrive.
const STALLED: Duration = Duration::from_secs(15);
/// The time limit for each of the other checks.
const PATIENCE: Duration = Duration::from_secs(30);
/// The rate in MiB/s below which the finding is a warning.
const SLOW: f64 = 1.0;

/// Checks the traffic through the rendezvous to `first`, which has joined there.
///
/// # Errors
/// If standard output cannot be written, or a node cannot be created.
pub async fn check(patient: &Patient, first: Node, report: &mut Report) -> Result<(), Failure> {
    let to = first.peer();
    let address = patient.star.with_peer(to);
    let mut control = first.swarm.behaviour().streams.new_control();
    let incoming = control.accept(PROTOCOL).map_err(StartError::Stream)?;
    let second = Keypair::generate_ed25519();
    let mut second = Node::new(&second, patient.config.clone(), Habits::default())?;
    // Both tasks end when this set is dropped.
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(first));
    let arrived = Arc::new(AtomicU64::new(0));
    tasks.spawn(take(incoming, second.peer(), arrived.clone()));
    let begin = Instant::now();
    match timeout(PATIENCE, dial(&mut second, to, &address)).await {
        Ok(Ok(())) => {
            let took = milliseconds(begin.elapsed());
            let seen = format!("another node reaches this one, in {took}");
            report.tell("dial", &Finding::ok(seen).since(begin))?;
        }
        Ok(Err(finding)) => {
            report.tell("dial", &finding.since(begin))?;
            return skip(WITHOUT_DIAL, "the dial has failed", report);
        }
        Err(_) => {
            let finding = Finding::failed(
                "no connection in time",
                "Check whether the rendezvous is overloaded",
            );
            report.tell("dial", &finding.since(begin))?;
            return skip(WITHOUT_DIAL, "the dial has failed", report);
        }
    }
    report.tell("round trip", &round_trip(&mut second).await)?;
    let finding = match patient.bulk {
        true => bulk(&mut second, to, &arrived).await,
        false => Finding::skipped("--no-bulk"),
    };
    report.tell("bulk", &finding)
}

/// Drives a node.
async fn serve(mut node: Node) {
    loop {
        node.next().await;
    }
}

async fn dial(second: &mut Node, to: PeerId, address: &StarAddr) -> Result<(), Finding> {
    let failed = |error: &Failure| Finding::failed(error.to_string(), "Try again");
    second.dial(to, address).map_err(|error| failed(&error))?;
    loop {
        match second.next().await {
            SwarmEvent::ConnectionEstablished { .. } => return Ok(()),
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(not_dialled(&error)),
            _ => {}
        }
    }
}

fn not_dialled(error: &SwarmDialError) -> Finding {
    let seen = dial_error(error);
    match Cause::of_dial(error) {
        // The first node may have been let in by its peer id, and this node has another one.
        Some(Cause::Join(error) | Cause::Dial(DialError::Join(error)))
            if error.refusal() == Some(JoinRefusal::NotAllowed) =>
        {
            Finding::warning(
                format!("a second node, with a key of its own, may not join: {seen}"),
                "If the rendezvous allows peers by their id, this is as it should be, but the traffic cannot be checked",
            )
        }
        Some(Cause::Dial(DialError::Join(error))) => Finding::failed(seen, advice::of_join(error)),
        Some(Cause::Dial(error)) => Finding::failed(seen, advice::of_dial(error)),
        Some(Cause::Join(error)) => Finding::failed(seen, advice::of_join(error)),
        Some(Cause::Link(error)) => Finding::failed(seen, advice::of_link(error)),
        None => Finding::failed(
            seen,
            "The data that arrives through the rendezvous is not the data that was sent: check whether something on the way changes it",
        ),
    }
}

/// Waits for the first ping of the connection.
async fn round_trip(second: &mut Node) -> Finding {
    let pinged = timeout(PATIENCE, async {
        loop {
            if let SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) = second.next().await {
                return event.result;
            }
        }
    });
    match pinged.await {
        Ok(Ok(time)) => {
            let seen = format!(
                "{} from node to node and back, through the rendezvous twice",
                milliseconds(time)
            );
            Finding::ok(seen)
        }
        Ok(Err(error)) => Finding::failed(
            error.to_string(),
            "Check whether the rendezvous is overloaded",
        ),
        Err(_) => Finding::failed(
            "no answer to a ping",
            "Check whether the rendezvous is overloaded",
        ),
    }
}

/// Receives the bulk data from one peer, and confirms when all of it has arrived. Streams of other peers are dropped.
async fn take(mut incoming: IncomingStreams, from: PeerId, arrived: Arc<AtomicU64>) {
    while let Some((peer, mut stream)) = incoming.next().await {
        if peer != from {
            continue;
        }
        let counted = async {
            let (mut left, mut piece) = (BULK, vec![0; PIECE]);
            while left > 0 {
                let len = stream.read(&mut piece).await?;
                if len == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                left = left.saturating_sub(len as u64);
                arrived.fetch_add(len as u64, Relaxed);
            }
            stream.write_all(&[1]).await?;
            stream.close().await
        };
        // The other end reports the error.
        let _ = timeout(BULK_TIME, counted).await;
    }
}

/// The end of the transfer of bulk data.
enum Transfer {
    Complete,
    Failed(io::Error),
    /// The connection was lost.
    Lost,
    /// No more data arrives.
    Stalled,
    /// Data still arrives, but the time is over.
    Slow,
}

async fn bulk(second: &mut Node, to: PeerId, arrived: &AtomicU64) -> Finding {
    let control = second.swarm.behaviour().streams.new_control();
    let begin = Instant::now();
    let end = tokio::select! {
        sent = send(control, to) => sent.map_or_else(Transfer::Failed, |()| Transfer::Complete),
        () = lost(second, to) => Transfer::Lost,
        () = stalled(arrived) => Transfer::Stalled,
        () = sleep(BULK_TIME) => Transfer::Slow,
    };
    judged(&end, begin.elapsed(), arrived.load(Relaxed)).since(begin)
}

/// Returns the finding for a transfer that took so long, and of which so many bytes have arrived.
fn judged(end: &Transfer, took: Duration, arrived: u64) -> Finding {
    const BROKEN: &str = "The rendezvous or a proxy ends connections that carry much data: check the quotas and the log of the rendezvous";
    let mib = |bytes| bytes as f64 / f64::from(1 << 20);
    let (of, rate) = (BULK >> 20, mib(arrived) / took.as_secs_f64());
    let part = format!("{:.1} of {of} MiB", mib(arrived));
    match end {
        Transfer::Complete => {
            let seen = format!(
                "{of} MiB in {}, which is {rate:.1} MiB/s",
                milliseconds(took)
            );
            match rate >= SLOW {
                true => Finding::ok(seen),
                false => Finding::warning(
                    seen,
                    "This is slow: the cause may be the network, a proxy, or a quota of the rendezvous",
                ),
            }
        }
        Transfer::Failed(error) => Finding::failed(
            format!("the transfer broke off after {part}: {error}"),
            BROKEN,
        ),
        Transfer::Lost => {
            let seen = format!("the connection was lost after {part}");
            Finding::failed(seen, BROKEN)
        }
        Transfer::Stalled => Finding::failed(
            format!("no data arrived for {} s, after {part}", STALLED.as_secs()),
            "The rendezvous or a proxy holds back connections that carry much data: check the quotas and the log of the rendezvous",
        ),
        Transfer::Slow => Finding::warning(
            format!("only {part} arrived in {} s", BULK_TIME.as_secs()),
            "This is very slow: the cause may be the network, a proxy, or a quota of the rendezvous",
        ),
    }
}

/// Returns when no data has arrived for some time.
async fn stalled(arrived: &AtomicU64) {
    let mut before = None;
    loop {
        let now = arrived.load(Relaxed);
        if before.replace(now) == Some(now) {
            return;
        }
        sleep(STALLED).await;
    }
}

async fn send(mut control: Control, to: PeerId) -> io::Result<()> {
    let opened = control.open_stream(to, PROTOCOL).await;
    let mut stream = opened.map_err(io::Error::other)?;
    let piece = vec![0x5a; PIECE];
    for _ in 0..BULK / PIECE as u64 {
        stream.write_all(&piece).await?;
    }
    stream.flush().await?;
    stream.read_exact(&mut [0]).await
}

/// Returns when the last connection to the peer is closed.
async fn lost(node: &mut Node, peer: PeerId) {
    loop {
        if let SwarmEvent::ConnectionClosed {
            peer_id,
            num_established: 0,
            ..
        } = node.next().await
            && peer_id == peer
        {
            return;
        }
    }
}
