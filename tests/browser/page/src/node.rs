//! The node's task, and the handle to it.

use std::{cell::RefCell, collections::HashMap, fmt::Display, rc::Rc};

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
    future::try_join,
    select,
};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, identify,
    identity::Keypair,
    ping,
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
};
use libp2p_stream as stream;
use libp2p_websocket_star::{AddressGuard, Behaviour, Config, preset::Star};
use wasm_bindgen_futures::spawn_local;
use web_time::Instant;

const ECHO: StreamProtocol = StreamProtocol::new("/star-test/echo/1");

#[derive(NetworkBehaviour)]
struct Behaviours {
    star: Behaviour,
    identify: AddressGuard<identify::Behaviour>,
    ping: ping::Behaviour,
    stream: stream::Behaviour,
}

struct Dial {
    address: Multiaddr,
    done: oneshot::Sender<Result<(), String>>,
}

pub struct Handle {
    peer: PeerId,
    streams: stream::Control,
    dials: mpsc::Sender<Dial>,
    log: Log,
}

type Log = Rc<RefCell<Vec<String>>>;

impl Handle {
    pub async fn start(rendezvous: &str) -> Result<Self, String> {
        let mut swarm = swarm()?;
        let rendezvous = rendezvous.parse::<Multiaddr>().map_err(text)?;
        swarm.listen_on(rendezvous).map_err(text)?;
        let log = Log::default();
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { .. } => break,
                SwarmEvent::ListenerError { error, .. } => return Err(text(error)),
                SwarmEvent::ListenerClosed { reason, .. } => {
                    return Err(format!("closed: {reason:?}"));
                }
                event => log.borrow_mut().push(format!("{event:?}")),
            }
        }
        let mut streams = swarm.behaviour().stream.new_control();
        let mut incoming = streams.accept(ECHO).map_err(text)?;
        spawn_local(async move {
            while let Some((_, stream)) = incoming.next().await {
                spawn_local(async move {
                    // Whoever dialled sees what went wrong.
                    let _ = answer(stream).await;
                });
            }
        });
        let (dials, asked) = mpsc::channel(16);
        let peer = *swarm.local_peer_id();
        spawn_local(run(swarm, asked, log.clone()));
        Ok(Self {
            peer,
            streams,
            dials,
            log,
        })
    }

    pub fn peer(&self) -> PeerId {
        self.peer
    }

    pub fn events(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    pub async fn dial(&self, address: &str) -> Result<(), String> {
        let address = address.parse().map_err(text)?;
        let (done, dialled) = oneshot::channel();
        let dial = Dial { address, done };
        self.dials.clone().try_send(dial).map_err(text)?;
        dialled.await.map_err(text)?
    }

    pub async fn echo(&self, peer: &str, bytes: usize) -> Result<f64, String> {
        let peer = peer.parse().map_err(text)?;
        let opened = self.streams.clone().open_stream(peer, ECHO).await;
        let stream = opened.map_err(text)?;
        let started = Instant::now();
        exchange(stream, bytes).await?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }
}

fn swarm() -> Result<Swarm<Behaviours>, String> {
    let star = Star::new(Config::default().with_allow_local_rendezvous(true));
    let builder = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_wasm_bindgen()
        .with_other_transport(|key| star.transport(key))
        .map_err(text)?;
    let builder = builder.with_behaviour(|key| {
        let identify = identify::Config::new("/star-test".to_owned(), key.public());
        Ok(Behaviours {
            star: star.behaviour()?,
            identify: AddressGuard::new(identify::Behaviour::new(identify)),
            ping: ping::Behaviour::default(),
            stream: stream::Behaviour::new(),
        })
    });
    Ok(builder.map_err(text)?.build())
}

/// Those who wait for a dial.
#[derive(Default)]
struct Waiting(HashMap<ConnectionId, oneshot::Sender<Result<(), String>>>);

impl Waiting {
    fn answer(&mut self, id: &ConnectionId, result: Result<(), String>) {
        if let Some(done) = self.0.remove(id) {
            // Nobody may wait any more.
            let _ = done.send(result);
        }
    }
}

async fn run(mut swarm: Swarm<Behaviours>, mut dials: mpsc::Receiver<Dial>, log: Log) {
    let mut waiting = Waiting::default();
    loop {
        let event = select! {
            event = swarm.select_next_some() => event,
            dial = dials.next() => {
                // The handle is gone.
                let Some(Dial { address, done }) = dial else { return };
                let opts = DialOpts::from(address);
                let id = opts.connection_id();
                match swarm.dial(opts) {
                    Ok(()) => {
                        waiting.0.insert(id, done);
                    }
                    Err(error) => {
                        let _ = done.send(Err(text(error)));
                    }
                }
                continue;
            }
        };
        match &event {
            SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                waiting.answer(connection_id, Ok(()));
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => waiting.answer(connection_id, Err(text(error))),
            _ => {}
        }
        log.borrow_mut().push(format!("{event:?}"));
    }
}

async fn answer(stream: Stream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    futures::io::copy(reader, &mut writer).await?;
    writer.close().await
}

/// The byte at each place: one that moves shows.
fn byte(place: usize) -> u8 {
    (place ^ (place >> 8) ^ (place >> 16)) as u8
}

async fn exchange(stream: Stream, bytes: usize) -> Result<(), String> {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        let mut sent = 0;
        while sent < bytes {
            let end = bytes.min(sent + 64 * 1024);
            let data: Vec<u8> = (sent..end).map(byte).collect();
            writer.write_all(&data).await.map_err(text)?;
            sent = end;
        }
        writer.close().await.map_err(text)
    };
    let read = async {
        let (mut read, mut buffer) = (0, vec![0; 64 * 1024]);
        loop {
            match reader.read(&mut buffer).await.map_err(text)? {
                0 => break,
                n => {
                    let wrong = (0..n).find(|at| buffer[*at] != byte(read + at));
                    if let Some(at) = wrong {
                        return Err(format!("another byte at {}", read + at));
                    }
                    read += n;
                }
            }
        }
        match read == bytes {
            true => Ok(()),
            false => Err(format!("{read} bytes of {bytes}")),
        }
    };
    try_join(write, read).map(|result| result.map(|_| ())).await
}

fn text(error: impl Display) -> String {
    error.to_string()
}
