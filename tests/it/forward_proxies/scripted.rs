//! Proxies that do what no real one does on demand.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What a proxy does with each connection.
#[derive(Debug, Clone)]
pub enum Does {
    /// Reads what it is asked, in so many pieces, and answers each with one of these; then it hangs up.
    Answer(Vec<Vec<u8>>),
    /// The same, but it says nothing after that.
    Hang(Vec<Vec<u8>>),
    /// It speaks SOCKS 5, and connects everybody to that address, whatever the name.
    Socks(SocketAddr),
}

/// A proxy, which ends when it is dropped.
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

    /// The next piece that it was asked.
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
        // Nobody may want to know.
        let _ = note.try_send(buffer[..len].to_vec());
        if tcp.write_all(&answer).await.is_err() {
            return;
        }
    }
    match (does, to) {
        (Does::Hang(_), _) => {
            // Until the other end has had enough.
            while matches!(tcp.read(&mut buffer).await, Ok(1..)) {}
        }
        (_, Some(to)) => {
            if let Ok(mut server) = TcpStream::connect(to).await {
                let _ = copy_bidirectional(&mut tcp, &mut server).await;
            }
        }
        _ => {
            // With something unread, the connection would be reset.
            let _ = tcp.shutdown().await;
            while matches!(tcp.read(&mut buffer).await, Ok(1..)) {}
        }
    }
}
