//! The transport alone.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::{
    Multiaddr,
    core::{
        Endpoint, Transport as _,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    identity::Keypair,
};
use libp2p_websocket_star::{Connection, WebSocketStarTransport};
use tokio::sync::oneshot;

use super::{Task, place::Place};
use crate::{Result, serve::serve};

struct Peer {
    transport: Arc<Mutex<WebSocketStarTransport>>,
    address: Multiaddr,
    task: Task,
}

impl Peer {
    /// Joins the rendezvous, and serves incoming dials.
    async fn join(via: &Place) -> Result<Self> {
        let key = Keypair::generate_ed25519();
        let mut transport = WebSocketStarTransport::new(&key, via.config()?);
        transport.listen_on(ListenerId::next(), via.address.parse()?)?;
        let transport = Arc::new(Mutex::new(transport));
        let (joined, address) = oneshot::channel();
        let task = Task::spawn(run(transport.clone(), joined));
        let address = address.await.map_err(|_| "the listener closed")?;
        Ok(Self {
            transport,
            address,
            task,
        })
    }
}

async fn run(transport: Arc<Mutex<WebSocketStarTransport>>, joined: oneshot::Sender<Multiaddr>) {
    let mut joined = Some(joined);
    loop {
        let event = poll_fn(|cx| {
            let mut transport = transport.lock().unwrap_or_else(PoisonError::into_inner);
            Pin::new(&mut *transport).poll(cx)
        });
        match event.await {
            TransportEvent::NewAddress { listen_addr, .. } => {
                if let Some(joined) = joined.take() {
                    // The receiver is gone if the start was given up.
                    let _ = joined.send(listen_addr);
                }
            }
            TransportEvent::Incoming { upgrade, .. } => {
                if let Ok(connection) = upgrade.await {
                    tokio::spawn(serve(Box::new(connection)));
                }
            }
            TransportEvent::ListenerClosed { .. } => return,
            _ => {}
        }
    }
}

pub async fn listen(via: &Place) -> Result<(String, Vec<Task>)> {
    let peer = Peer::join(via).await?;
    Ok((peer.address.to_string(), vec![peer.task]))
}

/// A dialer that has joined the rendezvous, as the JavaScript dialers have.
pub struct Dialer {
    peer: Peer,
    to: Multiaddr,
}

impl Dialer {
    pub async fn start(via: &Place, to: &str) -> Result<Self> {
        let peer = Peer::join(via).await?;
        Ok(Self {
            peer,
            to: to.parse()?,
        })
    }

    pub async fn dial(&self) -> Result<Connection> {
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let dial = {
            let transport = self.peer.transport.lock();
            let mut transport = transport.unwrap_or_else(PoisonError::into_inner);
            transport.dial(self.to.clone(), opts)?
        };
        Ok(dial.await?)
    }
}
