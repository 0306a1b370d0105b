//! Mounts a rendezvous in an axum application. The application's own route and the rendezvous share one port, and two
//! nodes meet there.
//!
//! ```console
//! $ cargo run --example mounted
//! ```

use std::{
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::ConnectInfo,
    routing::get,
};
use futures::StreamExt as _;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use libp2p::{Multiaddr, Swarm, SwarmBuilder, swarm::SwarmEvent};
use libp2p_websocket_star::{
    Behaviour, Config, Event,
    preset::Star,
    rendezvous::{self, Rendezvous, Service},
};
use tokio::{net::TcpListener, sync::oneshot};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();

    let rendezvous = Rendezvous::start(rendezvous::Config::default());
    let star = rendezvous
        .service()
        .with_client_addr(|ConnectInfo(addr): &ConnectInfo<SocketAddr>| addr.ip());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let app = application(star).into_make_service_with_connect_info::<SocketAddr>();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async {
        // Dropping `stop` ends this wait with an error. The server then stops.
        let _ = stopped.await;
    });
    let serving = tokio::spawn(async move { serving.await });

    let url = format!("http://127.0.0.1:{port}");
    println!("/hello      {}", fetch(&format!("{url}/hello")).await?);
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p-websocket-star").parse()?;
    println!("rendezvous  {address}");
    tokio::time::timeout(Duration::from_secs(30), meet(address)).await??;
    println!("/health     {}", fetch(&format!("{url}/health")).await?);

    // A link that was upgraded to a WebSocket is no longer an HTTP request, so axum's graceful shutdown does not wait
    // for it. The rendezvous is therefore shut down first, and then the HTTP server.
    rendezvous.shutdown().await;
    drop(stop);
    serving.await??;
    println!("done");
    Ok(())
}

/// Builds the application: its own route, and the rendezvous for every other path.
fn application(star: Service) -> Router {
    Router::new()
        .route("/hello", get(|| async { "hello from the application" }))
        .fallback_service(star)
}

async fn fetch(url: &str) -> Result<String, Box<dyn Error>> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let answer = client.get(url.parse()?).await?;
    let body = to_bytes(Body::new(answer.into_body()), 64 * 1024).await?;
    Ok(String::from_utf8(body.to_vec())?)
}

fn node() -> Result<Swarm<Behaviour>, Box<dyn Error>> {
    let star = Star::new(Config::default());
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| star.transport(key))?
        .with_behaviour(|_| star.behaviour())?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(10)))
        .build();
    Ok(swarm)
}

/// Has two nodes listen at the rendezvous. One of them dials the other as soon as it discovers it.
async fn meet(rendezvous: Multiaddr) -> Result<(), Box<dyn Error>> {
    let mut listener = node()?;
    listener.listen_on(rendezvous.clone())?;
    let listener = tokio::spawn(async move {
        loop {
            listener.select_next_some().await;
        }
    });
    let mut dialer = node()?;
    dialer.listen_on(rendezvous)?;
    let met = loop {
        match dialer.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => println!("joined as   {address}"),
            SwarmEvent::Behaviour(Event::Discovered { peer, .. }) => {
                println!("discovered  {peer}");
                dialer.dial(peer)?;
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                println!("connected   {peer_id}");
                break Ok(());
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => break Err(error.into()),
            SwarmEvent::ListenerError { error, .. } => break Err(error.into()),
            _ => {}
        }
    };
    listener.abort();
    met
}
