//! Who is measured beside whom.

use crate::{
    Result,
    process::Child,
    subjects::{
        Dialer, Kind, Listener, js,
        server::{Server, ServerKind},
    },
    work::Work,
};

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Id {
    RawEmbedded,
    RawNpm,
    SwarmEmbedded,
    SwarmEven,
    SwarmNpm,
    Relay,
    Tcp,
    WebSocket,
    Proxied,
    JsNpm,
    JsEmbedded,
}

/// What is between the peers of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Via {
    Embedded,
    Npm,
    Relay,
    Nothing,
}

impl Id {
    pub const ALL: [Self; 11] = [
        Self::RawEmbedded,
        Self::RawNpm,
        Self::SwarmEmbedded,
        Self::SwarmEven,
        Self::SwarmNpm,
        Self::Relay,
        Self::Tcp,
        Self::WebSocket,
        Self::Proxied,
        Self::JsNpm,
        Self::JsEmbedded,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::RawEmbedded => "raw, embedded",
            Self::RawNpm => "raw, npm",
            Self::SwarmEmbedded => "swarm, embedded",
            Self::SwarmEven => "swarm, embedded, even windows",
            Self::SwarmNpm => "swarm, npm",
            Self::Relay => "swarm, relay v2",
            Self::Tcp => "swarm, direct TCP",
            Self::WebSocket => "swarm, direct WebSocket",
            Self::Proxied => "TCP, copying proxy",
            Self::JsNpm => "JavaScript, npm",
            Self::JsEmbedded => "JavaScript, embedded",
        }
    }

    /// How its peers reach each other; `None` for those of JavaScript.
    pub fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::RawEmbedded | Self::RawNpm => Kind::Raw,
            Self::SwarmEmbedded | Self::SwarmNpm => Kind::Swarm,
            Self::SwarmEven => Kind::EvenSwarm,
            Self::Relay => Kind::Relay,
            Self::Tcp => Kind::Tcp,
            Self::WebSocket => Kind::WebSocket,
            Self::Proxied => Kind::Proxied,
            Self::JsNpm | Self::JsEmbedded => return None,
        })
    }

    fn via(self) -> Via {
        match self {
            Self::RawEmbedded | Self::SwarmEmbedded | Self::SwarmEven | Self::JsEmbedded => {
                Via::Embedded
            }
            Self::RawNpm | Self::SwarmNpm | Self::JsNpm => Via::Npm,
            Self::Relay => Via::Relay,
            Self::Tcp | Self::WebSocket | Self::Proxied => Via::Nothing,
        }
    }

    /// Whether that work makes sense for it.
    pub fn does(self, work: Work) -> bool {
        match self {
            Self::Proxied | Self::JsNpm | Self::JsEmbedded => {
                !matches!(work, Work::Many | Work::Cpu)
            }
            // Windows are of no account to one stream at a time.
            Self::SwarmEven => work == Work::Many,
            _ => true,
        }
    }

    /// Whether it takes Node.js.
    pub fn needs_js(self) -> bool {
        self.via() == Via::Npm || self.kind().is_none()
    }
}

/// Two peers in this process.
pub struct Pair {
    pub dialer: Dialer,
    _listener: Listener,
}

impl Pair {
    async fn start(kind: Kind, via: &str) -> Result<Self> {
        let listener = Listener::start(kind, via).await?;
        Ok(Self {
            dialer: Dialer::start(kind, via, &listener.address).await?,
            _listener: listener,
        })
    }
}

/// The peers of a row.
pub enum Peers {
    Rust(Pair),
    Js(Box<js::Pair>),
    /// They cannot be had, and why.
    Missing(&'static str),
}

/// What is measured in one row.
pub struct Subject {
    pub id: Id,
    pub peers: Peers,
    /// The same with their server in a process of its own, if that is not so anyway.
    pub apart: Option<Pair>,
    /// The process of the server, where it has one.
    pub server: Option<u32>,
}

/// The servers of a run.
pub struct Servers {
    embedded: Server,
    relay: Server,
    npm: Option<js::Rendezvous>,
    embedded_apart: (Child, String),
    relay_apart: (Child, String),
    js_missing: Option<&'static str>,
}

impl Servers {
    pub async fn start(with_js: bool) -> Result<Self> {
        let js_missing = match with_js {
            true => js::missing(),
            false => Some("not asked for"),
        };
        let npm = match js_missing {
            None => Some(js::rendezvous().await),
            Some(_) => None,
        };
        let (rendezvous, relay) = (ServerKind::Rendezvous, ServerKind::Relay);
        Ok(Self {
            embedded: Server::start(rendezvous).await?,
            relay: Server::start(relay).await?,
            npm,
            embedded_apart: Child::start(&["server", &rendezvous.to_string()]).await?,
            relay_apart: Child::start(&["server", &relay.to_string()]).await?,
            js_missing,
        })
    }

    /// The address of a server, that of its like in a process of its own, and that process.
    fn places(&self, via: Via) -> (String, Option<String>, Option<u32>) {
        let apart = |here: &Server, (child, address): &(Child, String)| {
            (here.address.clone(), Some(address.clone()), child.pid())
        };
        match (via, &self.npm) {
            (Via::Embedded, _) => apart(&self.embedded, &self.embedded_apart),
            (Via::Relay, _) => apart(&self.relay, &self.relay_apart),
            (Via::Npm, Some(npm)) => (npm.addr(), None, npm.pid()),
            (Via::Npm, None) | (Via::Nothing, _) => (String::new(), None, None),
        }
    }

    /// Starts the peers of a row.
    pub async fn subject(&self, id: Id) -> Result<Subject> {
        let missing = self.js_missing.filter(|_| id.needs_js());
        if let Some(why) = missing {
            return Ok(Subject {
                id,
                peers: Peers::Missing(why),
                apart: None,
                server: None,
            });
        }
        let (here, apart, server) = self.places(id.via());
        let Some(kind) = id.kind() else {
            return Ok(Subject {
                id,
                peers: Peers::Js(Box::new(js::Pair::start(&here).await)),
                apart: None,
                server,
            });
        };
        let apart = match apart.filter(|_| id.does(Work::Cpu)) {
            Some(address) => Some(Pair::start(kind, &address).await?),
            None => None,
        };
        Ok(Subject {
            id,
            peers: Peers::Rust(Pair::start(kind, &here).await?),
            apart,
            server,
        })
    }
}
