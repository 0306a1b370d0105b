//! A folder, served to this machine over HTTP.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use tower_http::services::ServeDir;

use crate::Result;

/// Serves the folder until the runtime ends, and tells where.
pub async fn serve(folder: PathBuf) -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let app = axum::Router::new().fallback_service(ServeDir::new(folder));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}
