//! A long line: a proxy that delays data and limits its rate.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep_until},
};

use super::Task;
use crate::Result;

/// The delay from one end to the other.
pub const DELAY: Duration = Duration::from_millis(50);
/// The rate in bits per second, each way.
pub const BITS: u64 = 200_000_000;
/// The size of each socket buffer of the proxy, in bytes.
const BUFFER: u32 = 64 * 1024;
/// The number of bytes that enter the line at a time.
const PIECE: usize = 16 * 1024;
/// The maximum number of bytes and of pieces in the line, each way: the bytes of its delay, and a buffer.
const IN_LINE: usize = 1_250_000 + BUFFER as usize;
const PIECES: usize = 4096;
/// The longest delay of a timer that does not lower the line's rate.
const LATE: Duration = Duration::from_millis(3);
const BACKLOG: u32 = 64;

/// A line to one address, for all connections to it. They share its rate.
pub struct LongLine {
    pub near: SocketAddr,
    _task: Task,
}

impl LongLine {
    pub async fn start(far: SocketAddr) -> Result<Self> {
        let socket = small_socket()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(BACKLOG)?;
        let near = listener.local_addr()?;
        let ways = [Arc::new(Way::new()), Arc::new(Way::new())];
        let task = Task::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connect(stream, far, ways.clone()));
            }
        });
        Ok(Self { near, _task: task })
    }
}

/// Creates a socket with small buffers. Sockets that a listener accepts inherit them.
fn small_socket() -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    Ok(socket)
}

/// One direction of the line.
struct Way {
    /// The time at which the last byte sent so far has entered the line.
    free: Mutex<Instant>,
}

impl Way {
    fn new() -> Self {
        Self {
            free: Mutex::new(Instant::now()),
        }
    }

    /// Returns the time at which these bytes have entered the line. It may be a little in the past, if a timer was
    /// late.
    fn entered(&self, bytes: usize, now: Instant) -> Instant {
        let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / BITS as f64);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = now.checked_sub(LATE).unwrap_or(now).max(*free) + takes;
        *free
    }
}

/// Carries one connection. The system has accepted it at the near end at once, so this function waits for the round
/// trip that connecting over a line takes.
async fn connect(near: TcpStream, far: SocketAddr, ways: [Arc<Way>; 2]) -> std::io::Result<()> {
    let asked = Instant::now();
    near.set_nodelay(true)?;
    sleep_until(asked + DELAY).await;
    let far = small_socket()?.connect(far).await?;
    far.set_nodelay(true)?;
    let (near_reader, near_writer) = near.into_split();
    let (far_reader, far_writer) = far.into_split();
    let [there, back] = ways;
    let there = async {
        sleep_until(asked + 2 * DELAY).await;
        carry(near_reader, far_writer, &there).await
    };
    let back = carry(far_reader, near_writer, &back);
    tokio::try_join!(there, back)?;
    Ok(())
}

struct Piece {
    arrives: Instant,
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Carries one direction to its end.
async fn carry(from: OwnedReadHalf, to: OwnedWriteHalf, way: &Way) -> std::io::Result<()> {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::try_join!(enter(from, sender, way), leave(to, receiver))?;
    Ok(())
}

async fn enter(
    mut from: OwnedReadHalf,
    line: mpsc::Sender<Piece>,
    way: &Way,
) -> std::io::Result<()> {
    let room = Arc::new(Semaphore::new(IN_LINE));
    let mut buffer = BytesMut::new();
    loop {
        let wanted = room.clone().acquire_many_owned(PIECE as u32).await;
        let mut held = wanted.map_err(std::io::Error::other)?;
        buffer.reserve(PIECE);
        let n = (&mut from).take(PIECE as u64).read_buf(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        // Release the room that the piece does not need.
        drop(held.split(PIECE - n));
        let read = Instant::now();
        let entered = way.entered(n, read).max(read);
        until(entered).await;
        let piece = Piece {
            arrives: entered + DELAY,
            bytes: buffer.split().freeze(),
            _room: held,
        };
        if line.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

/// Waits until a time. Skips the timer if the time has come, because the timer would take another millisecond.
async fn until(moment: Instant) {
    if moment > Instant::now() {
        sleep_until(moment).await;
    }
}

async fn leave(mut to: OwnedWriteHalf, mut line: mpsc::Receiver<Piece>) -> std::io::Result<()> {
    while let Some(piece) = line.recv().await {
        until(piece.arrives).await;
        to.write_all(&piece.bytes).await?;
    }
    to.shutdown().await
}
