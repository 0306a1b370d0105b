//! Very many clients in one thread. This thread costs little, and its processor time is counted apart from the
//! server's.
//!
//! Everything that a client needs is made before the server is measured: its pipe, its key, its address.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::Server;
use tokio::runtime::Handle;

use super::pipe::{Pipe, Ready, ServerEnd};
use crate::client::{REQUEST, frame, measure};

/// The number of clients that join at a time.
const JOINING: usize = 64;
/// The ping interval that the server asks for by default.
const PING_INTERVAL: Duration = Duration::from_secs(25);
/// The longest sleep of the thread. Short, so that pings are on time.
const TICK: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// Waiting for the end of the answer to the HTTP request.
    Upgrading,
    /// Waiting for the server's greeting.
    Greeting,
    /// Waiting for a nonce.
    Challenged,
    /// Waiting for the answer to the join.
    Joining,
    Joined,
    Ended,
}

struct Peer {
    pipe: Arc<Pipe>,
    key: Keypair,
    address: Box<str>,
    state: State,
    /// The bytes of a frame, or of an HTTP head, that is not complete yet.
    rest: Vec<u8>,
}

/// The clients of one server.
pub struct Crowd {
    runtime: Handle,
    peers: Vec<Peer>,
    origins: u32,
    ready: Arc<Ready>,
    list: Vec<u32>,
    /// The times of the next pings, in order.
    pings: VecDeque<(Instant, u32)>,
    next: usize,
    joining: usize,
    pub joined: usize,
    pub ended: usize,
    pub announcements: u64,
}

impl Crowd {
    pub fn new(runtime: Handle, peers: usize, origins: usize) -> Self {
        let made = (0..peers).map(|_| {
            let key = Keypair::generate_ed25519();
            let id = key.public().to_peer_id();
            Peer {
                pipe: Arc::default(),
                address: format!("/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/ipfs/{id}").into(),
                key,
                state: State::New,
                rest: Vec::new(),
            }
        });
        Self {
            runtime,
            peers: made.collect(),
            origins: origins as u32,
            ready: Arc::default(),
            list: Vec::with_capacity(peers),
            pings: VecDeque::with_capacity(peers),
            next: 0,
            joining: 0,
            joined: 0,
            ended: 0,
            announcements: 0,
        }
    }

    /// Joins `more` more clients, and waits until all have joined.
    pub fn join(&mut self, server: &Server, more: usize) -> io::Result<()> {
        let wanted = self.joined + more;
        while self.joined < wanted {
            while self.joining < JOINING && self.joined + self.joining < wanted {
                self.begin(server)?;
            }
            self.turn()?;
            if self.ended > 0 {
                return Err(io::Error::other(format!("{} links were lost", self.ended)));
            }
        }
        Ok(())
    }

    fn begin(&mut self, server: &Server) -> io::Result<()> {
        let id = self.next;
        self.next += 1;
        self.joining += 1;
        let peer = &mut self.peers[id];
        peer.state = State::Upgrading;
        peer.pipe.write(REQUEST.as_bytes());
        let end = ServerEnd {
            pipe: peer.pipe.clone(),
            ready: self.ready.clone(),
            id: id as u32,
        };
        let origin =
            Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() | (id as u32 % self.origins));
        let remote = SocketAddr::from((origin, 4000));
        let served = self.runtime.block_on(server.serve_connection(end, remote));
        served.map_err(io::Error::other)
    }

    /// Does for this time only what idle clients do.
    pub fn idle(&mut self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn()?;
        }
        Ok(())
    }

    /// Continues until a condition holds.
    pub fn until(&mut self, mut condition: impl FnMut(&Self) -> bool) -> io::Result<()> {
        while !condition(self) {
            self.turn()?;
        }
        Ok(())
    }

    /// Closes the links of the first `peers` clients.
    pub fn leave(&mut self, peers: usize) {
        for peer in &mut self.peers[..peers] {
            peer.pipe.close();
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        let ready = self.ready.clone();
        let mut list = std::mem::take(&mut self.list);
        ready.take(&mut list, TICK);
        for id in &list {
            self.read(*id)?;
        }
        self.list = list;
        let now = Instant::now();
        while let Some((due, id)) = self.pings.front().copied()
            && due <= now
        {
            self.pings.pop_front();
            let peer = &self.peers[id as usize];
            if peer.state == State::Joined {
                peer.pipe.write(&frame(1, b"2"));
                self.pings.push_back((due.max(now) + PING_INTERVAL, id));
            }
        }
        Ok(())
    }

    fn read(&mut self, id: u32) -> io::Result<()> {
        let peer = &mut self.peers[id as usize];
        let (bytes, is_over) = peer.pipe.take();
        let mut bytes = match peer.rest.is_empty() {
            true => bytes,
            false => {
                let mut rest = std::mem::take(&mut peer.rest);
                rest.extend_from_slice(&bytes);
                rest
            }
        };
        let mut done = 0;
        if peer.state == State::Upgrading
            && let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
        {
            if !bytes.starts_with(b"HTTP/1.1 101") {
                let answer = String::from_utf8_lossy(&bytes).into_owned();
                return Err(io::Error::other(answer));
            }
            done = end + 4;
            peer.state = State::Greeting;
        }
        if peer.state != State::Upgrading {
            while let Some((header, length)) = measure(&bytes[done..])
                && let Some(payload) = bytes.get(done + header..done + header + length)
            {
                done += header + length;
                if peer.state == State::Joined {
                    self.announcements += u64::from(payload.starts_with(b"42"));
                } else if peer.handle(payload)? {
                    self.joined += 1;
                    self.joining -= 1;
                    self.pings.push_back((Instant::now() + PING_INTERVAL, id));
                }
            }
        }
        if is_over && peer.state != State::Ended {
            peer.state = State::Ended;
            self.ended += 1;
        } else if done < bytes.len() {
            peer.rest = bytes.split_off(done);
        }
        Ok(())
    }
}

impl Peer {
    /// Handles a frame that comes before the peer has joined. Returns whether the peer has joined now.
    fn handle(&mut self, payload: &[u8]) -> io::Result<bool> {
        match self.state {
            State::Greeting if payload == b"40" => {
                let public = hex::encode(self.key.public().encode_protobuf());
                self.ask(0, &public);
                self.state = State::Challenged;
            }
            State::Challenged | State::Joining if payload.starts_with(b"43") => {
                let text = String::from_utf8_lossy(payload);
                if text.contains("[null,null") {
                    self.state = State::Joined;
                    return Ok(true);
                }
                let nonce = text.split('"').nth(1).unwrap_or_default();
                if self.state == State::Joining || !text.starts_with("430[null") {
                    return Err(io::Error::other(text.into_owned()));
                }
                let signature = self.key.sign(nonce.as_bytes()).map_err(io::Error::other)?;
                self.ask(1, &hex::encode(signature));
                self.state = State::Joining;
            }
            _ => {}
        }
        Ok(false)
    }

    fn ask(&self, ack: u64, data: &str) {
        let event = format!("42{ack}[\"ss-join\",\"{}\",\"{data}\"]", self.address);
        self.pipe.write(&frame(1, event.as_bytes()));
    }
}
