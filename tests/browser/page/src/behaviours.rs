//! The behaviours of a node in these tests, in a page and natively: star, identify, ping, and an echo.

use std::fmt::{Debug, Display};

use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _,
    future::{BoxFuture, try_join},
};
use libp2p::{Stream, StreamProtocol, identify, identity::Keypair, ping, swarm::NetworkBehaviour};
use libp2p_stream as stream;
use libp2p_websocket_star::{Behaviour, preset::Identify};

/// The echo protocol of the js-libp2p nodes in the tests.
pub const ECHO: StreamProtocol = StreamProtocol::new("/echo/1.0.0");

#[derive(NetworkBehaviour)]
pub struct Behaviours {
    star: Behaviour,
    identify: Identify,
    ping: ping::Behaviour,
    pub stream: stream::Behaviour,
}

impl Behaviours {
    pub fn new(key: &Keypair, star: Behaviour) -> Self {
        let identify = identify::Config::new("ipfs/0.1.0".to_owned(), key.public());
        Self {
            star,
            identify: Identify::new(identify),
            ping: ping::Behaviour::default(),
            stream: stream::Behaviour::new(),
        }
    }
}

/// Echoes on every incoming stream, each in a task of its own.
pub fn serve(
    mut streams: stream::Control,
    spawn: impl Fn(BoxFuture<'static, ()>),
) -> impl Future<Output = ()> {
    // This comes before the first stream can arrive.
    let mut incoming = streams.accept(ECHO).expect("only once");
    async move {
        while let Some((_, stream)) = incoming.next().await {
            spawn(Box::pin(async move {
                // The dialer sees what went wrong.
                let _ = answer(stream).await;
            }));
        }
    }
}

async fn answer(stream: Stream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    futures::io::copy(reader, &mut writer).await?;
    writer.close().await
}

/// Returns the byte at each place of the pattern that the tests' JavaScript peers send and expect. A byte at the
/// wrong place is noticed.
pub fn byte(place: u64) -> u8 {
    let sum = (place * 31)
        .wrapping_add((place >> 8) * 7)
        .wrapping_add((place >> 16) * 13);
    sum.to_le_bytes()[0]
}

/// Writes the bytes of these places.
pub async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    from: u64,
    until: u64,
) -> Result<(), String> {
    let mut sent = from;
    while sent < until {
        let end = until.min(sent + 64 * 1024);
        let data: Vec<u8> = (sent..end).map(byte).collect();
        writer.write_all(&data).await.map_err(whole)?;
        sent = end;
    }
    writer.flush().await.map_err(whole)
}

/// Reads the bytes of these places, or up to the end of the stream. Returns the place at which it stopped.
pub async fn receive(
    reader: &mut (impl AsyncRead + Unpin),
    from: u64,
    until: u64,
) -> Result<u64, String> {
    let (mut place, mut buffer) = (from, vec![0; 64 * 1024]);
    while place < until {
        let most = buffer
            .len()
            .min(usize::try_from(until - place).unwrap_or(usize::MAX));
        let n = reader.read(&mut buffer[..most]).await.map_err(whole)?;
        if n == 0 {
            break;
        }
        for (at, found) in (place..).zip(&buffer[..n]) {
            if *found != byte(at) {
                return Err(format!("another byte at {at}"));
            }
        }
        place += n as u64;
    }
    Ok(place)
}

/// Sends that many bytes, and checks that the same bytes come back.
pub async fn exchange(stream: Stream, bytes: u64) -> Result<(), String> {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        send(&mut writer, 0, bytes).await?;
        writer.close().await.map_err(text)
    };
    let read = async {
        match receive(&mut reader, 0, u64::MAX).await? {
            read if read == bytes => Ok(()),
            read => Err(format!("{read} bytes of {bytes}")),
        }
    };
    try_join(write, read).await.map(drop)
}

pub fn text(error: impl Display) -> String {
    error.to_string()
}

/// Returns an error as text, with its `Debug` form.
pub fn whole(error: impl Debug + Display) -> String {
    format!("{error} | {error:?}")
}
