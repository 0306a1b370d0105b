//! A transport without a swarm. The tests see its events and connections directly.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{
    Multiaddr,
    core::{
        Endpoint, Transport as _,
        transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
    },
    identity::Keypair,
};
use libp2p_websocket_star::{
    Config, Connection, Discovery, Error, WebSocketStarTransport, error::StreamError,
};
use tokio::sync::mpsc;

use super::{
    js::{Peer, wire},
    log, pattern, within,
};

type Event = TransportEvent<std::future::Ready<Result<Connection, Error>>, Error>;

/// A raw node.
pub struct Raw {
    transport: Arc<Mutex<WebSocketStarTransport>>,
    events: mpsc::Receiver<Event>,
    incoming: mpsc::Receiver<(Connection, Multiaddr)>,
    pump: tokio::task::JoinHandle<()>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.pump.abort();
        // A panic in a task is silent, and ends the link for ever.
        if !std::thread::panicking() {
            assert_eq!(super::panics(), 0, "a task panicked");
        }
    }
}

impl Raw {
    pub fn new() -> Self {
        Self::with(
            &super::ed25519(),
            Config::default().with_allow_local_rendezvous(true),
        )
    }

    pub fn with(key: &Keypair, config: Config) -> Self {
        log();
        let transport = Arc::new(Mutex::new(WebSocketStarTransport::new(key, config)));
        let (to_events, events) = mpsc::channel(10_000);
        let (to_incoming, incoming) = mpsc::channel(10_000);
        let polled = transport.clone();
        let pump = tokio::spawn(async move {
            loop {
                let event = poll_fn(|cx| {
                    let mut transport = polled.lock().expect("no panic");
                    Pin::new(&mut *transport).poll(cx)
                });
                match event.await {
                    TransportEvent::Incoming {
                        upgrade,
                        send_back_addr,
                        ..
                    } => {
                        let connection = upgrade.await.expect("accepted");
                        if to_incoming
                            .send((connection, send_back_addr))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    event => {
                        if to_events.send(event).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Self {
            transport,
            events,
            incoming,
            pump,
        }
    }

    pub fn transport(&self) -> MutexGuard<'_, WebSocketStarTransport> {
        self.transport.lock().expect("no panic")
    }

    pub fn discovery(&self) -> Discovery {
        self.transport().discovery()
    }

    /// Starts to listen.
    pub fn listen_on(&self, addr: &str) -> Result<ListenerId, TransportError<Error>> {
        let id = ListenerId::next();
        let addr = addr.parse().expect("a multiaddr");
        self.transport().listen_on(id, addr).map(|()| id)
    }

    /// Listens, and waits until the address is joined.
    pub async fn listen(&mut self, addr: &str) -> (ListenerId, Multiaddr) {
        let id = self.listen_on(addr).expect("a good address");
        (id, self.joined().await)
    }

    /// Waits until a listener has joined. Skips errors before that.
    pub async fn joined(&mut self) -> Multiaddr {
        loop {
            match self.event().await {
                TransportEvent::NewAddress { listen_addr, .. } => return listen_addr,
                TransportEvent::ListenerClosed { reason, .. } => panic!("closed: {reason:?}"),
                _ => {}
            }
        }
    }

    /// Returns the next event of a listener.
    pub async fn event(&mut self) -> Event {
        within("an event of a listener", self.events.recv())
            .await
            .expect("a transport")
    }

    /// Returns the error of the next event, which must be an error of a listener.
    pub async fn listener_error(&mut self) -> Error {
        match self.event().await {
            TransportEvent::ListenerError { error, .. } => error,
            other => panic!("no listener error: {other:?}"),
        }
    }

    /// Returns the error with which the next event closes a listener.
    pub async fn listener_closed(&mut self) -> Error {
        match self.event().await {
            TransportEvent::ListenerClosed { reason, .. } => reason.expect_err("an error"),
            other => panic!("not closed: {other:?}"),
        }
    }

    /// Returns the next incoming connection, and the address of its peer.
    pub async fn accept(&mut self) -> (Connection, Multiaddr) {
        within("an incoming connection", self.incoming.recv())
            .await
            .expect("a transport")
    }

    /// Returns a dial. It starts only when it is polled.
    pub fn start_dial(
        &self,
        addr: &str,
    ) -> impl Future<Output = Result<Connection, Error>> + Send + 'static {
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let addr = addr.parse().expect("a multiaddr");
        self.transport().dial(addr, opts).expect("a good address")
    }

    pub async fn try_dial(&self, addr: &str) -> Result<Connection, Error> {
        within("a dial", self.start_dial(addr)).await
    }

    pub async fn dial(&self, addr: &str) -> Connection {
        self.try_dial(addr)
            .await
            .unwrap_or_else(|error| panic!("{addr}: {error}"))
    }
}

/// Returns the inner error of a reset.
pub fn reset(error: std::io::Error) -> StreamError {
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let inner = error.into_inner().expect("an inner error");
    *inner.downcast().expect("a StreamError")
}

/// Reads everything that is left on a connection, and returns the error with which it is reset.
pub async fn read_error(connection: &mut Connection) -> StreamError {
    let mut rest = Vec::new();
    let read = within("a reset", connection.read_to_end(&mut rest)).await;
    reset(read.expect_err("a reset"))
}

/// Sends back everything that arrives, then ends.
pub async fn echo(connection: Connection) -> std::io::Result<u64> {
    let (reader, mut writer) = connection.split();
    let copied = futures::io::copy(reader, &mut writer).await?;
    writer.close().await?;
    Ok(copied)
}

/// Has a node of ours, which listens at `own`, and an npm node at `theirs` dial each other. Each of them has `len`
/// bytes echoed; ours writes them in pieces of `chunk`.
pub async fn echo_both_ways(
    node: &mut Raw,
    own: &Multiaddr,
    npm: &Peer,
    theirs: &str,
    len: usize,
    chunk: usize,
) {
    check_echo(node.dial(theirs).await, len, chunk).await;
    let answer = async { echo(node.accept().await.0).await.expect("no reset") };
    let (own, len) = (wire(own), len as u64);
    let ((), copied) = futures::future::join(npm.echo(&own, len), answer).await;
    assert_eq!(copied, len);
}

/// Sends `len` bytes of the pattern in writes of `chunk`, reads them back, and ends properly.
pub async fn check_echo(connection: Connection, len: usize, chunk: usize) {
    let (mut reader, mut writer) = connection.split();
    let send = async {
        let mut sent = 0;
        while sent < len {
            let n = chunk.min(len - sent);
            writer.write_all(&pattern(sent, n)).await.expect("writable");
            sent += n;
        }
        writer.close().await.expect("closable");
    };
    let receive = async {
        let mut buffer = vec![0; 65_536];
        let mut received = 0;
        loop {
            let n = reader.read(&mut buffer).await.expect("readable");
            if n == 0 {
                break received;
            }
            assert!(
                buffer[..n] == pattern(received, n),
                "a wrong byte after {received}"
            );
            received += n;
        }
    };
    let ((), received) = within("an echo", futures::future::join(send, receive)).await;
    assert_eq!(received, len);
}
