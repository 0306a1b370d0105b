//! The program that builds and serves the page.

use std::{
    error::Error,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use clap::Parser;
use libp2p_websocket_star::{
    StarAddr,
    rendezvous::{Config, Server},
};
use tokio::{net::TcpListener, signal::ctrl_c, task::spawn_blocking};

use crate::files;

/// Builds a page that is a libp2p node, and serves it.
#[derive(Debug, Parser)]
struct Options {
    /// The port of the page on this machine; 0 takes any free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The rendezvous that the page joins. Without this option, one is started.
    #[arg(long, value_name = "ADDRESS")]
    rendezvous: Option<StarAddr>,
}

pub async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let options = Options::parse();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    println!("Building the page, which takes minutes the first time.");
    let folder = spawn_blocking(build).await??;
    let (rendezvous, server) = match options.rendezvous {
        Some(rendezvous) => (rendezvous, None),
        None => {
            let server = Server::bind(Config::default()).await?;
            let address = server.addresses().into_iter().next();
            let address = address.ok_or("the rendezvous has no address")?;
            (StarAddr::try_from(&address)?, Some(server))
        }
    };
    println!("Open http://{}/ in two tabs.", listener.local_addr()?);
    println!(
        "Chat with them from a terminal: cargo run --example chat -- {}",
        rendezvous.to_multiaddr()
    );
    axum::serve(listener, files::router(&folder, &rendezvous))
        .with_graceful_shutdown(async {
            // If the signal handler cannot be installed, the server runs until the process is killed.
            if ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await?;
    if let Some(server) = server {
        server.shutdown().await;
    }
    Ok(())
}

fn build() -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().nth(2).ok_or("there is no workspace")?;
    files::page(workspace).build()
}
