//! A node with the transport alone.

use std::{cell::RefCell, future::poll_fn, pin::Pin, rc::Rc};

use libp2p::{
    Multiaddr,
    core::{
        Endpoint, Transport as _,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    identity::Keypair,
};
use libp2p_websocket_star::{Config, WebSocketStarTransport};
use wasm_bindgen_futures::spawn_local;

use crate::{Result, error, measure::Stream};

pub struct Raw {
    transport: Rc<RefCell<WebSocketStarTransport>>,
    to: Multiaddr,
}

impl Raw {
    pub async fn start(rendezvous: Multiaddr, to: Multiaddr) -> Result<Self> {
        let config = Config::default().with_allow_local_rendezvous(true);
        let mut transport = WebSocketStarTransport::new(&Keypair::generate_ed25519(), config);
        let listened = transport.listen_on(ListenerId::next(), rendezvous);
        listened.map_err(error)?;
        loop {
            match poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await {
                TransportEvent::NewAddress { .. } => break,
                TransportEvent::ListenerError { error, .. } => return Err(error.into()),
                TransportEvent::ListenerClosed { reason, .. } => reason?,
                _ => {}
            }
        }
        let transport = Rc::new(RefCell::new(transport));
        let polled = transport.clone();
        spawn_local(async move {
            loop {
                poll_fn(|cx| Pin::new(&mut *polled.borrow_mut()).poll(cx)).await;
            }
        });
        Ok(Self { transport, to })
    }

    pub async fn open(&self) -> Result<Stream> {
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let dial = self.transport.borrow_mut().dial(self.to.clone(), opts);
        Ok(Box::new(dial.map_err(error)?.await?))
    }
}
