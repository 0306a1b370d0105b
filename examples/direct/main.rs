//! Two nodes meet at a rendezvous, and then move to a direct connection.
//!
//! Nodes behind NATs do not know their public addresses. An *observer* beside the rendezvous tells each node the
//! address that it sees.
//!
//! ```console
//! $ cargo run --example direct                      # shows itself on this machine
//! $ cargo run --example direct -- observer 198.51.100.7         # on a host with a public address
//! rendezvous /ip4/198.51.100.7/tcp/9090/ws/p2p-websocket-star
//! observer /ip4/198.51.100.7/udp/9091/quic-v1/p2p/12D3KooWQx…
//! observer /ip4/198.51.100.7/tcp/9091/p2p/12D3KooWQx…
//! $ cargo run --example direct -- node <rendezvous> <observer>...       # on two others, wherever they are
//! ```
//!
//! **The nodes tell each other their IP addresses.**

mod node;
mod observer;

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr},
    process::ExitCode,
    time::Duration,
};

use libp2p::Multiaddr;
use tokio::time::timeout;

use self::{node::Node, observer::Observer};

const USAGE: &str = "\
usage: direct
       direct observer <IP address of this host>
       direct node <address of the rendezvous> <address of an observer>...";
/// The ports of the rendezvous and of the observer. The observer uses its port for both TCP and UDP.
const PORTS: (u16, u16) = (9090, 9091);
/// The longest time that the demonstration without arguments may take.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => shown().await,
        ["observer", host] => {
            let observer = Observer::start(host.parse()?, PORTS).await?;
            println!("rendezvous {}", observer.rendezvous);
            for address in &observer.addresses {
                println!("observer {address}");
            }
            observer.goes_on().await
        }
        ["node", rendezvous, ref observers @ ..] if !observers.is_empty() => {
            let observers = observers.iter().map(|text| text.parse());
            let observers: Vec<Multiaddr> = observers.collect::<Result<_, _>>()?;
            let mut node = Node::start(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
            node.is_seen_by(&observers).await?;
            node.join(rendezvous.parse()?)?;
            loop {
                node.until_upgraded().await;
            }
        }
        _ => Err(USAGE.into()),
    }
}

/// Runs the demonstration: an observer and two nodes in this process.
async fn shown() -> Fallible<()> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let observer = Observer::start(loopback, (0, 0)).await?;
    println!("rendezvous {}", observer.rendezvous);
    let nodes = [Node::start(loopback)?, Node::start(loopback)?];
    let meet = meet(
        nodes,
        observer.rendezvous.clone(),
        observer.addresses.clone(),
    );
    tokio::select! {
        done = timeout(PATIENCE, meet) => done?,
        ended = observer.goes_on() => ended,
    }
}

async fn meet(
    mut nodes: [Node; 2],
    rendezvous: Multiaddr,
    observers: Vec<Multiaddr>,
) -> Fallible<()> {
    for node in &mut nodes {
        node.is_seen_by(&observers).await?;
        node.join(rendezvous.clone())?;
    }
    let [one, two] = &mut nodes;
    futures::future::join(one.until_upgraded(), two.until_upgraded()).await;
    Ok(())
}
