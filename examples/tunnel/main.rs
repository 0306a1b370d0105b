//! Makes the service of a peer available at a local TCP port, like `ssh -L`. Both sides connect only to the
//! rendezvous, so it does not matter whether they are behind NATs and firewalls.
//!
//! ```console
//! $ cargo run --example tunnel                     # shows itself: a rendezvous, a service that echoes, and both sides
//! $ cargo run --example tunnel -- serve 127.0.0.1:8080 --allow 12D3KooWQx…
//! rendezvous /ip4/127.0.0.1/tcp/40031/ws/p2p-websocket-star
//! serving at /ip4/127.0.0.1/tcp/40031/ws/p2p-websocket-star/p2p/12D3KooWRb…
//! $ cargo run --example tunnel -- connect --identity key \
//!     /ip4/127.0.0.1/tcp/40031/ws/p2p-websocket-star/p2p/12D3KooWRb… 127.0.0.1:0
//! this is 12D3KooWQx…
//! 127.0.0.1:41215 leads to 12D3KooWRb…
//! ```
//!
//! * `--rendezvous <address>` uses a rendezvous that runs already. Without it, `serve` starts one.
//! * `--identity <file>` keeps the key of either side in a file, and so keeps its peer id.
//! * `--allow <peer id>` allows a peer to use the service. It may be given more than once.
//! * `--allow-anyone` allows every peer.

mod carry;
mod near;
mod service;

use std::{
    collections::HashSet,
    error::Error,
    io::{ErrorKind, Write as _},
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    str::FromStr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, identity::Keypair};
use libp2p_stream::Behaviour;
use libp2p_websocket_star::{Config, StarAddr, preset::Star, rendezvous};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

const USAGE: &str = "\
usage: tunnel
       tunnel serve <host:port> [--rendezvous <address>] [--allow <peer id>]... [--allow-anyone] [--identity <file>]
       tunnel connect <address of the service's node> <local host:port> [--identity <file>]";
/// The number of bytes that the demonstration without arguments sends: 16 MiB.
const BYTES: usize = 16 << 20;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Fallible<()> {
    let (mut plain, mut star, mut key) = (Vec::new(), None, Keypair::generate_ed25519());
    let mut allowed = Some(HashSet::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--rendezvous" => star = Some(parse::<StarAddr>(&value()?)?.to_multiaddr()),
            "--identity" => key = identity(&value()?)?,
            "--allow" => {
                let peer: PeerId = parse(&value()?)?;
                allowed.as_mut().map(|allowed| allowed.insert(peer));
            }
            "--allow-anyone" => allowed = None,
            option if option.starts_with("--") => return Err(USAGE.into()),
            _ => plain.push(arg),
        }
    }
    match plain.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => both().await,
        ["serve", target] => {
            if allowed.as_ref().is_some_and(HashSet::is_empty) {
                println!("no peer may use the service: give --allow <peer id>, or --allow-anyone");
            }
            // The rendezvous stops when it is dropped, so it is kept here while the service runs.
            let (star, _server) = match star {
                Some(star) => (star, None),
                None => embedded()
                    .await
                    .map(|(star, server)| (star, Some(server)))?,
            };
            println!("rendezvous {star}");
            service::run(node(key)?, star, target, allowed, |_| {}).await
        }
        ["connect", address, local] => {
            let listener = TcpListener::bind(local).await;
            let listener = listener.map_err(|error| format!("{local}: {error}"))?;
            near::run(node(key)?, &parse(address)?, listener).await
        }
        _ => Err(USAGE.into()),
    }
}

fn parse<T: FromStr<Err: Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

/// Returns the key in the file. If there is no file, it makes one with a new key, readable by its owner only (on
/// Unix).
fn identity(file: &str) -> Fallible<Keypair> {
    let wrong = |error: &dyn Error| format!("{file}: {error}");
    match std::fs::read(file) {
        Ok(key) => Ok(Keypair::from_protobuf_encoding(&key).map_err(|error| wrong(&error))?),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (key, mut options) = (Keypair::generate_ed25519(), std::fs::OpenOptions::new());
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let made = options.write(true).create_new(true).open(file);
            let mut made = made.map_err(|error| wrong(&error))?;
            made.write_all(&key.to_protobuf_encoding()?)?;
            Ok(key)
        }
        Err(error) => Err(wrong(&error).into()),
    }
}

fn node(key: Keypair) -> Fallible<Swarm<Behaviour>> {
    // The connecting side dials without listening, and then refuses a rendezvous on a private or loopback address
    // unless this is set. Here the user names the rendezvous, and it may be on this machine.
    let config = Config::default()
        .with_allow_local_rendezvous(true)
        .with_backoff(Duration::from_millis(500), Duration::from_secs(10));
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_other_transport(|key| Star::new(config).transport(key))?
        .with_behaviour(|_| Behaviour::new())?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    Ok(swarm)
}

async fn embedded() -> Fallible<(Multiaddr, rendezvous::Server)> {
    let server = rendezvous::Server::bind(rendezvous::Config::default()).await?;
    let star = server.addresses().into_iter().next();
    Ok((star.ok_or("the rendezvous has no address")?, server))
}

/// Runs both sides in one process, with a service that echoes.
async fn both() -> Fallible<()> {
    let (star, server) = embedded().await?;
    let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let local = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (port, target) = (local.local_addr()?, echo.local_addr()?.to_string());
    let (here, there) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let allowed = Some(HashSet::from([here.public().to_peer_id()]));
    let (joined, mut address) = mpsc::channel(1);
    let serving = service::run(node(there)?, star, &target, allowed, |address| {
        // `connecting` waits for the first address only, so later sends may fail.
        let _ = joined.try_send(address);
    });
    let here = node(here)?;
    let connecting = async {
        let address = address.recv().await.ok_or("the node did not join")?;
        near::run(here, &StarAddr::try_from(&address)?, local).await
    };
    let echoing = async {
        let (mut tcp, _) = echo.accept().await?;
        let (mut reader, mut writer) = tcp.split();
        tokio::io::copy(&mut reader, &mut writer).await?;
        Ok(writer.shutdown().await?)
    };
    tokio::select! {
        result = serving => result?,
        result = connecting => result?,
        result = async { tokio::try_join!(echoing, check(port)) } => drop(result?),
    }
    server.shutdown().await;
    Ok(())
}

/// Sends [`BYTES`] bytes through the tunnel, and checks that the same bytes come back.
async fn check(port: SocketAddr) -> Fallible<()> {
    let start = Instant::now();
    let mut tcp = TcpStream::connect(port).await?;
    let (mut reader, mut writer) = tcp.split();
    let sent: Vec<u8> = (0..BYTES).map(|i| (i * 31 + (i >> 8) * 7) as u8).collect();
    let mut received = Vec::with_capacity(BYTES);
    let send = async {
        writer.write_all(&sent).await?;
        writer.shutdown().await
    };
    tokio::try_join!(send, reader.read_to_end(&mut received))?;
    if received != sent {
        return Err("the bytes that came back are not the bytes that were sent".into());
    }
    println!("{BYTES} bytes there and back in {:?}", start.elapsed());
    Ok(())
}
