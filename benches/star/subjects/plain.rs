//! TCP through a copying proxy: the minimum cost of any relay.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::Task;
use crate::{Result, serve::serve};

pub async fn listen() -> Result<(String, Vec<Task>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let task = Task::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Without it, the figures would be worse, but not wrong.
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(Box::new(stream.compat())));
        }
    });
    Ok((address, vec![task]))
}

/// A dialer with a proxy of its own.
pub struct Dialer {
    proxy: std::net::SocketAddr,
    _task: Task,
}

impl Dialer {
    pub async fn start(to: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = listener.local_addr()?;
        let to = to.to_owned();
        let task = Task::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(copy(stream, to.clone()));
            }
        });
        Ok(Self { proxy, _task: task })
    }

    pub async fn dial(&self) -> Result<Compat<TcpStream>> {
        let stream = TcpStream::connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        Ok(stream.compat())
    }
}

async fn copy(mut inbound: TcpStream, to: String) -> std::io::Result<()> {
    let mut outbound = TcpStream::connect(to).await?;
    inbound.set_nodelay(true)?;
    outbound.set_nodelay(true)?;
    copy_bidirectional(&mut inbound, &mut outbound).await?;
    Ok(())
}
