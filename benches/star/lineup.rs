//! The rows of the table: the peers that are compared.

use crate::{
    Result,
    process::Child,
    subjects::{
        Dialer, Kind, Listener, js,
        line::LongLine,
        place::{self, Place},
        server::{Server, ServerKind},
    },
    works::Work,
};

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Id {
    RawEmbedded,
    RawWss,
    RawNpm,
    SwarmEmbedded,
    SwarmWss,
    SwarmEven,
    SwarmNpm,
    Relay,
    Tcp,
    WebSocket,
    Proxied,
    JsNpm,
    JsEmbedded,
}

/// The server between the peers of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Via {
    Embedded,
    EmbeddedWss,
    Npm,
    Relay,
    Nothing,
}

impl Id {
    pub const ALL: [Self; 13] = [
        Self::RawEmbedded,
        Self::RawWss,
        Self::RawNpm,
        Self::SwarmEmbedded,
        Self::SwarmWss,
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
            Self::RawWss => "raw, embedded, wss",
            Self::RawNpm => "raw, npm",
            Self::SwarmEmbedded => "swarm, embedded",
            Self::SwarmWss => "swarm, embedded, wss",
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

    /// Returns how the row's peers reach each other; `None` for JavaScript peers.
    pub fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::RawEmbedded | Self::RawWss | Self::RawNpm => Kind::Raw,
            Self::SwarmEmbedded | Self::SwarmWss | Self::SwarmNpm => Kind::Swarm,
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
            Self::RawWss | Self::SwarmWss => Via::EmbeddedWss,
            Self::RawNpm | Self::SwarmNpm | Self::JsNpm => Via::Npm,
            Self::Relay => Via::Relay,
            Self::Tcp | Self::WebSocket | Self::Proxied => Via::Nothing,
        }
    }

    /// Returns whether a measurement makes sense for the row.
    pub fn does(self, work: Work) -> bool {
        match (self, work) {
            // Window sizes do not matter to one stream at a time.
            (Self::SwarmEven, work) => work == Work::Many,
            // How dials of one link, or links to one receiver, affect each other.
            (id, Work::Senders | Work::Unread) => matches!(id, Self::RawEmbedded | Self::RawWss),
            // The npm rendezvous reads everything that is sent into its memory, and later data waits behind it.
            (Self::RawNpm | Self::SwarmNpm, Work::Beside) => false,
            (Self::Proxied | Self::JsNpm | Self::JsEmbedded, work) => {
                !matches!(work, Work::Many | Work::Cpu | Work::Beside)
            }
            _ => true,
        }
    }

    /// Returns whether the row is measured over a long line. JavaScript clients connect to the address that the other
    /// peer gives, which is not the near end of the line.
    pub fn is_far(self) -> bool {
        !matches!(self, Self::SwarmEven | Self::JsNpm | Self::JsEmbedded)
    }

    /// Returns whether the row's streams are dials.
    pub fn is_raw(self) -> bool {
        self.kind() == Some(Kind::Raw)
    }

    /// Returns whether the row needs Node.js.
    pub fn needs_js(self) -> bool {
        self.via() == Via::Npm || self.kind().is_none()
    }
}

/// Two peers in this process.
pub struct Pair {
    pub dialer: Dialer,
    kind: Kind,
    via: Place,
    listener: Listener,
    _line: Option<LongLine>,
}

impl Pair {
    async fn start(kind: Kind, via: &Place) -> Result<Self> {
        let listener = Listener::start(kind, via).await?;
        Ok(Self {
            dialer: Dialer::start(kind, via, &listener.address).await?,
            kind,
            via: via.clone(),
            listener,
            _line: None,
        })
    }

    /// Starts the peers with a long line between the dialer and the address that it connects to.
    async fn far(kind: Kind, via: &Place) -> Result<Self> {
        let listener = Listener::start(kind, via).await?;
        let far = match via.is_nowhere() {
            true => &listener.address,
            false => &via.address,
        };
        let line = LongLine::start(place::endpoint(far)?).await?;
        let near = via.moved(line.near)?;
        let to = match kind {
            // At a rendezvous, a peer keeps the address under which it joined, however others reach the rendezvous.
            Kind::Raw | Kind::Swarm | Kind::EvenSwarm => listener.address.clone(),
            _ => place::moved(&listener.address, line.near)?,
        };
        Ok(Self {
            dialer: Dialer::start(kind, &near, &to).await?,
            kind,
            via: near,
            listener,
            _line: Some(line),
        })
    }

    /// Starts one more peer, with a link of its own, that dials the same listener.
    pub async fn another(&self) -> Result<Dialer> {
        Dialer::start(self.kind, &self.via, &self.listener.address).await
    }
}

/// The peers of a row.
pub enum Peers {
    Rust(Box<Pair>),
    Js(Box<js::Pair>),
    /// Peers that are not available, with the reason.
    Missing(&'static str),
}

/// The subject of one row.
pub struct Subject {
    pub id: Id,
    pub peers: Peers,
    /// A second pair, whose server runs in a process of its own; `None` if there is no need for it.
    pub apart: Option<Pair>,
    /// The process id of the server, if it runs in a process of its own.
    pub server: Option<u32>,
}

impl Subject {
    /// Returns the peers for a measurement. How dials and links affect each other is measured with the server in a
    /// process of its own, as it is in real use.
    pub fn pair<'a>(&'a self, here: &'a Pair, work: Work) -> &'a Pair {
        let apart = match work {
            Work::Cpu | Work::Senders | Work::Unread => true,
            Work::Beside => self.id.is_raw(),
            _ => false,
        };
        self.apart.as_ref().filter(|_| apart).unwrap_or(here)
    }
}

/// A server in this process, and another one in a process of its own.
struct Twice {
    here: Server,
    child: Child,
    apart: Place,
}

impl Twice {
    async fn start(kind: ServerKind) -> Result<Self> {
        let here = Server::start(kind).await?;
        let (child, apart) = Child::start(&["server", &kind.to_string()]).await?;
        Ok(Self {
            here,
            child,
            apart: apart.parse()?,
        })
    }
}

/// The servers of a run.
pub struct Servers {
    embedded: Twice,
    embedded_wss: Twice,
    relay: Twice,
    npm: Option<js::Rendezvous>,
    js_missing: Option<&'static str>,
}

impl Servers {
    pub async fn start(with_js: bool) -> Result<Self> {
        let js_missing = match with_js {
            true => js::missing(),
            false => Some("not selected"),
        };
        let npm = match js_missing {
            None => Some(js::rendezvous().await),
            Some(_) => None,
        };
        Ok(Self {
            embedded: Twice::start(ServerKind::Rendezvous).await?,
            embedded_wss: Twice::start(ServerKind::SecureRendezvous).await?,
            relay: Twice::start(ServerKind::Relay).await?,
            npm,
            js_missing,
        })
    }

    /// Returns the address of a server, the address of the same kind of server in a process of its own, and the id of
    /// that process.
    fn places(&self, via: Via) -> (Place, Option<Place>, Option<u32>) {
        let both = |server: &Twice| {
            let apart = Some(server.apart.clone());
            (server.here.place.clone(), apart, server.child.pid())
        };
        match (via, &self.npm) {
            (Via::Embedded, _) => both(&self.embedded),
            (Via::EmbeddedWss, _) => both(&self.embedded_wss),
            (Via::Relay, _) => both(&self.relay),
            (Via::Npm, Some(npm)) => (Place::plain(npm.addr()), None, npm.pid()),
            (Via::Npm, None) | (Via::Nothing, _) => (Place::default(), None, None),
        }
    }

    /// Starts the peers of a row with a long line between them; `None` if the row has none.
    pub async fn far(&self, id: Id) -> Result<Option<Pair>> {
        let missing = self.js_missing.filter(|_| id.needs_js());
        let Some(kind) = id.kind().filter(|_| id.is_far() && missing.is_none()) else {
            return Ok(None);
        };
        let (here, _, _) = self.places(id.via());
        Pair::far(kind, &here).await.map(Some)
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
            peers: Peers::Rust(Box::new(Pair::start(kind, &here).await?)),
            apart,
            server,
        })
    }
}
