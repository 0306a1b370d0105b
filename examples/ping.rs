//! Two nodes find each other through a rendezvous, and one pings the other. All of it runs in this process.
//!
//! ```console
//! $ cargo run --example ping
//! ```
//!
//! This is the shortest whole program. Its steps are: start a rendezvous, listen there with both nodes, wait until
//! one node discovers the other, dial it by peer id.

use std::{error::Error, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_websocket_star::{Behaviour, Config, Event, preset::Star, rendezvous};

const PINGS: usize = 5;

#[derive(NetworkBehaviour)]
struct Node {
    discovery: Behaviour,
    ping: ping::Behaviour,
}

fn node() -> Result<Swarm<Node>, Box<dyn Error>> {
    let star = Star::new(Config::default());
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| star.transport(key))?
        .with_behaviour(|_| {
            Ok(Node {
                discovery: star.behaviour()?,
                ping: ping::Behaviour::new(
                    ping::Config::default().with_interval(Duration::from_millis(200)),
                ),
            })
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(10)))
        .build();
    Ok(swarm)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();

    let server = rendezvous::Server::bind(rendezvous::Config::default()).await?;
    let star: Multiaddr = server
        .addresses()
        .into_iter()
        .next()
        .ok_or("the rendezvous has no address")?;
    println!("rendezvous  {star}");

    let mut listener = node()?;
    listener.listen_on(star.clone())?;
    println!("listener    {}", listener.local_peer_id());
    let listener = tokio::spawn(async move {
        loop {
            listener.select_next_some().await;
        }
    });

    let mut dialer = node()?;
    dialer.listen_on(star)?;
    println!("dialer      {}", dialer.local_peer_id());
    tokio::time::timeout(Duration::from_secs(30), ping_first_peer(&mut dialer)).await??;

    drop(dialer);
    listener.abort();
    server.shutdown().await;
    println!("done");
    Ok(())
}

/// Waits until a peer is discovered, dials it, and pings it [`PINGS`] times.
async fn ping_first_peer(dialer: &mut Swarm<Node>) -> Result<(), Box<dyn Error>> {
    let mut pings = 0;
    while pings < PINGS {
        match dialer.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => println!("joined as   {address}"),
            SwarmEvent::Behaviour(NodeEvent::Discovery(Event::Discovered { peer, .. })) => {
                println!("discovered  {peer}");
                dialer.dial(peer)?;
            }
            SwarmEvent::ConnectionEstablished {
                peer_id,
                established_in,
                ..
            } => {
                println!("connected   {peer_id} in {established_in:?}");
            }
            SwarmEvent::Behaviour(NodeEvent::Ping(ping::Event { result, .. })) => {
                pings += 1;
                println!("ping {pings}      {:?}", result?);
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            SwarmEvent::ListenerError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
