//! A WebSocket client that does as little as possible, because the benchmark measures the server.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use libp2p_identity::Keypair;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::Notify,
};

/// The interval of the client's pings: shorter than any server here requires.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// The number of bytes to read at once.
const READ: usize = 16 * 1024;
/// The port in the address of an ordinary peer. Other ports mark newcomers whose announcement is awaited.
pub const ORDINARY: u16 = 9090;
/// The first of [`TAGS`] ports that mark newcomers.
pub const FIRST_TAG: u16 = 1000;
const TAGS: usize = 64;
/// The HTTP request for a link.
pub const REQUEST: &str = "GET /socket.io/?EIO=3&transport=websocket HTTP/1.1\r\nHost: a\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
const ANNOUNCEMENT: &[u8] = b"42[\"ws-peer\",\"/ip4/127.0.0.1/tcp/";

/// The announcements that all idle clients have heard.
#[derive(Debug)]
pub struct Heard {
    pub announcements: AtomicU64,
    tagged: [AtomicUsize; TAGS],
    changed: Notify,
}

impl Heard {
    pub fn new() -> Self {
        Self {
            announcements: AtomicU64::new(0),
            tagged: [const { AtomicUsize::new(0) }; TAGS],
            changed: Notify::new(),
        }
    }

    /// Counts an announcement. `marked` has a bit for each newcomer that this link has heard of, because all peers
    /// are announced again and again.
    fn note(&self, payload: &[u8], marked: &mut u64) {
        let Some(rest) = payload.strip_prefix(ANNOUNCEMENT) else {
            return;
        };
        self.announcements.fetch_add(1, Ordering::Relaxed);
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
        let port = digits.fold(0u32, |n, digit| n * 10 + u32::from(digit - b'0'));
        let tag = port.checked_sub(FIRST_TAG.into()).map(|tag| tag as usize);
        if let Some((count, tag)) = tag.and_then(|tag| Some((self.tagged.get(tag)?, tag)))
            && *marked & (1 << tag) == 0
        {
            *marked |= 1 << tag;
            count.fetch_add(1, Ordering::Relaxed);
            self.changed.notify_one();
        }
    }

    /// Waits until this number of links have heard of the newcomer.
    pub async fn tagged(&self, port: u16, links: usize) {
        let count = &self.tagged[usize::from(port - FIRST_TAG)];
        while count.load(Ordering::Relaxed) < links {
            self.changed.notified().await;
        }
    }
}

/// The transport of a link: TCP, or TLS over TCP.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// One link.
pub struct Client {
    stream: Box<dyn Io>,
    buffer: BytesMut,
    /// The number of bytes of the buffer that belong to the last frame.
    taken: usize,
    next_ack: u64,
    pub address: String,
}

/// Encodes a frame as a client sends it, with a mask.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// Returns the lengths of the header and of the payload of the first frame; `None` if more bytes are needed.
pub fn measure(bytes: &[u8]) -> Option<(usize, usize)> {
    let length = bytes.get(1)? & 0x7f;
    Some(match length {
        126 => {
            let length = bytes.get(2..4)?;
            (4, usize::from(u16::from_be_bytes(length.try_into().ok()?)))
        }
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            (10, usize::try_from(length).ok()?)
        }
        length => (2, usize::from(length)),
    })
}

/// Returns the next of several loopback addresses, in turn. Each address has its own ports, and the ports of closed
/// links cannot be used again for a minute.
fn source() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed) % 8;
    (Ipv4Addr::new(127, 0, 0, 2 + n as u8), 0).into()
}

/// Returns a socket bound to one of the loopback addresses.
pub fn socket() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(source())?;
    Ok(socket)
}

/// Connects from one of the loopback addresses.
pub async fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    socket()?.connect(server).await
}

impl Client {
    pub async fn connect(server: SocketAddr) -> io::Result<Self> {
        Self::begin(connect(server).await?, "").await
    }

    /// Opens a link on a connection; `headers` are complete lines to add to the request.
    pub async fn begin(stream: TcpStream, headers: &str) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Self::begin_over(Box::new(stream), headers).await
    }

    /// Opens a link on a connection that may be TLS.
    pub async fn begin_over(mut stream: Box<dyn Io>, headers: &str) -> io::Result<Self> {
        let request = REQUEST.trim_end();
        stream
            .write_all(format!("{request}\r\n{headers}\r\n").as_bytes())
            .await?;
        stream.flush().await?;
        let mut client = Self {
            stream,
            buffer: BytesMut::new(),
            taken: 0,
            next_ack: 0,
            address: String::new(),
        };
        client.head().await?;
        client.expect(|text| text == b"40").await?;
        Ok(client)
    }

    /// Connects and joins with a new key.
    pub async fn joined(server: SocketAddr, port: u16) -> io::Result<Self> {
        let mut client = Self::connect(server).await?;
        client.join(&Keypair::generate_ed25519(), port).await?;
        Ok(client)
    }

    async fn head(&mut self) -> io::Result<()> {
        loop {
            let end = self
                .buffer
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                if !self.buffer.starts_with(b"HTTP/1.1 101") {
                    return Err(io::Error::other("no WebSocket"));
                }
                self.buffer.advance(end + 4);
                return Ok(());
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Returns the payload of the next frame. Cancel safe.
    pub async fn next(&mut self) -> io::Result<&[u8]> {
        self.buffer.advance(std::mem::take(&mut self.taken));
        let (header, length) = loop {
            match measure(&self.buffer) {
                Some((header, length)) if self.buffer.len() >= header + length => {
                    break (header, length);
                }
                _ => self.read().await?,
            }
        };
        self.taken = header + length;
        Ok(&self.buffer[header..header + length])
    }

    /// Skips the bytes that are in the buffer. Returns their number.
    pub fn take_unread(&mut self) -> usize {
        self.buffer.advance(std::mem::take(&mut self.taken));
        let unread = self.buffer.len();
        self.buffer.clear();
        unread
    }

    /// Reads bytes without parsing them. Returns their number.
    pub async fn skip(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => Ok(n),
        }
    }

    /// Returns the next frame that is `wanted`, and skips the frames before it.
    pub async fn expect(&mut self, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
        loop {
            let payload = self.next().await?;
            if wanted(payload) {
                return Ok(payload.to_vec());
            }
        }
    }

    pub async fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        self.stream.write_all(frames).await?;
        self.stream.flush().await
    }

    pub async fn text(&mut self, text: &str) -> io::Result<()> {
        self.write(&frame(1, text.as_bytes())).await
    }

    /// Sends an event, and waits for its answer.
    pub async fn request(&mut self, event: &str) -> io::Result<String> {
        let ack = self.next_ack;
        self.next_ack += 1;
        self.text(&format!("42{ack}{event}")).await?;
        let start = format!("43{ack}[");
        let answer = self.expect(|text| text.starts_with(start.as_bytes()));
        String::from_utf8(answer.await?).map_err(io::Error::other)
    }

    pub async fn join(&mut self, key: &Keypair, port: u16) -> io::Result<()> {
        let peer = key.public().to_peer_id();
        let address = format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p-websocket-star/ipfs/{peer}");
        self.join_as(key, address).await.map(drop)
    }

    /// Joins with a given address. Returns the answer.
    pub async fn join_as(&mut self, key: &Keypair, address: String) -> io::Result<String> {
        self.address = address;
        let public = hex::encode(key.public().encode_protobuf());
        let event = format!("[\"ss-join\",\"{}\",\"{public}\"]", self.address);
        let answer = self.request(&event).await?;
        let nonce = answer.split('"').nth(1).unwrap_or_default();
        let signature = hex::encode(key.sign(nonce.as_bytes()).map_err(io::Error::other)?);
        let event = format!("[\"ss-join\",\"{}\",\"{signature}\"]", self.address);
        let answer = self.request(&event).await?;
        if answer.contains("[null,null") {
            Ok(answer)
        } else {
            Err(io::Error::other(answer))
        }
    }

    pub async fn leave(&mut self) -> io::Result<()> {
        self.text(&format!("42[\"ss-leave\",\"{}\"]", self.address))
            .await
    }

    /// Keeps the link and only listens.
    pub async fn idle(mut self, heard: &Heard) {
        let mut pings = tokio::time::interval(PING_INTERVAL);
        let mut marked = 0;
        loop {
            tokio::select! {
                _ = pings.tick() => {
                    if self.text("2").await.is_err() {
                        return;
                    }
                }
                payload = self.next() => match payload {
                    Ok(payload) => heard.note(payload, &mut marked),
                    Err(_) => return,
                }
            }
        }
    }

    /// Dials a listener that this process controls too. Afterwards, both streams of the dial are open.
    pub async fn dial(&mut self, listener: &mut Self, id: &str) -> io::Result<()> {
        let ack = self.next_ack;
        self.next_ack += 1;
        let (from, to) = (&self.address, &listener.address);
        self.text(&format!(
            "42{ack}[\"ss-dial\",\"{from}\",\"{to}\",\"{id}\"]"
        ))
        .await?;
        let incoming = listener
            .expect(|text| contains(text, b"[\"ss-incomming\""))
            .await?;
        let digits = incoming.iter().skip(2).take_while(|b| b.is_ascii_digit());
        let incoming = String::from_utf8_lossy(&digits.copied().collect::<Vec<_>>()).into_owned();
        let mut frames = frame(1, accept(id, "dialer").as_bytes());
        frames.extend(frame(1, format!("43{incoming}[]").as_bytes()));
        listener.write(&frames).await?;
        let answer = format!("43{ack}[");
        let answer = self
            .expect(|text| text.starts_with(answer.as_bytes()))
            .await?;
        if !answer.ends_with(b"[]") {
            return Err(io::Error::other("the dial was refused"));
        }
        self.text(&accept(id, "listener")).await
    }

    /// Ends a stream that this side sends.
    pub async fn end(&mut self, stream: &str) -> io::Result<()> {
        self.text(&end(stream)).await
    }

    /// Waits until the other side has ended its stream.
    pub async fn ended(&mut self, stream: &str) -> io::Result<()> {
        let end = end(stream);
        self.expect(|text| text == end.as_bytes()).await.map(drop)
    }
}

/// Encodes an item as it is sent: the frame that announces it, and its data.
pub fn item(stream: &str, data: &[u8]) -> Vec<u8> {
    let header = format!(
        "451-[\"socket.io-pull-stream.queue.{stream}\",{{\"_placeholder\":true,\"num\":0}}]"
    );
    let mut frames = frame(1, header.as_bytes());
    frames.extend(frame(2, &[&[4], data].concat()));
    frames
}

fn accept(id: &str, side: &str) -> String {
    format!("42[\"socket.io-pull-stream.accept.{id}.{side}\"]")
}

fn end(stream: &str) -> String {
    format!("42[\"socket.io-pull-stream.error.{stream}\",true]")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    // The event comes after "42" and a number.
    let start = text.iter().position(|byte| *byte == b'[').unwrap_or(0);
    text[start..].starts_with(part)
}
