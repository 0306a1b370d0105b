//! The timed transfers. All times are in milliseconds.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use web_time::Instant;

use crate::request::{CHUNK, GO, READY, Request};

/// The number of bytes of a round trip.
const PING: usize = 64;

/// A connection or a substream.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}
pub type Stream = Box<dyn Io>;

/// Sends a request to the other end, and waits until the other end is ready.
async fn ask(stream: &mut Stream, request: Request) -> io::Result<()> {
    stream.write_all(&request.encode()).await?;
    stream.flush().await?;
    let mut ready = [0];
    stream.read_exact(&mut ready).await?;
    match ready {
        [READY] => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn since(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

pub async fn up(mut stream: Stream, bytes: u32) -> io::Result<f64> {
    ask(&mut stream, Request::Sink).await?;
    let data = vec![0x5a; CHUNK];
    let started = Instant::now();
    let mut left = bytes as usize;
    while left > 0 {
        let n = left.min(CHUNK);
        stream.write_all(&data[..n]).await?;
        left -= n;
    }
    end(stream).await?;
    Ok(since(started))
}

/// Ends the own direction, and waits for the end of the other one.
async fn end(mut stream: Stream) -> io::Result<()> {
    stream.close().await?;
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

pub async fn down(mut stream: Stream, bytes: u32) -> io::Result<f64> {
    let bytes = u64::from(bytes);
    ask(&mut stream, Request::Source(bytes)).await?;
    let mut buffer = vec![0; CHUNK];
    let started = Instant::now();
    stream.write_all(&[GO]).await?;
    stream.flush().await?;
    let mut read = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            n => read += n as u64,
        }
    }
    let took = since(started);
    stream.close().await?;
    match read == bytes {
        true => Ok(took),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

pub async fn round_trips(mut stream: Stream, count: u32) -> io::Result<f64> {
    ask(&mut stream, Request::Echo).await?;
    let mut ping = [7; PING];
    let started = Instant::now();
    for _ in 0..count {
        stream.write_all(&ping).await?;
        stream.flush().await?;
        stream.read_exact(&mut ping).await?;
    }
    let took = since(started);
    end(stream).await?;
    Ok(took)
}
