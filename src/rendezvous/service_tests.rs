use std::future::{Ready, ready};

use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioExecutor;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::rendezvous::{Config, Rendezvous};

const REQUEST: &str = "GET /socket.io/?EIO=3&transport=websocket HTTP/1.1\r\nHost: a\r\n\
                       Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(5);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(PATIENCE, future).await;
    result.expect("in time")
}

/// Returns both ends of a TCP connection.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let (client, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (client.expect("it listens"), accepted.expect("a client").0)
}

/// Accepts every upgrade, and passes the upgrades on.
#[derive(Clone)]
struct Agree(mpsc::Sender<OnUpgrade>);

impl hyper::service::Service<Request<Incoming>> for Agree {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let upgrade = hyper::upgrade::on(request);
        self.0.try_send(upgrade).expect("room for it");
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        ready(Ok(response))
    }
}

/// Returns what a server with this stream and this service hands over.
async fn handed_over<S, F>(
    mut client: impl AsyncWrite + Unpin,
    io: S,
    serve: impl FnOnce(TokioIo<S>, Agree) -> F,
) -> Hidden
where
    F: Future<Output = ()> + Send + 'static,
{
    let (to, mut upgrades) = mpsc::channel(1);
    tokio::spawn(serve(TokioIo::new(io), Agree(to)));
    let request = format!("{REQUEST}behind");
    client.write_all(request.as_bytes()).await.expect("sent");
    let upgrade = soon(upgrades.recv()).await.expect("a request");
    soon(upgrade).await.expect("an upgrade")
}

async fn with_hyper<S>(io: TokioIo<S>, service: Agree)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new().serve_connection(io, service);
    connection.with_upgrades().await.expect("served");
}

async fn with_hyper_util(io: TokioIo<TcpStream>, service: Agree) {
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(io, service);
    connection.await.expect("served");
}

#[tokio::test]
async fn a_socket_is_used_as_it_was_accepted_whichever_server_has_had_it() {
    let (mut client, socket) = sockets().await;
    let hidden = handed_over(&mut client, socket, with_hyper).await;
    let (_, read) = bare(hidden).expect("the socket");
    assert_eq!(read, "behind");

    let (mut client, socket) = sockets().await;
    let hidden = handed_over(&mut client, socket, with_hyper_util).await;
    let (_, read) = bare(hidden).expect("the socket");
    assert_eq!(read, "behind");
}

#[tokio::test]
async fn a_stream_of_another_type_is_used_through_hyper() {
    let (mut client, io) = tokio::io::duplex(4096);
    let hidden = handed_over(&mut client, io, with_hyper).await;
    let hidden = bare(hidden).expect_err("no socket");
    let mut behind = [0; 6];
    let mut io = TokioIo::new(hidden);
    io.read_exact(&mut behind).await.expect("six bytes");
    assert_eq!(&behind, b"behind");
}

/// Returns a short text in a frame whose mask is all zeros.
fn frame(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).expect("short");
    [&[0x81, 0x80 | len, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// Calls the service and says where the request comes from.
fn call(service: &Service, mut request: Request<Incoming>) -> Answer {
    let addr = ClientAddr([192, 0, 2, 1].into());
    request.extensions_mut().insert(addr);
    service.call(request)
}

#[tokio::test]
async fn a_link_through_hyper_is_served_from_its_first_frame_on() {
    let rendezvous = Rendezvous::start(Config::default());
    let service = rendezvous.service();
    let (mut client, io) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        let service = service_fn(|request| call(&service, request));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service);
        connection.with_upgrades().await
    });
    let leave = frame("420[\"ss-leave\",\"\"]");
    let request = [REQUEST.as_bytes(), &leave].concat();
    client.write_all(&request).await.expect("sent");
    let mut read = Vec::new();
    soon(async {
        while !read.ends_with(b"430[]") {
            read.push(client.read_u8().await.expect("the link is open"));
        }
    })
    .await;
    assert!(read.starts_with(b"HTTP/1.1 101 "));
    soon(rendezvous.shutdown()).await;
}

#[tokio::test]
async fn a_server_that_allows_no_upgrades_leaves_no_link_behind() {
    let rendezvous = Rendezvous::start(Config::default());
    let service = rendezvous.service();
    let (mut client, io) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        let service = service_fn(|request| call(&service, request));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service);
        connection.await
    });
    client.write_all(REQUEST.as_bytes()).await.expect("sent");
    let mut read = Vec::new();
    let end = client.read_to_end(&mut read);
    soon(end).await.expect("an orderly end");
    assert!(read.starts_with(b"HTTP/1.1 101 "));
    soon(async {
        while rendezvous.snapshot().connections > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(rendezvous.snapshot().links, 0);
}
