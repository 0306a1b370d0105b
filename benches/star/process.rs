//! Processes: this binary in other roles, and the resources that a process has used.

use std::{io::BufRead as _, process::Stdio, sync::Arc, time::Duration};

use futures::AsyncWriteExt as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
    sync::Notify,
};

use crate::{
    Result, on_workers,
    serve::{CHUNK, Request},
    subjects::{Dialer, Listener, place::Place, server::Server},
};

/// The first argument of a child. The role and its arguments follow.
pub const CHILD: &str = "--child";

/// This binary in another role. It ends when this is dropped. It also ends when this process ends in any way, because
/// its standard input is then closed.
pub struct Child {
    process: tokio::process::Child,
    stdin: ChildStdin,
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts the role. Returns the line that it prints when it is ready: its address, if it has one.
    pub async fn start(role: &[&str]) -> Result<(Self, String)> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(CHILD)
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = process.stdin.take().ok_or("no standard input")?;
        let stdout = process.stdout.take().ok_or("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.next_line().await?;
        let line = line.ok_or_else(|| format!("{role:?} ended before it was ready"))?;
        let child = Self {
            process,
            stdin,
            _stdout: lines,
        };
        Ok((child, line))
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Lets the role begin.
    pub async fn go(&mut self) -> Result<()> {
        Ok(self.stdin.write_all(b"go\n").await?)
    }
}

/// Runs this process as a child, until its standard input ends.
pub fn run(role: &[String]) -> Result<()> {
    let go = Arc::new(Notify::new());
    let said = go.clone();
    std::thread::spawn(move || {
        for _line in std::io::stdin().lock().lines().map_while(Result::ok) {
            said.notify_one();
        }
        std::process::exit(0);
    });
    on_workers(play(role.to_vec(), go))
}

async fn play(role: Vec<String>, go: Arc<Notify>) -> Result<()> {
    let role: Vec<&str> = role.iter().map(String::as_str).collect();
    match role[..] {
        ["server", kind] => {
            let server = Server::start(kind.parse()?).await?;
            ready(&server.place.to_string());
            std::future::pending().await
        }
        ["listener", kind, via] => {
            let listener = Listener::start(kind.parse()?, &via.parse::<Place>()?).await?;
            ready(&listener.address);
            std::future::pending().await
        }
        ["dialer", kind, via, to, bytes] => {
            let dialer = Dialer::start(kind.parse()?, &via.parse::<Place>()?, to).await?;
            let mut stream = dialer.open(Request::Slow).await?;
            ready("connected");
            go.notified().await;
            let chunk = vec![0x5a; CHUNK];
            for _ in 0..bytes.parse::<usize>()? / CHUNK {
                stream.write_all(&chunk).await?;
            }
            stream.flush().await?;
            std::future::pending().await
        }
        _ => Err(format!("no role {role:?}").into()),
    }
}

fn ready(what: &str) {
    println!("{what}");
}

/// Returns the processor time that a process has used, in steps of 10 ms. Linux only.
pub fn cpu(pid: u32) -> Option<Duration> {
    /// The ticks per second that Linux shows to programs, whatever its internal unit.
    const TICKS: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * (1000 / TICKS)))
}

/// The resident memory of a process, in bytes. Linux only.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

pub fn memory(pid: u32) -> Option<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    };
    Some(Memory {
        now: field("VmRSS:")?,
        peak: field("VmHWM:")?,
    })
}
