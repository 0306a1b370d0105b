//! The subjects: two peers, and the server between them.

pub mod js;
pub mod line;
pub mod place;
pub mod plain;
pub mod raw;
pub mod server;
pub mod stream;
pub mod swarm;

use std::{fmt, str::FromStr, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use crate::{Result, serve};

use place::Place;
use stream::Stream;

/// The way in which two peers reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The transport alone; one stream is one dial.
    Raw,
    /// A swarm on the transport, with noise and yamux; one stream is one substream.
    Swarm,
    /// A swarm as above, with yamux windows that cannot grow.
    EvenSwarm,
    /// A swarm over circuit relay v2 on TCP.
    Relay,
    /// A swarm over TCP.
    Tcp,
    /// A swarm over `libp2p-websocket` on TCP.
    WebSocket,
    /// TCP through a copying proxy, without libp2p; one stream is one TCP connection.
    Proxied,
}

const NAMES: [(Kind, &str); 7] = [
    (Kind::Raw, "raw"),
    (Kind::Swarm, "swarm"),
    (Kind::EvenSwarm, "even-swarm"),
    (Kind::Relay, "relay"),
    (Kind::Tcp, "tcp"),
    (Kind::WebSocket, "websocket"),
    (Kind::Proxied, "proxied"),
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(kind, _)| kind == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = NAMES.iter().find(|(_, name)| *name == text);
        kind.map(|(kind, _)| *kind)
            .ok_or_else(|| format!("no subject {text}"))
    }
}

/// A task that is aborted when this is dropped.
pub struct Task(JoinHandle<()>);

impl Task {
    pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A peer that serves every incoming stream until this is dropped.
pub struct Listener {
    pub address: String,
    _tasks: Vec<Task>,
}

impl Listener {
    /// Starts the peer; `via` is the server, if there is one.
    pub async fn start(kind: Kind, via: &Place) -> Result<Self> {
        let (address, tasks) = match kind {
            Kind::Raw => raw::listen(via).await?,
            Kind::Proxied => plain::listen().await?,
            _ => swarm::listen(kind, via).await?,
        };
        Ok(Self {
            address,
            _tasks: tasks,
        })
    }
}

/// A peer that dials.
pub enum Dialer {
    Raw(raw::Dialer),
    Swarm(swarm::Dialer),
    Proxied(plain::Dialer),
}

impl Dialer {
    /// Starts the peer and connects it.
    pub async fn start(kind: Kind, via: &Place, to: &str) -> Result<Self> {
        Ok(match kind {
            Kind::Raw => Self::Raw(raw::Dialer::start(via, to).await?),
            Kind::Proxied => Self::Proxied(plain::Dialer::start(to).await?),
            _ => Self::Swarm(swarm::Dialer::start(kind, via, to).await?),
        })
    }

    /// Opens a stream whose other end does `what`. When this returns, both ends have the stream.
    pub async fn open(&self, what: serve::Request) -> Result<Stream> {
        let mut stream: Stream = match self {
            Self::Raw(dialer) => Box::new(dialer.dial().await?),
            Self::Swarm(dialer) => Box::new(dialer.open().await?),
            Self::Proxied(dialer) => Box::new(dialer.dial().await?),
        };
        stream.write_all(&what.encode()).await?;
        stream.flush().await?;
        let mut ready = [0];
        stream.read_exact(&mut ready).await?;
        Ok(stream)
    }

    /// Returns the time from a dial to its connection, while the other connections stay open.
    pub async fn dial(&self) -> Result<Duration> {
        match self {
            Self::Raw(dialer) => {
                let started = std::time::Instant::now();
                let connection = dialer.dial().await?;
                let took = started.elapsed();
                end(Box::new(connection)).await?;
                Ok(took)
            }
            Self::Proxied(dialer) => {
                let started = std::time::Instant::now();
                let connection = dialer.dial().await?;
                let took = started.elapsed();
                end(Box::new(connection)).await?;
                Ok(took)
            }
            Self::Swarm(dialer) => dialer.dial().await,
        }
    }
}

/// Ends a connection that was dialled only for its duration. Nothing of it is left.
async fn end(mut stream: Stream) -> Result<()> {
    stream.write_all(&serve::Request::Sink(0).encode()).await?;
    stream.close().await?;
    let mut rest = [0; 16];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
