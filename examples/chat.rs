//! A chat over gossipsub. Peers find each other at the rendezvous.
//!
//! ```console
//! $ cargo run --example chat                         # starts a rendezvous of its own, and prints it
//! $ cargo run --example chat -- /ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star
//! ```
//!
//! Each line of the standard input is sent to all peers in the chat. The end of the input (Ctrl-D) ends the program.

use std::{error::Error, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, gossipsub,
    swarm::{
        NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_websocket_star::{Behaviour, Config, Event, StarAddr, preset::Star, rendezvous};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

#[derive(NetworkBehaviour)]
struct Chat {
    discovery: Behaviour,
    gossipsub: gossipsub::Behaviour,
}

fn chat() -> Result<Swarm<Chat>, Box<dyn Error>> {
    let star = Star::new(Config::default());
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| star.transport(key))?
        .with_behaviour(|key| {
            Ok(Chat {
                discovery: star.behaviour()?,
                gossipsub: gossipsub::Behaviour::new(
                    gossipsub::MessageAuthenticity::Signed(key.clone()),
                    gossipsub::ConfigBuilder::default()
                        .heartbeat_interval(Duration::from_secs(1))
                        .build()?,
                )?,
            })
        })?
        .build();
    Ok(swarm)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();

    let (star, server): (Multiaddr, _) = match std::env::args().nth(1) {
        Some(star) => (star.parse::<StarAddr>()?.to_multiaddr(), None),
        None => {
            let server = rendezvous::Server::bind(rendezvous::Config::default()).await?;
            let star = server.addresses().into_iter().next();
            (star.ok_or("the rendezvous has no address")?, Some(server))
        }
    };
    println!("* the rendezvous is {star}");

    let topic = gossipsub::IdentTopic::new("chat");
    let mut swarm = chat()?;
    swarm.behaviour_mut().gossipsub.subscribe(&topic)?;
    swarm.listen_on(star)?;

    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => {
                    let published = swarm.behaviour_mut().gossipsub.publish(topic.clone(), line);
                    if let Err(error) = published {
                        println!("* not sent: {error}");
                    }
                }
                None => break,
            },
            event = swarm.select_next_some() => show(&mut swarm, event),
        }
    }

    drop(swarm);
    if let Some(server) = server {
        server.shutdown().await;
    }
    Ok(())
}

fn show(swarm: &mut Swarm<Chat>, event: SwarmEvent<ChatEvent>) {
    match event {
        SwarmEvent::NewListenAddr { address, .. } => println!("* joined as {address}"),
        SwarmEvent::ListenerError { error, .. } => println!("* {error}"),
        // The other peer discovers this node too. If both dialled, there would be two connections, so only the node
        // with the smaller peer id dials.
        SwarmEvent::Behaviour(ChatEvent::Discovery(Event::Discovered { peer, .. }))
            if *swarm.local_peer_id() < peer =>
        {
            let opts = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build();
            if let Err(error) = swarm.dial(opts) {
                println!("* cannot dial {peer}: {error}");
            }
        }
        SwarmEvent::Behaviour(ChatEvent::Gossipsub(gossipsub::Event::Subscribed {
            peer_id,
            ..
        })) => println!("* {peer_id} is here"),
        SwarmEvent::Behaviour(ChatEvent::Gossipsub(gossipsub::Event::Message {
            message, ..
        })) => {
            let who = message
                .source
                .map_or_else(|| "?".to_owned(), |peer| peer.to_string());
            println!(
                "{who}: {}",
                String::from_utf8_lossy(&message.data).escape_debug()
            );
        }
        SwarmEvent::ConnectionClosed {
            peer_id,
            num_established: 0,
            ..
        } => {
            println!("* {peer_id} has left");
        }
        _ => {}
    }
}
