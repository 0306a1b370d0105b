//! A node among js-libp2p 0.26 nodes. It dials each peer that it discovers at the rendezvous, pings it, and says
//! hello on a pubsub topic that floodsub and gossipsub nodes of that age understand.
//!
//! ```console
//! $ cargo run --example js_peer                          # with a rendezvous and an old peer of its own, until they have talked
//! $ cargo run --example js_peer -- /ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star [topic]
//! ```

use std::{collections::HashSet, error::Error, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    PeerId, Swarm, SwarmBuilder,
    core::{Transport as _, muxing::StreamMuxerBox, transport::Boxed, upgrade},
    gossipsub::{self, IdentTopic},
    identify,
    identity::Keypair,
    ping,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_websocket_star::{
    Behaviour, Config, Event, WebSocketStarTransport, preset, rendezvous, secio,
};

use tokio::sync::Semaphore;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(NetworkBehaviour)]
struct Node {
    discovery: Behaviour,
    identify: preset::Identify,
    ping: ping::Behaviour,
    pubsub: gossipsub::Behaviour,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => demo().await,
        [star] => alone(star, "hello").await,
        [star, topic] => alone(star, topic).await,
        _ => Err("usage: js_peer [<rendezvous> [<topic>]]".into()),
    }
}

async fn alone(star: &str, topic: &str) -> Result<()> {
    let talked = Semaphore::new(0);
    run("node", node(preset_transport)?, star, topic, &talked).await
}

/// Runs two nodes that talk to each other: a new one, and one with only the protocols of an old JavaScript node.
async fn demo() -> Result<()> {
    let server = rendezvous::Server::bind(rendezvous::Config::default()).await?;
    let star = server
        .addresses()
        .first()
        .ok_or("the rendezvous has no address")?
        .to_string();
    let talked = Semaphore::new(0);
    tokio::select! {
        result = run("new", node(preset_transport)?, &star, "hello", &talked) => result?,
        result = run("old", node(old_transport)?, &star, "hello", &talked) => result?,
        _ = talked.acquire_many(2) => {}
    }
    server.shutdown().await;
    Ok(())
}

type Star = Boxed<(PeerId, StreamMuxerBox)>;

fn preset_transport(key: &Keypair, star: WebSocketStarTransport) -> Result<Star> {
    Ok(preset::transport(key, star)?)
}

fn old_transport(key: &Keypair, star: WebSocketStarTransport) -> Result<Star> {
    Ok(star
        .upgrade(upgrade::Version::V1)
        .authenticate(secio::Config::new(key))
        .multiplex(libp2p_mplex::Config::default())
        .boxed())
}

fn node(transport: fn(&Keypair, WebSocketStarTransport) -> Result<Star>) -> Result<Swarm<Node>> {
    let key = Keypair::generate_ed25519();
    let star = WebSocketStarTransport::new(&key, Config::default());
    let discovery = star.discovery();
    let transport = transport(&key, star)?;
    let identify = identify::Config::new("ipfs/0.1.0".into(), key.public());
    let node = Node {
        discovery: Behaviour::new(key.public().to_peer_id(), discovery)?,
        identify: preset::Identify::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_secs(1))),
        pubsub: pubsub(&key)?,
    };
    Ok(SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_other_transport(|_| transport)?
        .with_behaviour(|_| node)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build())
}

/// Builds a gossipsub behaviour that accepts messages from old nodes.
///
/// Old nodes number their messages with 20 random bytes, but gossipsub expects 8. It accepts such messages only if it
/// checks nothing, not even the signature. **The sender of a message is therefore not verified here.**
fn pubsub(key: &Keypair) -> Result<gossipsub::Behaviour> {
    let config = gossipsub::ConfigBuilder::default()
        .support_floodsub()
        .validation_mode(gossipsub::ValidationMode::None)
        // The sender and the sequence number are not checked, so the content identifies a message.
        .message_id_fn(|message| gossipsub::MessageId::new(&message.data))
        .build()?;
    let signed = gossipsub::MessageAuthenticity::Signed(key.clone());
    Ok(gossipsub::Behaviour::new(signed, config)?)
}

/// Runs the node for ever, and adds a permit to `talked` once it has had both a ping and a message.
async fn run(
    name: &str,
    mut swarm: Swarm<Node>,
    star: &str,
    topic: &str,
    talked: &Semaphore,
) -> Result<()> {
    let topic = IdentTopic::new(topic);
    swarm.behaviour_mut().pubsub.subscribe(&topic)?;
    swarm.listen_on(star.parse()?)?;
    let (mut pinged, mut heard, mut greeted) = (false, false, HashSet::new());
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => println!("{name}: listening on {address}"),
            SwarmEvent::ListenerClosed { reason, .. } => return Ok(reason?),
            SwarmEvent::OutgoingConnectionError { error, .. } => println!("{name}: {error}"),
            // Two nodes that discover each other may both dial. The second connection does no harm.
            SwarmEvent::Behaviour(NodeEvent::Discovery(Event::Discovered { peer, .. }))
                if !swarm.is_connected(&peer) =>
            {
                // This fails, for example, if the peer is already being dialled at another address.
                if let Err(error) = swarm.dial(peer) {
                    println!("{name}: {error}");
                }
            }
            SwarmEvent::Behaviour(NodeEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => println!("{name}: {peer_id} is {}", info.agent_version),
            SwarmEvent::Behaviour(NodeEvent::Ping(ping::Event { peer, result, .. })) => {
                match result {
                    Ok(time) => println!("{name}: {peer} answers in {time:?}"),
                    Err(error) => println!("{name}: {peer} does not answer: {error}"),
                }
                tell(&mut pinged, heard, talked);
            }
            SwarmEvent::Behaviour(NodeEvent::Pubsub(gossipsub::Event::Subscribed {
                peer_id,
                ..
            })) if greeted.insert(peer_id) => {
                let hello = format!("hello {peer_id}, from {}", swarm.local_peer_id());
                swarm.behaviour_mut().pubsub.publish(topic.clone(), hello)?;
            }
            SwarmEvent::Behaviour(NodeEvent::Pubsub(gossipsub::Event::Message {
                message, ..
            })) => {
                println!("{name}: heard {:?}", String::from_utf8_lossy(&message.data));
                tell(&mut heard, pinged, talked);
            }
            _ => {}
        }
    }
}

/// Marks `this` as done, and adds a permit to `talked` when `this` is new and `other` is done already.
fn tell(this: &mut bool, other: bool, talked: &Semaphore) {
    if !std::mem::replace(this, true) && other {
        talked.add_permits(1);
    }
}
