//! Links over TCP, with the server and the clients in processes of their own.

use std::{
    io,
    net::SocketAddr,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use libp2p_identity::Keypair;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Semaphore,
    task::JoinSet,
};

use super::{CLIENTS, Options};
use crate::{
    client::{Client, Heard, ORDINARY},
    process::{Kind, Rendezvous},
};

const PROCESSES: usize = 2;
/// The number of clients that join at a time in each process.
const JOINING: usize = 32;
const CALM: Duration = Duration::from_secs(10);

/// A process with some of the clients. It ends when this is dropped.
struct Clients {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Clients {
    async fn start(server: SocketAddr, links: usize) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([
                CLIENTS,
                &format!("--server={server}"),
                &format!("--links={links}"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let gone = || io::Error::other("the clients have no pipes");
        let stdin = child.stdin.take().ok_or_else(gone)?;
        let stdout = child.stdout.take().ok_or_else(gone)?;
        let mut clients = Self {
            _child: child,
            stdin,
            lines: BufReader::new(stdout).lines(),
        };
        clients.hear("ready").await?;
        Ok(clients)
    }

    async fn hear(&mut self, wanted: &str) -> io::Result<()> {
        let line = self.lines.next_line().await?.unwrap_or_default();
        match line == wanted {
            true => Ok(()),
            false => Err(io::Error::other(format!("the clients said {line:?}"))),
        }
    }

    async fn join(&mut self) -> io::Result<()> {
        self.stdin.write_all(b"join\n").await?;
        self.hear("joined").await
    }
}

pub async fn measure(options: &Options) -> io::Result<Value> {
    let mut server = Rendezvous::start(Kind::Ours).await?;
    drop(Client::joined(server.addr, ORDINARY).await?);
    let starts = (0..PROCESSES).map(|_| Clients::start(server.addr, options.links / PROCESSES));
    let mut clients = try_join_all(starts).await?;
    if options.locks {
        server.ask("locks\n").await?;
    }
    let (before, started) = (server.usage(), Instant::now());
    try_join_all(clients.iter_mut().map(Clients::join)).await?;
    let seconds = started.elapsed().as_secs_f64();
    let joined = server.usage();
    let joining = server.ask("?\n").await?;
    tokio::time::sleep(CALM).await;
    let (resting, cpu) = (Instant::now(), server.usage().cpu);
    tokio::time::sleep(options.rest).await;
    let usage = server.usage();
    let rest = (usage.cpu - cpu) / resting.elapsed().as_secs_f64();
    let said = server.ask("?\n").await?;
    let links = options.links as f64;
    Ok(json!({
        "joined": said["peers"],
        "join_rate": links / seconds,
        "server_cpu": (joined.cpu - before.cpu) / links,
        "rss_per_link": (usage.rss - before.rss) / links,
        "rest_cpu": rest * 100.0,
        "locks": [joining["locks"], said["locks"]],
    }))
}

/// Runs this process as clients: they join on a command from standard input, and then only listen.
pub async fn clients(server: SocketAddr, links: usize) -> io::Result<()> {
    let keys: Vec<Keypair> = (0..links).map(|_| Keypair::generate_ed25519()).collect();
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    lines.next_line().await?;
    let (turns, heard) = (Arc::new(Semaphore::new(JOINING)), Arc::new(Heard::new()));
    let mut joining = JoinSet::new();
    let mut idle = JoinSet::new();
    for key in keys {
        let turns = turns.clone();
        joining.spawn(async move {
            let _turn = turns.acquire().await;
            let mut client = Client::connect(server).await?;
            client.join(&key, ORDINARY).await?;
            io::Result::Ok(client)
        });
    }
    while let Some(joined) = joining.join_next().await {
        let client = joined.map_err(io::Error::other)??;
        let heard = heard.clone();
        idle.spawn(async move { client.idle(&heard).await });
    }
    println!("joined");
    while lines.next_line().await?.is_some() {}
    Ok(())
}
