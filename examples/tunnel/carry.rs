//! What goes through a stream: the bytes of one TCP connection, in frames.
//!
//! A frame is a length of two bytes and so many bytes. The side of the service answers first: with an empty frame when it
//! has connected, or else with words that say why not. From then on, an empty frame ends a direction. The end of the
//! stream does not, because yamux shows a stream that was reset as one that ended.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use libp2p::{Stream, StreamProtocol};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
};
use tokio_util::{
    codec::{Framed, LengthDelimitedCodec},
    compat::{Compat, FuturesAsyncReadCompatExt as _},
};

use crate::Fallible;

pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/websocket-star/tunnel/1.0.0");
/// What is sent in a frame: with its length, as much as yamux sends at once.
const FRAME: usize = (16 << 10) - 2;
const BROKEN_OFF: &str = "the peer broke the stream off";

pub type Frames = Framed<Compat<Stream>, LengthDelimitedCodec>;

pub fn frames(stream: Stream) -> Frames {
    let codec = LengthDelimitedCodec::builder()
        .length_field_type::<u16>()
        .new_codec();
    Framed::new(stream.compat(), codec)
}

/// The connection, to be reset when it is dropped: only [`carry`] knows when it has ended well.
pub fn guarded(tcp: TcpStream) -> io::Result<TcpStream> {
    tcp.set_nodelay(true)?;
    SockRef::from(&tcp).set_linger(Some(Duration::ZERO))?;
    Ok(tcp)
}

/// Carries both directions until each has ended. The stream is closed then, and dropped if anything fails.
pub async fn carry(mut tcp: TcpStream, stream: Frames) -> Fallible<()> {
    let of_tcp = |error: io::Error| format!("the TCP connection failed: {error}");
    let of_peer = |error: io::Error| format!("{BROKEN_OFF}: {error}");
    let (mut reader, mut writer) = tcp.split();
    let (mut to, mut from) = stream.split();
    let (ending, is_ending) = oneshot::channel::<()>();
    let there = async {
        loop {
            let mut data = BytesMut::with_capacity(FRAME);
            match reader.read_buf(&mut data).await.map_err(of_tcp)? {
                0 => break,
                _ => to.send(data.freeze()).await.map_err(of_peer)?,
            }
        }
        drop(ending);
        to.send(Bytes::new()).await.map_err(of_peer)
    };
    let back = async {
        while let Some(data) = from.next().await {
            let data = data.map_err(of_peer)?;
            if !data.is_empty() {
                writer.write_all(&data).await.map_err(of_tcp)?;
                continue;
            }
            writer.shutdown().await.map_err(of_tcp)?;
            // The peer closes the stream once both directions have ended. Until then, nothing more is to come.
            tokio::select! {
                biased;
                _ = is_ending => return Ok(()),
                _ = from.next() => break,
            }
        }
        Err(BROKEN_OFF.to_owned())
    };
    tokio::try_join!(there, back)?;
    to.close().await.map_err(of_peer)?;
    Ok(SockRef::from(&tcp).set_linger(None)?)
}
