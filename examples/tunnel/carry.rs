//! What a stream carries: the bytes of one TCP connection, in frames.
//!
//! A frame is a length of two bytes, followed by that many bytes. The side of the service sends the first frame: it
//! is empty if the service is connected, and otherwise has a text that says why not. After that, an empty frame ends
//! one direction. The end of the stream cannot do that, because yamux reports a stream that was reset as one that has
//! ended.

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
/// The most bytes of data in a frame. With its length, the frame is as large as what yamux sends at once (16 KiB).
const FRAME: usize = (16 << 10) - 2;
const BROKEN_OFF: &str = "the peer broke the stream off";

pub type Frames = Framed<Compat<Stream>, LengthDelimitedCodec>;

pub fn frames(stream: Stream) -> Frames {
    let codec = LengthDelimitedCodec::builder()
        .length_field_type::<u16>()
        .new_codec();
    Framed::new(stream.compat(), codec)
}

/// Sets the connection up to be reset when it is dropped. [`carry`] undoes that when both directions have ended well.
pub fn guarded(tcp: TcpStream) -> io::Result<TcpStream> {
    tcp.set_nodelay(true)?;
    SockRef::from(&tcp).set_linger(Some(Duration::ZERO))?;
    Ok(tcp)
}

/// Carries bytes in both directions until each direction has ended, and then closes the stream. If anything fails,
/// both the stream and the TCP connection are dropped.
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
            // The peer closes the stream only after both directions have ended. Until then, nothing more may arrive.
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
