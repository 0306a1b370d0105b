//! What a node of these tests does, in a page and natively: beside star, identify and ping, it echoes.

use std::fmt::Display;

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _,
    future::{BoxFuture, try_join},
};
use libp2p::{Stream, StreamProtocol, identify, identity::Keypair, ping, swarm::NetworkBehaviour};
use libp2p_stream as stream;
use libp2p_websocket_star::{AddressGuard, Behaviour};

pub const ECHO: StreamProtocol = StreamProtocol::new("/star-test/echo/1");

#[derive(NetworkBehaviour)]
pub struct Behaviours {
    star: Behaviour,
    identify: AddressGuard<identify::Behaviour>,
    ping: ping::Behaviour,
    pub stream: stream::Behaviour,
}

impl Behaviours {
    pub fn new(key: &Keypair, star: Behaviour) -> Self {
        let identify = identify::Config::new("/star-test".to_owned(), key.public());
        Self {
            star,
            identify: AddressGuard::new(identify::Behaviour::new(identify)),
            ping: ping::Behaviour::default(),
            stream: stream::Behaviour::new(),
        }
    }
}

/// Echoes all that comes, each stream in a task of its own.
pub fn serve(
    mut streams: stream::Control,
    spawn: impl Fn(BoxFuture<'static, ()>),
) -> impl Future<Output = ()> {
    // Before the first one can come.
    let mut incoming = streams.accept(ECHO).expect("only once");
    async move {
        while let Some((_, stream)) = incoming.next().await {
            spawn(Box::pin(async move {
                // Whoever dialled sees what went wrong.
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

/// The byte at each place: one that moves shows.
fn byte(place: usize) -> u8 {
    (place ^ (place >> 8) ^ (place >> 16)) as u8
}

/// Sends so many bytes, and checks that they come back.
pub async fn exchange(stream: Stream, bytes: usize) -> Result<(), String> {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        let mut sent = 0;
        while sent < bytes {
            let end = bytes.min(sent + 64 * 1024);
            let data: Vec<u8> = (sent..end).map(byte).collect();
            writer.write_all(&data).await.map_err(text)?;
            sent = end;
        }
        writer.close().await.map_err(text)
    };
    let read = async {
        let (mut read, mut buffer) = (0, vec![0; 64 * 1024]);
        loop {
            match reader.read(&mut buffer).await.map_err(text)? {
                0 => break,
                n => {
                    let wrong = (0..n).find(|at| buffer[*at] != byte(read + at));
                    if let Some(at) = wrong {
                        return Err(format!("another byte at {}", read + at));
                    }
                    read += n;
                }
            }
        }
        match read == bytes {
            true => Ok(()),
            false => Err(format!("{read} bytes of {bytes}")),
        }
    };
    try_join(write, read).await.map(drop)
}

pub fn text(error: impl Display) -> String {
    error.to_string()
}
