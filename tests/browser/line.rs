//! A line to a server. It can be disturbed.

use std::{net::SocketAddr, pin::pin};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// The state of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing is read, and data that was sent waits.
    Stopped,
    /// Data is lost without notice, and lost connections never recover, as after a network was left.
    Dead,
}

/// A line to a server. A connection that is opened while the line is dead waits for ever.
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

    /// Sets whether the line stops reading.
    pub fn stop(&self, stopped: bool) {
        let state = if stopped { State::Stopped } else { State::Open };
        self.state.send_replace(state);
    }

    /// Sets whether the line is dead. A connection that was dead once stays dead.
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
    // A connection that is not carried any more stays open, but is not read.
    let mut carried = pin!(async { tokio::join!(up, down) });
    let died = async {
        // This fails only when the test is over, and then nothing waits.
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
