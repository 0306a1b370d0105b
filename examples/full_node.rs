//! A whole node, to copy: websocket-star beside TCP, QUIC, WebSocket, DNS and relays, with the usual behaviours.
//!
//! ```console
//! $ cargo run --example full_node                    # starts a rendezvous of its own, and prints it
//! $ cargo run --example full_node -- /ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star
//! ```
//!
//! `--loopback` before the address keeps the node on this machine: it listens on 127.0.0.1 only, without mDNS.
//!
//! Each line of the standard input is sent to all connected peers by gossipsub. The end of the input (Ctrl-D) or
//! Ctrl-C ends the program. Nothing is stored: each run has a new key.

use std::{error::Error, io, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, autonat,
    connection_limits::{self, ConnectionLimits},
    core::ConnectedPoint,
    gossipsub, identify,
    identity::Keypair,
    kad::{self, store::MemoryStore},
    mdns, noise, ping, relay,
    swarm::{
        NetworkBehaviour, SwarmEvent,
        behaviour::toggle::Toggle,
        dial_opts::{DialOpts, PeerCondition},
    },
    tcp, yamux,
};
use libp2p_websocket_star::{self as star, AddressGuard, StarAddr, preset::Star, rendezvous};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

/// The Kademlia protocol of this network. Only nodes that speak it get into the routing table. The default would be
/// the public network of IPFS.
const KAD: StreamProtocol = StreamProtocol::new("/full-node/kad/1.0.0");
const IDENTIFY: &str = "/full-node/1.0.0";
const TOPIC: &str = "full-node";
/// The number of connected peers at which this node stops dialling. A rendezvous can have thousands of peers;
/// Kademlia finds those that this node does not dial.
const ENOUGH_PEERS: usize = 50;
/// The interval at which peers that are still announced but not connected are dialled again.
const AGAIN: Duration = Duration::from_secs(30);

#[derive(NetworkBehaviour)]
struct Node {
    // This behaviour comes first, so that a connection over the limits is refused before any other behaviour sees it.
    limits: connection_limits::Behaviour,
    star: star::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    // Without the guard, identify would take the host and the port of the rendezvous for an address of this node.
    identify: AddressGuard<identify::Behaviour>,
    ping: ping::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
    gossipsub: gossipsub::Behaviour,
    // Version 2 tests only candidates, and identify takes those from direct connections. Version 1 would also test
    // addresses at the rendezvous, although a join already shows that they work. Every node also runs the server,
    // which tests addresses for other nodes.
    autonat: autonat::v2::client::Behaviour,
    autonat_server: autonat::v2::server::Behaviour,
    relay: relay::client::Behaviour,
    // There is no dcutr here. It dials every address that the other side offers for a circuit. A peer without the
    // guard also offers addresses at the rendezvous, and each attempt would open one more connection through it.
}

impl Node {
    fn new(
        key: &Keypair,
        relay: relay::client::Behaviour,
        star: &Star,
        loopback: bool,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let local = key.public().to_peer_id();
        // More than one connection per peer is allowed, because autonat dials back and two dials can cross.
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(64))
            .with_max_pending_outgoing(Some(64))
            .with_max_established(Some(256))
            .with_max_established_per_peer(Some(4));
        // With this setting, peers that are already connected are notified when this node joins a rendezvous.
        let identify = identify::Config::new(IDENTIFY.to_owned(), key.public())
            .with_push_listen_addr_updates(true);
        let mdns = match loopback {
            true => None,
            false => Some(mdns::Behaviour::new(mdns::Config::default(), local)?),
        };
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            star: star.behaviour()?,
            mdns: mdns.into(),
            identify: AddressGuard::new(identify::Behaviour::new(identify)),
            ping: ping::Behaviour::default(),
            kad: kad::Behaviour::with_config(local, MemoryStore::new(local), kad::Config::new(KAD)),
            gossipsub: gossipsub::Behaviour::new(
                gossipsub::MessageAuthenticity::Signed(key.clone()),
                gossipsub::Config::default(),
            )?,
            autonat: autonat::v2::client::Behaviour::default(),
            autonat_server: autonat::v2::server::Behaviour::default(),
            relay,
        })
    }
}

async fn node(loopback: bool) -> Result<Swarm<Node>, Box<dyn Error>> {
    let star = Star::new(star::Config::default());
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_other_transport(|key| star.transport(key))?
        .with_dns()?
        .with_websocket(noise::Config::new, yamux::Config::default)
        .await?
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key, relay| Node::new(key, relay, &star, loopback))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    Ok(swarm)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();

    let mut args = std::env::args().skip(1).peekable();
    let loopback = args.next_if(|arg| arg == "--loopback").is_some();
    let (star, server): (Multiaddr, _) = match args.next() {
        Some(star) => (star.parse::<StarAddr>()?.to_multiaddr(), None),
        None => {
            let server = rendezvous::Server::bind(rendezvous::Config::default()).await?;
            let star = server.addresses().into_iter().next();
            (star.ok_or("the rendezvous has no address")?, Some(server))
        }
    };
    println!("rendezvous {star}");

    let topic = gossipsub::IdentTopic::new(TOPIC);
    let mut swarm = node(loopback).await?;
    println!("this is {}", swarm.local_peer_id());
    swarm.behaviour_mut().gossipsub.subscribe(&topic)?;
    let host = if loopback { "127.0.0.1" } else { "0.0.0.0" };
    swarm.listen_on(format!("/ip4/{host}/tcp/0").parse()?)?;
    swarm.listen_on(format!("/ip4/{host}/udp/0/quic-v1").parse()?)?;
    swarm.listen_on(star)?;

    let mut lines = lines();
    let mut again = interval(AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => {
                    let gossipsub = &mut swarm.behaviour_mut().gossipsub;
                    if let Err(error) = gossipsub.publish(topic.clone(), line?) {
                        println!("not sent: {error}");
                    }
                }
                None => break,
            },
            signal = &mut interrupted => {
                signal?;
                break;
            }
            _ = again.tick() => dial_all(&mut swarm),
            event = swarm.select_next_some() => on_event(&mut swarm, event),
        }
    }

    drop(swarm);
    if let Some(server) = server {
        server.shutdown().await;
    }
    Ok(())
}

/// Reads the lines of the standard input in a thread of its own.
///
/// Such a thread does not keep the program from ending while it waits for input. Tokio's standard input would.
fn lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Dials a peer at most once, however many behaviours have found it.
///
/// The other peer discovers this node too. If both dialled, there would be two connections, so only the node with the
/// smaller peer id dials.
fn dial(swarm: &mut Swarm<Node>, peer: PeerId) {
    if peer <= *swarm.local_peer_id() || swarm.network_info().num_peers() >= ENOUGH_PEERS {
        return;
    }
    let opts = DialOpts::peer_id(peer)
        .condition(PeerCondition::DisconnectedAndNotDialing)
        .build();
    // The usual error is that the peer is already connected.
    let _ = swarm.dial(opts);
}

fn dial_all(swarm: &mut Swarm<Node>) {
    let Node { star, mdns, .. } = swarm.behaviour();
    let star = star.discovered().map(|(peer, _)| *peer);
    let nearby = mdns.as_ref().into_iter();
    let nearby = nearby.flat_map(|mdns| mdns.discovered_nodes().copied());
    let peers: Vec<PeerId> = star.chain(nearby).collect();
    for peer in peers {
        dial(swarm, peer);
    }
}

fn on_event(swarm: &mut Swarm<Node>, event: SwarmEvent<NodeEvent>) {
    match event {
        SwarmEvent::Behaviour(event) => on_behaviour(swarm, event),
        SwarmEvent::NewListenAddr { address, .. } if is_star(&address) => {
            println!("joined as {address}");
        }
        SwarmEvent::NewListenAddr { address, .. } => println!("listening on {address}"),
        // This includes the loss of the rendezvous. The transport joins it again by itself.
        SwarmEvent::ListenerError { error, .. } => println!("listener: {error}"),
        SwarmEvent::ListenerClosed {
            reason: Err(error), ..
        } => println!("listener closed: {error}"),
        SwarmEvent::ConnectionEstablished {
            peer_id, endpoint, ..
        } => println!("connected to {peer_id} by {}", way(&endpoint)),
        SwarmEvent::ConnectionClosed {
            peer_id,
            num_established: 0,
            ..
        } => println!("disconnected from {peer_id}"),
        SwarmEvent::OutgoingConnectionError {
            peer_id: Some(peer),
            error,
            ..
        } if !swarm.is_connected(&peer) => println!("cannot dial {peer}: {error}"),
        _ => {}
    }
}

fn on_behaviour(swarm: &mut Swarm<Node>, event: NodeEvent) {
    match event {
        NodeEvent::Star(star::Event::Discovered { peer, .. }) => {
            println!("discovered {peer} at the rendezvous");
            dial(swarm, peer);
        }
        NodeEvent::Star(star::Event::Expired { peer, .. }) => {
            println!("{peer} has left the rendezvous");
        }
        NodeEvent::Mdns(mdns::Event::Discovered(found)) => {
            for (peer, address) in found {
                println!("discovered {peer} nearby at {address}");
                dial(swarm, peer);
            }
        }
        // The addresses include those at rendezvous, because the websocket-star behaviour of the peer confirms them
        // as external addresses.
        NodeEvent::Identify(identify::Event::Received { peer_id, info, .. })
            if info.protocols.contains(&KAD) =>
        {
            for address in info.listen_addrs {
                swarm.behaviour_mut().kad.add_address(&peer_id, address);
            }
        }
        NodeEvent::Kad(kad::Event::ModeChanged { new_mode }) => println!("kad is {new_mode}"),
        NodeEvent::Autonat(test) => match test.result {
            Ok(()) => println!("reachable at {}", test.tested_addr),
            Err(error) => println!("not reachable at {}: {error}", test.tested_addr),
        },
        NodeEvent::Gossipsub(gossipsub::Event::Subscribed { peer_id, .. }) => {
            println!("{peer_id} has subscribed");
        }
        NodeEvent::Gossipsub(gossipsub::Event::Message { message, .. }) => {
            let text = String::from_utf8_lossy(&message.data);
            if let Some(peer) = message.source {
                // `escape_debug` keeps control characters from other peers out of the terminal.
                println!("{peer} says {}", text.escape_debug());
            }
        }
        _ => {}
    }
}

fn is_star(address: &Multiaddr) -> bool {
    StarAddr::try_from(address).is_ok()
}

/// Returns the address that tells how a peer is connected. For an incoming connection through a rendezvous, only the
/// local address shows that.
fn way(endpoint: &ConnectedPoint) -> String {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => address.to_string(),
        ConnectedPoint::Listener { local_addr, .. } if is_star(local_addr) => {
            local_addr.to_string()
        }
        ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr.to_string(),
    }
}
