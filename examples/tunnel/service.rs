//! The side of the service. It accepts streams, and connects each of them to the service.

use std::{
    collections::HashSet,
    io::ErrorKind,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _, stream};
use libp2p::{Multiaddr, PeerId, Swarm, swarm::SwarmEvent};
use libp2p_stream::{Behaviour, IncomingStreams};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

use crate::{
    Fallible,
    carry::{Frames, PROTOCOL, carry, frames, guarded},
};

/// The most streams to the service at once.
const STREAMS: usize = 1024;
/// The longest time that a connection to the service may take to open.
const CONNECT: Duration = Duration::from_secs(10);
const NOT_ALLOWED: &str = "this peer may not use the service";
const FULL: &str = "the service has too many connections";

/// Serves the allowed peers, or every peer if `allowed` is `None`. Calls `joined` with the node's address at the
/// rendezvous each time it has joined.
pub async fn run(
    mut swarm: Swarm<Behaviour>,
    star: Multiaddr,
    target: &str,
    allowed: Option<HashSet<PeerId>>,
    mut joined: impl FnMut(Multiaddr),
) -> Fallible<()> {
    let streams = swarm.behaviour().new_control().accept(PROTOCOL)?;
    tokio::spawn(take(streams, target.into(), allowed));
    swarm.listen_on(star)?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => {
                println!("serving at {address}");
                joined(address);
            }
            // This includes the loss of the rendezvous. The transport joins it again by itself.
            SwarmEvent::ListenerError { error, .. } => println!("rendezvous: {error}"),
            SwarmEvent::ListenerClosed { reason, .. } => return Ok(reason?),
            _ => {}
        }
    }
}

/// Accepts streams without ever waiting for one of them. libp2p-stream would drop other streams in the meantime.
async fn take(mut streams: IncomingStreams, target: Arc<str>, allowed: Option<HashSet<PeerId>>) {
    let room = Arc::new(Semaphore::new(STREAMS));
    let mut told = None::<Instant>;
    while let Some((peer, stream)) = streams.next().await {
        let stream = frames(stream);
        let why = if allowed
            .as_ref()
            .is_some_and(|allowed| !allowed.contains(&peer))
        {
            NOT_ALLOWED
        } else if let Ok(place) = room.clone().try_acquire_owned() {
            let target = target.clone();
            tokio::spawn(async move {
                if let Err(error) = lead(stream, &target).await {
                    println!("{peer}: {error}");
                }
                drop(place);
            });
            continue;
        } else {
            FULL
        };
        // At most one line a second is printed, so that unknown peers cannot fill the terminal.
        if told.is_none_or(|told| told.elapsed() > Duration::from_secs(1)) {
            println!("{peer} is refused: {why}");
            told = Some(Instant::now());
        }
        refuse(stream, why);
    }
}

/// Connects a stream with the service.
async fn lead(mut stream: Frames, target: &str) -> Fallible<()> {
    let connected = timeout(CONNECT, TcpStream::connect(target)).await;
    let connected = connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    match connected.and_then(guarded) {
        Ok(tcp) => {
            stream.send(Bytes::new()).await?;
            carry(tcp, stream).await
        }
        Err(error) => {
            refuse(stream, &format!("the service cannot be reached: {error}"));
            Err(format!("{target} cannot be reached: {error}").into())
        }
    }
}

/// Sends the reason for a refusal, and closes the stream. A new stream has enough window for the text, so this sends
/// it at once and never waits.
fn refuse(stream: Frames, why: &str) {
    let words = Bytes::copy_from_slice(why.as_bytes());
    let said = stream::iter([Ok(words)]).forward(stream);
    let _ = said.now_or_never();
}
