//! A line to a server that can be disturbed.

use std::{net::SocketAddr, pin::pin};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing is taken, and what was sent waits.
    Stopped,
    /// What is sent gets lost, and nobody is told, whatever comes later: as after a network was left.
    Dead,
}

/// What connects through it while it is dead waits for ever.
pub struct Line {
    address: SocketAddr,
    state: watch::Sender<State>,
}

impl Line {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (state, watched) = watch::channel(State::Open);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry_both(near, server, watched.clone()));
            }
        });
        Self { address, state }
    }

    pub fn rendezvous(&self) -> String {
        let port = self.address.port();
        format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p-websocket-star")
    }

    /// Whether nothing is taken any more.
    pub fn stop(&self, stopped: bool) {
        let state = if stopped { State::Stopped } else { State::Open };
        self.state.send_replace(state);
    }

    /// Whether connections are dead. Those that were dead once stay so.
    pub fn die(&self, dead: bool) {
        let state = if dead { State::Dead } else { State::Open };
        self.state.send_replace(state);
    }
}

async fn carry_both(near: TcpStream, server: SocketAddr, mut state: watch::Receiver<State>) {
    if *state.borrow_and_update() == State::Dead {
        return std::future::pending().await;
    }
    let far = TcpStream::connect(server).await.expect("it is there");
    let (near, far) = (near.into_split(), far.into_split());
    let (up, down) = (
        carry(near.0, far.1, state.clone()),
        carry(far.0, near.1, state.clone()),
    );
    // What is not carried any more stays open, and nobody reads it.
    let mut carried = pin!(async { tokio::join!(up, down) });
    let died = async {
        // The test is over otherwise, and nothing waits.
        state.wait_for(|state| *state == State::Dead).await.is_ok()
    };
    tokio::select! {
        _ = &mut carried => {}
        true = died => std::future::pending().await,
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 65_536];
    // The line is gone when the test is over.
    while state.wait_for(|state| *state == State::Open).await.is_ok() {
        match from.read(&mut buffer).await {
            Ok(n @ 1..) if to.write_all(&buffer[..n]).await.is_ok() => {}
            _ => return,
        }
    }
}
