//! A raw listener that echoes, and a dialer that checks the echo.
//!
//! There is no encryption and no multiplexing, so a plain JavaScript websocket-star client can be the other end.
//!
//! ```console
//! $ cargo run --example echo                                    # both, with a rendezvous of its own
//! $ cargo run --example echo -- listen /ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star
//! $ cargo run --example echo -- dial /ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/ipfs/<peer> 1048576
//! ```

use std::{error::Error, future::poll_fn, pin::Pin, time::Instant};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::try_join};
use libp2p::{
    Multiaddr,
    core::{
        Endpoint, Transport as _,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    identity::Keypair,
};
use libp2p_websocket_star::{Config, Connection, WebSocketStarTransport, rendezvous};

const BYTES: usize = 16 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => both().await,
        ["listen", star] => listen(transport(), star.parse()?, |_| {}).await,
        ["dial", peer] => dial(peer.parse()?, BYTES).await,
        ["dial", peer, bytes] => dial(peer.parse()?, bytes.parse()?).await,
        _ => Err("usage: echo [listen <rendezvous> | dial <peer> [<bytes>]]".into()),
    }
}

fn transport() -> WebSocketStarTransport {
    // A node that dials without listening refuses a rendezvous on a private or loopback address unless this is set.
    // In this example, the rendezvous may be on this machine.
    WebSocketStarTransport::new(
        &Keypair::generate_ed25519(),
        Config::default().with_allow_local_rendezvous(true),
    )
}

async fn both() -> Result<(), Box<dyn Error>> {
    let server = rendezvous::Server::bind(rendezvous::Config::default()).await?;
    let star = server
        .addresses()
        .into_iter()
        .next()
        .ok_or("the rendezvous has no address")?;
    let (joined, address) = tokio::sync::oneshot::channel();
    let mut joined = Some(joined);
    let listener = listen(transport(), star, |address| {
        if let Some(joined) = joined.take() {
            // The send fails only if the dialer has failed already and no longer waits for the address.
            let _ = joined.send(address);
        }
    });
    let dialer = async { dial(address.await?, BYTES).await };
    tokio::select! {
        result = listener => result?,
        result = dialer => result?,
    }
    server.shutdown().await;
    Ok(())
}

/// Joins the rendezvous, and echoes each connection until the peer closes it.
async fn listen(
    mut transport: WebSocketStarTransport,
    star: Multiaddr,
    mut joined: impl FnMut(Multiaddr),
) -> Result<(), Box<dyn Error>> {
    transport.listen_on(ListenerId::next(), star)?;
    loop {
        match poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await {
            TransportEvent::NewAddress { listen_addr, .. } => {
                println!("listening on {listen_addr}");
                joined(listen_addr);
            }
            TransportEvent::Incoming {
                upgrade,
                send_back_addr,
                ..
            } => {
                let connection = upgrade.await?;
                tokio::spawn(async move {
                    match echo(connection).await {
                        Ok(bytes) => println!("echoed {bytes} bytes to {send_back_addr}"),
                        Err(error) => println!("{send_back_addr}: {error}"),
                    }
                });
            }
            TransportEvent::ListenerError { error, .. } => println!("{error}"),
            TransportEvent::ListenerClosed { reason, .. } => return Ok(reason?),
            TransportEvent::AddressExpired { .. } => {}
        }
    }
}

async fn echo(connection: Connection) -> std::io::Result<u64> {
    let (reader, mut writer) = connection.split();
    let bytes = futures::io::copy(reader, &mut writer).await?;
    writer.close().await?;
    Ok(bytes)
}

/// Sends `bytes` bytes, and checks that the same bytes come back.
async fn dial(peer: Multiaddr, bytes: usize) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let opts = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    };
    let connection = transport().dial(peer, opts)?.await?;
    println!("connected in {:?}", start.elapsed());

    let start = Instant::now();
    let sent: Vec<u8> = (0..bytes).map(|i| (i * 31 + (i >> 8) * 7) as u8).collect();
    let (mut reader, mut writer) = connection.split();
    let mut received = Vec::with_capacity(bytes);
    let send = async {
        writer.write_all(&sent).await?;
        writer.close().await
    };
    try_join(send, reader.read_to_end(&mut received)).await?;
    if received != sent {
        return Err("the bytes that came back are not the bytes that were sent".into());
    }
    println!("{bytes} bytes there and back in {:?}", start.elapsed());
    Ok(())
}
