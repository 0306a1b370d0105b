//! The side of the local port. It opens one stream for each TCP connection.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    PeerId, Swarm,
    core::transport::TransportError,
    swarm::{
        ConnectionError, DialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_stream::{Behaviour, Control, OpenStreamError};
use libp2p_websocket_star::StarAddr;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};

use crate::{
    Fallible,
    carry::{Frames, PROTOCOL, carry, frames, guarded},
};

/// The most TCP connections at once; further ones wait. yamux ends a whole connection that has more than 512 streams.
const CONNECTIONS: usize = 256;
/// The most attempts to open a stream. A stream can end before the service answers it: its connection may have just
/// been lost, or the libp2p-stream of the other side has dropped it. libp2p-stream drops a stream that arrives before
/// the last one was taken, which happens when several peers open streams.
const TRIES: u32 = 10;
/// The wait after the first attempt. It doubles with each further attempt.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest time until a TCP connection is connected to the service, with all attempts.
const OPEN: Duration = Duration::from_secs(60);

/// Sends the result of a dial: the peer is connected, or the reason why it cannot be.
type Wanted = oneshot::Sender<Result<(), String>>;

/// Connects each TCP connection at the listener with the service of the peer. The peer is dialled when a connection
/// needs it.
pub async fn run(
    mut swarm: Swarm<Behaviour>,
    address: &StarAddr,
    listener: TcpListener,
) -> Fallible<()> {
    let peer = address
        .peer()
        .ok_or("the address does not end with /p2p/<peer id>")?;
    println!("this is {}", swarm.local_peer_id());
    println!("{} leads to {peer}", listener.local_addr()?);
    let (dialer, mut wants) = mpsc::channel(1);
    let control = swarm.behaviour().new_control();
    tokio::spawn(accept(listener, peer, control, dialer));
    let mut waiting = Vec::<Wanted>::new();
    loop {
        let outcome = tokio::select! {
            Some(wanted) = wants.recv() => {
                waiting.push(wanted);
                let opts = DialOpts::peer_id(peer)
                    .condition(PeerCondition::DisconnectedAndNotDialing)
                    .addresses(vec![address.to_multiaddr()]);
                match swarm.dial(opts.build()) {
                    Err(DialError::DialPeerConditionFalse(_)) if swarm.is_connected(&peer) => Ok(()),
                    Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => continue,
                    Err(error) => Err(unreachable(&error)),
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { .. } => Ok(()),
                SwarmEvent::OutgoingConnectionError { error, .. } => Err(unreachable(&error)),
                SwarmEvent::ConnectionClosed { cause: Some(ConnectionError::IO(error)), .. } => {
                    println!("the connection to {peer} is lost: {error}");
                    continue;
                }
                _ => continue,
            },
        };
        for wanted in waiting.drain(..) {
            // The waiting task may have given up.
            let _ = wanted.send(outcome.clone());
        }
    }
}

/// Returns the reason why there is no connection. Only one address was dialled, so the error of libp2p, which repeats
/// the address, is reduced to its cause.
fn unreachable(error: &DialError) -> String {
    let why = match error {
        DialError::Transport(failed) => match failed.first() {
            Some((_, TransportError::Other(error))) => error.to_string(),
            _ => error.to_string(),
        },
        _ => error.to_string(),
    };
    format!("the peer cannot be reached: {why}")
}

async fn accept(
    listener: TcpListener,
    peer: PeerId,
    control: Control,
    dialer: mpsc::Sender<Wanted>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = room.clone().acquire_owned().await {
        let accepted = listener.accept().await;
        let (tcp, from) = match accepted.and_then(|(tcp, from)| Ok((guarded(tcp)?, from))) {
            Ok(accepted) => accepted,
            Err(error) => {
                println!("a TCP connection failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (control, dialer) = (control.clone(), dialer.clone());
        tokio::spawn(async move {
            let led = async {
                let opened = timeout(OPEN, open(peer, control, dialer)).await;
                carry(tcp, opened.map_err(|_| "the service does not answer")??).await
            };
            if let Err(error) = led.await {
                println!("{from}: {error}");
            }
            drop(place);
        });
    }
}

/// Opens a stream to the service. It may try again as long as no data was sent.
async fn open(
    peer: PeerId,
    mut control: Control,
    dialer: mpsc::Sender<Wanted>,
) -> Fallible<Frames> {
    let mut failed = String::new();
    for tries in 0..TRIES {
        if tries > 0 {
            sleep(PAUSE * 2_u32.pow(tries - 1)).await;
        }
        let (wanted, connected) = oneshot::channel();
        dialer.send(wanted).await?;
        connected.await??;
        let mut stream = match control.open_stream(peer, PROTOCOL).await {
            Ok(stream) => frames(stream),
            Err(error @ OpenStreamError::UnsupportedProtocol(_)) => return Err(error.into()),
            Err(error) => {
                failed = error.to_string();
                continue;
            }
        };
        if let Some(Ok(why)) = stream.next().await {
            if why.is_empty() {
                return Ok(stream);
            }
            let why: String = String::from_utf8_lossy(&why).chars().take(200).collect();
            return Err(format!("{peer} says: {}", why.escape_debug()).into());
        }
        failed = format!("{peer} ends the streams without an answer");
    }
    Err(failed.into())
}
