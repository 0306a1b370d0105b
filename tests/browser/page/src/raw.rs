//! The transport alone, and its connections without an upgrade.

use std::{cell::RefCell, future::poll_fn, pin::Pin, rc::Rc};

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _, SinkExt as _, StreamExt as _,
    channel::mpsc,
    future::{AbortHandle, Abortable},
    io::{ReadHalf, WriteHalf},
    lock::Mutex,
};
use libp2p::{
    Multiaddr, Transport as _,
    core::{
        Endpoint,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    identity::Keypair,
};
use libp2p_websocket_star::{Connection as Inner, WebSocketStarTransport};
use wasm_bindgen_futures::spawn_local;

use crate::{
    behaviours::{receive, send, text, whole},
    options::Options,
};

pub struct Raw {
    transport: Rc<RefCell<WebSocketStarTransport>>,
    events: Mutex<mpsc::Receiver<String>>,
    incoming: Mutex<mpsc::Receiver<Inner>>,
    pump: AbortHandle,
}

impl Raw {
    pub fn start(rendezvous: &str, options: &Options) -> Result<Self, String> {
        let at = rendezvous.parse().map_err(text)?;
        let config = options.config(&at)?;
        let transport = WebSocketStarTransport::new(&Keypair::generate_ed25519(), config);
        let transport = Rc::new(RefCell::new(transport));
        let (to_events, events) = mpsc::channel(1000);
        let (to_incoming, incoming) = mpsc::channel(1000);
        let (pump, registration) = AbortHandle::new_pair();
        let pumping = run(transport.clone(), to_events, to_incoming);
        spawn_local(async move {
            // The task ends with the node.
            let _ = Abortable::new(pumping, registration).await;
        });
        let listening = transport.borrow_mut().listen_on(ListenerId::next(), at);
        listening.map_err(text)?;
        Ok(Self {
            transport,
            events: Mutex::new(events),
            incoming: Mutex::new(incoming),
            pump,
        })
    }

    pub async fn event(&self) -> Option<String> {
        self.events.lock().await.next().await
    }

    pub async fn dial(&self, address: &str) -> Result<Connection, String> {
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let address = address.parse::<Multiaddr>().map_err(text)?;
        let dial = self.transport.borrow_mut().dial(address, opts);
        let connection = dial.map_err(whole)?.await.map_err(whole)?;
        Ok(Connection::new(connection))
    }

    pub async fn accept(&self) -> Result<Connection, String> {
        let next = self.incoming.lock().await.next().await;
        next.map(Connection::new)
            .ok_or_else(|| "it has ended".to_owned())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

async fn run(
    transport: Rc<RefCell<WebSocketStarTransport>>,
    mut events: mpsc::Sender<String>,
    mut incoming: mpsc::Sender<Inner>,
) {
    loop {
        let next = poll_fn(|cx| Pin::new(&mut *transport.borrow_mut()).poll(cx)).await;
        let line = match next {
            TransportEvent::Incoming { upgrade, .. } => {
                if let Ok(connection) = upgrade.await {
                    // The test may not accept any more.
                    let _ = incoming.send(connection).await;
                }
                continue;
            }
            TransportEvent::NewAddress { listen_addr, .. } => listen_addr.to_string(),
            TransportEvent::AddressExpired { .. } => "expired".to_owned(),
            TransportEvent::ListenerError { error, .. } => format!("error: {}", whole(error)),
            TransportEvent::ListenerClosed { reason, .. } => match reason {
                Ok(()) => "closed".to_owned(),
                Err(error) => format!("closed: {}", whole(error)),
            },
        };
        // The test may not read events any more.
        let _ = events.send(line).await;
    }
}

/// A connection whose two directions are used independently.
pub struct Connection {
    reader: Mutex<(ReadHalf<Inner>, u64)>,
    writer: Mutex<(WriteHalf<Inner>, u64)>,
}

impl Connection {
    fn new(connection: Inner) -> Self {
        let (reader, writer) = connection.split();
        Self {
            reader: Mutex::new((reader, 0)),
            writer: Mutex::new((writer, 0)),
        }
    }

    pub async fn write(&self, bytes: u64) -> Result<(), String> {
        let (writer, sent) = &mut *self.writer.lock().await;
        send(writer, *sent, *sent + bytes).await?;
        *sent += bytes;
        Ok(())
    }

    pub async fn end(&self) -> Result<(), String> {
        self.writer.lock().await.0.close().await.map_err(whole)
    }

    pub async fn read(&self, bytes: u64) -> Result<u64, String> {
        let (reader, place) = &mut *self.reader.lock().await;
        let start = *place;
        *place = receive(reader, start, start.saturating_add(bytes)).await?;
        Ok(*place - start)
    }

    pub async fn echo(&self) -> Result<(), String> {
        let (reader, _) = &mut *self.reader.lock().await;
        let (writer, _) = &mut *self.writer.lock().await;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut buffer).await.map_err(whole)? {
                0 => return writer.close().await.map_err(whole),
                n => {
                    writer.write_all(&buffer[..n]).await.map_err(whole)?;
                    // More data may not come for a while.
                    writer.flush().await.map_err(whole)?;
                }
            }
        }
    }
}
