//! A rendezvous in a process of its own, so that its use of resources is measured without that of its clients.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    time::Duration,
};

use libp2p_websocket_star::rendezvous::{Config, Server};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    limits, listed,
    secure::{Place, self_signed},
};

/// The arguments that make this program a server instead of the benchmark, without and with TLS.
pub const SERVE: &str = "--serve-until-stdin-ends";
pub const SERVE_TLS: &str = "--serve-tls-until-stdin-ends";
/// The argument that makes it a server that looks up each joining peer in a long list.
pub const SERVE_LISTED: &str = "--serve-listed-until-stdin-ends";
/// The unit of processor times in `/proc`, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Npm,
    OursTls,
    OursListed,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "this crate",
            Self::Npm => "npm 0.4.1",
            Self::OursTls => "this crate, wss",
            Self::OursListed => "this crate, with a list",
        }
    }

    /// Returns whether the server can be run here.
    pub fn is_there(self) -> bool {
        match self {
            Self::Ours | Self::OursTls | Self::OursListed => true,
            Self::Npm => {
                let node = std::process::Command::new("node").arg("--version").output();
                node.is_ok() && npm_script().with_file_name("node_modules").is_dir()
            }
        }
    }
}

fn npm_script() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js/rendezvous.js")
}

/// A server process. It ends when this is dropped.
pub struct Rendezvous {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    pub addr: SocketAddr,
    pub place: Place,
    pub kind: Kind,
}

/// The resources that a process has used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Seconds of processor time.
    pub cpu: f64,
    /// Resident bytes.
    pub rss: f64,
}

impl Rendezvous {
    pub async fn start(kind: Kind) -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let (program, argument) = match kind {
            Kind::Ours => (own, SERVE.into()),
            Kind::OursTls => (own, SERVE_TLS.into()),
            Kind::OursListed => (own, SERVE_LISTED.into()),
            Kind::Npm => ("node".into(), npm_script()),
        };
        let mut child = Command::new(program)
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let gone = || io::Error::other("the server has no pipes");
        let stdin = child.stdin.take().ok_or_else(gone)?;
        let stdout = child.stdout.take().ok_or_else(gone)?;
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.next_line().await?.unwrap_or_default();
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let port = said["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| io::Error::other(format!("the server said {line:?}")))?;
        let addr = (Ipv4Addr::LOCALHOST, port).into();
        let certificate = said["certificate"].as_str();
        let certificate = certificate.map(|hex| hex::decode(hex).map_err(io::Error::other));
        Ok(Self {
            child,
            stdin,
            lines,
            addr,
            place: Place::new(addr, certificate.transpose()?)?,
            kind,
        })
    }

    pub fn usage(&self) -> Usage {
        let pid = self.child.id().expect("it has not been waited for");
        usage(&pid.to_string())
    }

    /// Sends the server a line, and returns its report.
    pub async fn ask(&mut self, what: &str) -> io::Result<Value> {
        self.stdin.write_all(what.as_bytes()).await?;
        let line = self.lines.next_line().await?;
        Ok(serde_json::from_str(&line.unwrap_or_default())?)
    }

    /// Returns the current figures of this crate's server; `None` for npm's.
    pub async fn snapshot(&mut self) -> Option<Value> {
        match self.kind {
            Kind::Ours | Kind::OursTls | Kind::OursListed => self.ask("?\n").await.ok(),
            Kind::Npm => None,
        }
    }

    /// Returns the bytes in use: the resident bytes, or with Node.js the heap after a forced garbage collection,
    /// because Node.js collects garbage when it likes.
    pub async fn held(&mut self) -> io::Result<f64> {
        match self.kind {
            Kind::Ours | Kind::OursTls | Kind::OursListed => Ok(self.usage().rss),
            Kind::Npm => {
                let said = self.ask("{\"cmd\":\"memory\"}\n").await?;
                let heap = said["heap"].as_f64();
                heap.ok_or_else(|| io::Error::other(format!("the server said {said}")))
            }
        }
    }

    /// Waits until the server has little to do, but at most this number of seconds.
    pub async fn calm(&self, seconds: u32) {
        let mut before = self.usage().cpu;
        for _ in 0..seconds {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.usage().cpu;
            if now - before < 0.2 {
                return;
            }
            before = now;
        }
    }
}

/// Returns the usage of a process; `self` is this one.
pub fn usage(process: &str) -> Usage {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the server runs");
    // The fields after the process name, which may contain anything: state is field 3, the times are 14 and 15.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = |n: usize| {
        let field = fields.split_whitespace().nth(n - 3);
        field.and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the server runs");
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
        kib.unwrap_or(0.0) * 1024.0
    };
    Usage {
        cpu: (ticks(14) + ticks(15)) / TICKS_PER_SECOND,
        rss: bytes("VmRSS:"),
    }
}

/// Returns how long this process held the server's locks since the last call, in microseconds. Null without the
/// feature that measures it.
pub fn locks() -> Value {
    #[cfg(feature = "_lock-times")]
    return libp2p_websocket_star::rendezvous::lock_times::take()
        .into_iter()
        .map(|held| {
            json!({
                "lock": held.lock,
                "times": held.times,
                "total": held.total.as_secs_f64() * 1e6,
                "longest": held.longest.as_secs_f64() * 1e6,
                "long": held.long,
            })
        })
        .collect();
    #[cfg(not(feature = "_lock-times"))]
    Value::Null
}

/// Starts measuring the server's locks in this process, if the feature for it is enabled.
pub fn measure_locks() {
    #[cfg(feature = "_lock-times")]
    libp2p_websocket_star::rendezvous::lock_times::start();
}

/// Runs this process as a server. It has the default configuration, except for limits that would refuse the
/// benchmark's load.
pub async fn serve(kind: Kind) -> io::Result<()> {
    let config = Config::default()
        .with_listen_addr((Ipv4Addr::LOCALHOST, 0).into())
        .with_limits(limits::unrefused());
    let (config, certificate) = match kind {
        Kind::OursTls => {
            let (tls, certificate) = self_signed()?;
            (config.with_tls(tls), Some(hex::encode(certificate)))
        }
        Kind::OursListed => (listed::listing(config)?, None),
        Kind::Ours | Kind::Npm => (config, None),
    };
    let server = Server::bind(config).await.map_err(io::Error::other)?;
    let port = server.local_addr().port();
    println!("{}", json!({ "port": port, "certificate": certificate }));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if line == "locks" {
            measure_locks();
        }
        let now = server.snapshot();
        let said = json!({
            "links": now.links,
            "peers": now.peers.len(),
            "dials": now.dials,
            "queued": now.queued_bytes,
            "joins": now.counters.joins,
            "dialled": now.counters.dials,
            "dropped": now.announcements_dropped,
            "locks": locks(),
        });
        println!("{said}");
    }
    Ok(())
}
