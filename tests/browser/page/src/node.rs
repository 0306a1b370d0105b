//! The node's task, and the handle to it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    rc::Rc,
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
    select,
};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    identity::Keypair,
    swarm::{ConnectionId, SwarmEvent, dial_opts::DialOpts},
};
use libp2p_stream as stream;
use libp2p_websocket_star::{Behaviour, Config, WebSocketStarTransport, preset};
use wasm_bindgen_futures::spawn_local;
use web_time::Instant;

use crate::{
    behaviours::{Behaviours, BehavioursEvent, ECHO, exchange, serve, text},
    options::Options,
};

struct Dial {
    address: Multiaddr,
    done: oneshot::Sender<Result<(), String>>,
}

pub struct Handle {
    peer: PeerId,
    streams: stream::Control,
    dials: mpsc::Sender<Dial>,
    log: Log,
    polls: Rc<Cell<u64>>,
}

type Log = Rc<RefCell<Vec<String>>>;

impl Handle {
    pub async fn start(rendezvous: &str, options: &Options) -> Result<Self, String> {
        let rendezvous = rendezvous.parse::<Multiaddr>().map_err(text)?;
        let mut swarm = swarm(options.config(&rendezvous)?)?;
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
        let streams = swarm.behaviour().stream.new_control();
        spawn_local(serve(streams.clone(), spawn_local));
        let (dials, asked) = mpsc::channel(16);
        let peer = *swarm.local_peer_id();
        let polls = Rc::<Cell<u64>>::default();
        spawn_local(run(swarm, asked, log.clone(), polls.clone()));
        Ok(Self {
            peer,
            streams,
            dials,
            log,
            polls,
        })
    }

    pub fn peer(&self) -> PeerId {
        self.peer
    }

    pub fn events(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    pub fn polls(&self) -> u64 {
        self.polls.get()
    }

    pub async fn dial(&self, address: &str) -> Result<(), String> {
        let address = address.parse().map_err(text)?;
        let (done, dialled) = oneshot::channel();
        let dial = Dial { address, done };
        self.dials.clone().try_send(dial).map_err(text)?;
        dialled.await.map_err(text)?
    }

    pub async fn echo(&self, peer: &str, bytes: u64) -> Result<f64, String> {
        let peer = peer.parse().map_err(text)?;
        let opened = self.streams.clone().open_stream(peer, ECHO).await;
        let stream = opened.map_err(text)?;
        let started = Instant::now();
        exchange(stream, bytes).await?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }
}

/// Returns a swarm that can talk to current nodes and to js-libp2p 0.26.
fn swarm(config: Config) -> Result<Swarm<Behaviours>, String> {
    let key = Keypair::generate_ed25519();
    let transport = WebSocketStarTransport::new(&key, config);
    let star = Behaviour::new(key.public().to_peer_id(), transport.discovery()).map_err(text)?;
    let transport = preset::transport(&key, transport).map_err(text)?;
    let builder = SwarmBuilder::with_existing_identity(key)
        .with_wasm_bindgen()
        .with_other_transport(|_| transport)
        .map_err(text)?;
    let builder = builder.with_behaviour(|key| Behaviours::new(key, star));
    let builder = builder.map_err(text)?.with_swarm_config(|config| {
        config.with_idle_connection_timeout(Duration::from_secs(24 * 60 * 60))
    });
    Ok(builder.build())
}

/// Returns the swarm's next event, and counts every poll.
async fn next(swarm: &mut Swarm<Behaviours>, polls: &Cell<u64>) -> SwarmEvent<BehavioursEvent> {
    poll_fn(|cx| {
        polls.set(polls.get() + 1);
        swarm.select_next_some().poll_unpin(cx)
    })
    .await
}

/// The dials that wait for a result.
#[derive(Default)]
struct Waiting(HashMap<ConnectionId, oneshot::Sender<Result<(), String>>>);

impl Waiting {
    fn answer(&mut self, id: &ConnectionId, result: Result<(), String>) {
        if let Some(done) = self.0.remove(id) {
            // The caller may not wait any more.
            let _ = done.send(result);
        }
    }
}

async fn run(
    mut swarm: Swarm<Behaviours>,
    mut dials: mpsc::Receiver<Dial>,
    log: Log,
    polls: Rc<Cell<u64>>,
) {
    let mut waiting = Waiting::default();
    loop {
        let event = select! {
            event = next(&mut swarm, &polls).fuse() => event,
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
