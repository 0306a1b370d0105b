//! `star pipe`: sends standard input to a peer, and writes what the peer sends to standard output.

mod carry;
mod frame;
mod meet;
mod report;
mod streams;

use std::{io, sync::Arc, time::Duration};

use libp2p_identity::PeerId;
use libp2p_swarm::{StreamProtocol, SwarmEvent};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use self::{
    carry::{Carry, Moved},
    meet::Met,
    report::Report,
    streams::{Input, Output},
};
use crate::{
    arguments::PipeArguments,
    failure::{Failure, StartError},
    node::{Node, of_end, told},
    stop::Stop,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/websocket-star/pipe/1");
/// How long to wait for the reason why a stream broke.
const REASON: Duration = Duration::from_secs(1);

/// The reason why a pipe failed.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    #[error("cannot write to standard output: {0}")]
    Output(#[source] Arc<io::Error>),
    /// The other end gave up, for the given reason.
    #[error("the other end gave up: {0}")]
    Peer(String),
    /// The other end refuses the pipe, for the given reason.
    #[error("the other end refuses: {0}")]
    Refused(String),
    #[error(
        "the other end has no open pipe: `star pipe --listen` does not run there, or another peer has already connected"
    )]
    NoPipe,
    /// The stream ended too early.
    #[error("the connection to the other end broke off")]
    Broken,
    /// The stream ended too early, for the given reason.
    #[error("the connection to the other end broke off: {0}")]
    BrokenBy(String),
    #[error("the other end violated the protocol: {0}")]
    Protocol(&'static str),
    #[error("interrupted")]
    Interrupted,
}

impl PipeError {
    /// Returns the reason to send to the other end; `None` if there is nothing to send.
    fn words(&self) -> Option<String> {
        match self {
            Self::Input(error) => Some(format!("it cannot read its standard input: {error}")),
            Self::Output(error) => Some(format!("it cannot write to its standard output: {error}")),
            Self::Interrupted => Some("it was interrupted".to_owned()),
            _ => None,
        }
    }
}

/// Carries both directions to their ends.
///
/// # Errors
/// If the other end cannot be reached, or anything fails before both ends have written everything out.
pub async fn run(arguments: PipeArguments, stop: &mut Stop) -> Result<(), Failure> {
    let json = arguments.node.json;
    let moved = Arc::new(Moved::default());
    // When the ends have met; the time before does not count.
    let mut begin = None;
    let done = carried(arguments, &moved, &mut begin, stop).await;
    if json {
        let took = begin.map_or(Duration::ZERO, |begin: Instant| begin.elapsed());
        report::print_json(&moved, took, done.as_ref().err());
        return done.map_err(|failure| Failure::Reported(Box::new(failure)));
    }
    done
}

async fn carried(
    arguments: PipeArguments,
    moved: &Arc<Moved>,
    begin: &mut Option<Instant>,
    stop: &mut Stop,
) -> Result<(), Failure> {
    let meeting = async {
        match arguments.listen {
            true => meet::listen(&arguments).await,
            false => meet::dial(&arguments).await,
        }
    };
    let met = tokio::select! {
        met = meeting => met?,
        () = stop.wanted() => return Err(PipeError::Interrupted.into()),
    };
    let Met {
        node,
        peer,
        reader,
        writer,
    } = met;
    *begin = Some(Instant::now());
    let input = Input::stdin().map_err(StartError::Streams)?;
    let output = Output::stdout().map_err(StartError::Streams)?;
    let report = Report::new(!arguments.node.json, input.len, moved.clone());
    let (lost, why) = watch::channel(None);
    let driving = tokio::spawn(drive(node, peer, lost));
    let carry = Carry {
        reader,
        writer,
        input,
        output,
        moved: moved.clone(),
    };
    let carried = carry.run(stop).await;
    report.end();
    let carried = match carried {
        Err(PipeError::Broken) => Err(broken(why).await),
        carried => carried,
    };
    driving.abort();
    carried.map_err(closed_quietly)
}

/// Returns the error of a broken stream with its reason, which the swarm reports a moment later.
async fn broken(mut why: watch::Receiver<Option<String>>) -> PipeError {
    match timeout(REASON, why.wait_for(Option::is_some)).await {
        Ok(Ok(why)) => why.clone().map_or(PipeError::Broken, PipeError::BrokenBy),
        _ => PipeError::Broken,
    }
}

/// Converts the error. A closed standard output is not reported: the program that closed it knows, and the other end
/// has been notified.
fn closed_quietly(error: PipeError) -> Failure {
    match &error {
        PipeError::Output(why) if why.kind() == io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => error.into(),
    }
}

/// Drives the node, and reports why it has lost the peer.
async fn drive(mut node: Node, peer: PeerId, lost: watch::Sender<Option<String>>) {
    let mut rendezvous = None;
    loop {
        match node.next().await {
            SwarmEvent::ListenerError { error, .. }
            | SwarmEvent::ListenerClosed {
                reason: Err(error), ..
            } => rendezvous = Some(told(&error)),
            SwarmEvent::NewListenAddr { .. } => rendezvous = None,
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                cause,
                ..
            } if peer_id == peer => {
                let why = rendezvous.take().unwrap_or_else(|| of_end(cause.as_ref()));
                lost.send_replace(Some(why));
            }
            _ => {}
        }
    }
}
