//! Servers that run in place of a rendezvous.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional, sink},
    net::{TcpListener, TcpSocket, TcpStream},
    process::Child,
    task::JoinSet,
};
use tokio_websockets::{Message, ServerBuilder};

use crate::support::{
    certificates::{Certificate, Folder, text},
    program::{self, free_addr},
};

/// The address where nginx listens. Only nginx uses ports at this address.
const NGINX: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 79);

/// A server on a loopback port. It stops when this is dropped.
pub struct Served {
    pub addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Served {
    async fn start<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                links.spawn(serve(tcp));
            }
        });
        Self {
            addr,
            _tasks: tasks,
        }
    }

    /// Starts a server that says nothing.
    pub async fn silent() -> Self {
        Self::start(|mut tcp| async move {
            let mut piece = [0; 1024];
            while matches!(tcp.read(&mut piece).await, Ok(1..)) {}
        })
        .await
    }

    /// Starts a server that gives each request this answer, and then closes the connection.
    pub async fn answering(answer: impl Into<String>) -> Self {
        let answer: Arc<str> = answer.into().into();
        Self::start(move |mut tcp| {
            let answer = answer.clone();
            async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    if !matches!(tcp.read_buf(&mut request).await, Ok(1..)) {
                        return;
                    }
                }
                // The client may be gone.
                let _ = tcp.write_all(answer.as_bytes()).await;
                let _ = tcp.shutdown().await;
            }
        })
        .await
    }

    /// Starts a server that speaks WebSocket, but no protocol of ours.
    pub async fn websocket() -> Self {
        Self::start(|tcp| async move {
            let Ok((_, mut ws)) = ServerBuilder::new().accept(tcp).await else {
                return;
            };
            // The client may be gone.
            let _ = ws.send(Message::text("welcome")).await;
            while let Some(Ok(_)) = ws.next().await {}
        })
        .await
    }

    /// Starts a server that terminates TLS with this certificate, for a server behind it.
    pub async fn over_tls(certificate: &Certificate, behind: SocketAddr) -> Self {
        let acceptor = certificate.acceptor();
        Self::start(move |tcp| {
            let acceptor = acceptor.clone();
            async move {
                // A client that does not trust the certificate hangs up.
                let Ok(mut tls) = acceptor.accept(tcp).await else {
                    return;
                };
                if let Ok(mut plain) = TcpStream::connect(behind).await {
                    let _ = copy_bidirectional(&mut tls, &mut plain).await;
                }
            }
        })
        .await
    }

    /// Starts a proxy that forwards the first bytes of each client, this many, and no more.
    pub async fn stalling(behind: SocketAddr, bytes: u64) -> Self {
        Self::start(move |mut tcp| async move {
            let Ok(mut plain) = TcpStream::connect(behind).await else {
                return;
            };
            let (mut from, mut to) = tcp.split();
            let (mut read, mut write) = plain.split();
            let up = async {
                copy(&mut (&mut from).take(bytes), &mut write).await?;
                copy(&mut from, &mut sink()).await
            };
            // Either end may be gone.
            let _ = tokio::join!(up, copy(&mut read, &mut to));
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.addr)
    }
}

/// Returns a port on which nothing listens. The socket keeps it from being used by others.
pub fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((Ipv4Addr::LOCALHOST, 0).into())
        .expect("a free port");
    let addr = socket.local_addr().expect("bound");
    (socket, addr)
}

/// nginx with these directives for all requests.
pub struct Nginx {
    pub addr: SocketAddr,
    _folder: Folder,
    _child: Child,
}

impl Nginx {
    pub async fn start(directives: &str) -> Self {
        let folder = Folder::new();
        let path = |name: &str| text(&folder.path(name));
        let addr = free_addr(NGINX);
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|name| format!("{name}_temp_path {};\n", path(name)));
        let config = format!(
            "daemon off;\nmaster_process off;\npid {};\nerror_log {};\nevents {{}}\n\
             http {{\n{}access_log off;\nserver {{ listen {addr}; location / {{ {directives} }} }}\n}}\n",
            path("pid"),
            path("error.log"),
            temporary.concat(),
        );
        let config = folder.write("nginx.conf", config);
        let mut command = program::command("nginx");
        command
            .arg("-e")
            .arg(path("error.log"))
            .arg("-c")
            .arg(config);
        let child = program::start(&mut command, &folder.path(""), &["error.log"], addr).await;
        Self {
            addr,
            _folder: folder,
            _child: child,
        }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.addr)
    }
}
