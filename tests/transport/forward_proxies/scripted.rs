//! Proxies that misbehave on demand. No real proxy does that.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What a proxy does with each connection.
#[derive(Debug, Clone)]
pub enum Does {
    /// Reads one piece for each of these answers, sends the answer, and then hangs up.
    Answer(Vec<Vec<u8>>),
    /// Does the same, but keeps the connection open and silent after that.
    Hang(Vec<Vec<u8>>),
    /// Speaks SOCKS 5, and connects every client to that address, whatever name it asks for.
    Socks(SocketAddr),
}

/// A proxy. It stops when this is dropped.
pub struct Scripted {
    addr: SocketAddr,
    asked: tokio::sync::mpsc::Receiver<Vec<u8>>,
    _tasks: JoinSet<()>,
}

impl Scripted {
    pub async fn start(does: Does) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let (note, asked) = tokio::sync::mpsc::channel(1000);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                links.spawn(serve(tcp, does.clone(), note.clone()));
            }
        });
        Self {
            addr,
            asked,
            _tasks: tasks,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the next piece that it was sent.
    pub async fn asked(&mut self) -> Vec<u8> {
        let asked = crate::support::within("a question", self.asked.recv()).await;
        asked.expect("it runs")
    }
}

async fn serve(mut tcp: TcpStream, does: Does, note: tokio::sync::mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; 1024];
    let (answers, to) = match does.clone() {
        Does::Answer(answers) | Does::Hang(answers) => (answers, None),
        Does::Socks(addr) => (
            vec![vec![5, 0], vec![5, 0, 0, 1, 0, 0, 0, 0, 0, 0]],
            Some(addr),
        ),
    };
    for answer in answers {
        let Ok(len @ 1..) = tcp.read(&mut buffer).await else {
            return;
        };
        // The test may not read these.
        let _ = note.try_send(buffer[..len].to_vec());
        if tcp.write_all(&answer).await.is_err() {
            return;
        }
    }
    match (does, to) {
        (Does::Hang(_), _) => {
            // Wait until the other end gives up.
            while matches!(tcp.read(&mut buffer).await, Ok(1..)) {}
        }
        (_, Some(to)) => {
            if let Ok(mut server) = TcpStream::connect(to).await {
                let _ = copy_bidirectional(&mut tcp, &mut server).await;
            }
        }
        _ => {
            // If some data were unread, the kernel would reset the connection.
            let _ = tcp.shutdown().await;
            while matches!(tcp.read(&mut buffer).await, Ok(1..)) {}
        }
    }
}
