//! The example `tunnel`, with both sides as their users run them.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use axum::{Router, http::Uri};
use futures::{StreamExt as _, stream};
use libp2p_websocket_star::rendezvous::{Config, Server};
use sha2::{Digest as _, Sha256};
use socket2::SockRef;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    process::Child,
    sync::mpsc,
};

use crate::{
    example,
    support::{address, ed25519, embedded, pattern, program, within},
};

/// One side of the tunnel. It is killed when this is dropped.
struct Side {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// Lines that no test has waited for yet.
    said: Vec<String>,
}

impl Side {
    fn start(arguments: &[&str]) -> Self {
        let mut child = example::command("tunnel")
            .args(arguments)
            .spawn()
            .expect("the example runs");
        let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (said, lines) = mpsc::channel(4096);
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                // The test may end before the output does.
                let _ = said.send(line).await;
            }
        });
        Self {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// Serves `target`, and returns the address of the node.
    async fn serve(target: SocketAddr, star: &str, more: &[&str]) -> (Self, String) {
        let target = target.to_string();
        let mut side = Self::start(&[&["serve", &target, "--rendezvous", star], more].concat());
        let line = side.says("serving at ").await;
        let address = line.trim_start_matches("serving at ").to_owned();
        (side, address)
    }

    /// Listens on a free port that leads to the node at `address`.
    async fn connect(address: &str, more: &[&str]) -> (Self, SocketAddr) {
        let mut side = Self::start(&[&["connect", address, "127.0.0.1:0"], more].concat());
        let line = side.says(" leads to ").await;
        let port = line.split(' ').next().and_then(|port| port.parse().ok());
        (side, port.expect("an address"))
    }

    /// Waits until it has printed a line that contains `words`. Returns each line once only.
    async fn says(&mut self, words: &str) -> String {
        let mut said = self.said.iter();
        if let Some(at) = said.position(|line| line.contains(words)) {
            return self.said.remove(at);
        }
        let wait = async {
            while let Some(line) = self.lines.recv().await {
                if line.contains(words) {
                    return line;
                }
                self.said.push(line);
            }
            panic!("it ended before it said {words:?}: {:#?}", self.said);
        };
        within(&format!("a line with {words:?}"), wait).await
    }

    async fn kill(mut self) {
        within("its end", self.child.kill()).await.expect("it runs");
    }
}

/// Writes the key of a node to a file. Returns the file and the peer id.
fn identity(folder: &TempDir, name: &str) -> (String, String) {
    let key = ed25519();
    let file = folder.path().join(name);
    let bytes = key.to_protobuf_encoding().expect("a key");
    std::fs::write(&file, bytes).expect("a file");
    let file = file.to_str().expect("UTF-8").to_owned();
    (file, key.public().to_peer_id().to_string())
}

fn tempdir() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

async fn listener() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    listener.expect("a free port")
}

fn port(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("bound")
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = within("a connection", listener.accept()).await;
    accepted.expect("a connection").0
}

async fn dial(port: SocketAddr) -> TcpStream {
    let dialled = within("a connection", TcpStream::connect(port)).await;
    dialled.expect("the tunnel listens")
}

/// Returns a connection through the tunnel and its end at the service. Each has received data from the other.
async fn pair(port: SocketAddr, service: &TcpListener) -> (TcpStream, TcpStream) {
    let (mut near, mut far) = (dial(port).await, accept(service).await);
    hears(&mut near, &mut far).await;
    hears(&mut far, &mut near).await;
    (near, far)
}

async fn hears(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"hello").await.expect("written");
    let mut heard = [0; 5];
    let read = within("a word", to.read_exact(&mut heard)).await;
    read.expect("a word");
    assert_eq!(&heard, b"hello");
}

/// Reads until the connection ends.
async fn rest(tcp: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    within("the end", tcp.read_to_end(&mut rest)).await?;
    Ok(rest)
}

async fn is_reset(tcp: &mut TcpStream) {
    let error = rest(tcp).await.expect_err("a proper end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

/// Connects to the tunnel, which resets the connection at once, maybe before it is connected for us. Returns the address
/// that the connection came from.
async fn is_refused(port: SocketAddr) -> SocketAddr {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((Ipv4Addr::LOCALHOST, 0).into())
        .expect("a free port");
    let from = socket.local_addr().expect("bound");
    match within("a connection", socket.connect(port)).await {
        Ok(mut refused) => is_reset(&mut refused).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    from
}

fn abort(tcp: TcpStream) {
    let linger = SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
    linger.expect("an option");
}

/// Echoes on each connection.
fn echo(listener: TcpListener) {
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = tcp.split();
                // The tests check the other end.
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
        }
    });
}

async fn is_echoed(port: SocketAddr) {
    let mut tcp = dial(port).await;
    tcp.write_all(b"echo").await.expect("written");
    tcp.shutdown().await.expect("shut down");
    assert_eq!(rest(&mut tcp).await.expect("a proper end"), b"echo");
}

/// Returns the body of `path`, of up to 200 KiB.
fn body(path: &str) -> String {
    let number: usize = path.trim_start_matches('/').parse().expect("a number");
    format!("{number} ").repeat(number * 37 % 40_000 + 1)
}

async fn get(port: SocketAddr, path: String) -> (String, String) {
    let mut tcp = dial(port).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.expect("written");
    let answer = rest(&mut tcp).await.expect("a proper end");
    let answer = String::from_utf8(answer).expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    (path, body.to_owned())
}

#[tokio::test]
async fn a_thousand_connections_reach_an_http_server_over_one_of_the_peers() {
    let (server, service) = (embedded().await, listener().await);
    let target = port(&service);
    let app = Router::new().fallback(|uri: Uri| async move { body(uri.path()) });
    tokio::spawn(async move { axum::serve(service, app).await });
    let (_far, at) = Side::serve(target, &address(&server), &["--allow-anyone"]).await;
    let (_near, local) = Side::connect(&at, &[]).await;

    let gets = stream::iter(0..1000).map(|number| get(local, format!("/{number}")));
    let right = gets
        .buffer_unordered(64)
        .filter(|(path, found)| std::future::ready(*found == body(path)))
        .count();
    assert_eq!(within("the answers", right).await, 1000);
    assert_eq!(server.snapshot().counters.dials, 1);
    server.shutdown().await;
}

/// Sets a key and reads it back, on a connection of its own.
async fn set_and_get(port: SocketAddr, number: usize) {
    let value = format!("{number} ").repeat(number * 37 % 4_000 + 1);
    let mut tcp = dial(port).await;
    let len = value.len();
    let request = format!(
        "*3\r\n$3\r\nSET\r\n${}\r\n{number}\r\n${len}\r\n{value}\r\nGET {number}\r\nQUIT\r\n",
        number.to_string().len()
    );
    tcp.write_all(request.as_bytes()).await.expect("written");
    let answer = rest(&mut tcp).await.expect("a proper end");
    let expected = format!("+OK\r\n${len}\r\n{value}\r\n+OK\r\n");
    assert_eq!(String::from_utf8(answer).expect("UTF-8"), expected);
}

#[tokio::test]
async fn a_thousand_connections_reach_redis() {
    let (server, folder) = (embedded().await, tempdir());
    let redis = program::free_addr(Ipv4Addr::new(127, 0, 0, 80));
    let (port, ip) = (redis.port().to_string(), redis.ip().to_string());
    let mut command = program::command("redis-server");
    command
        .current_dir(&folder)
        .args(["--port", &port, "--bind", &ip, "--save", ""]);
    let _redis = program::start(&mut command, folder.path(), &[], redis).await;
    let (_far, at) = Side::serve(redis, &address(&server), &["--allow-anyone"]).await;
    let (_near, local) = Side::connect(&at, &[]).await;

    let all = stream::iter(0..1000);
    let all = all.for_each_concurrent(64, |number| set_and_get(local, number));
    within("the answers", all).await;
    server.shutdown().await;
}

#[tokio::test]
async fn the_connections_of_several_peers_at_once_all_reach_the_service() {
    let (server, service) = (embedded().await, listener().await);
    let (_far, at) = Side::serve(port(&service), &address(&server), &["--allow-anyone"]).await;
    echo(service);
    let near = stream::iter(0..4).then(|_| Side::connect(&at, &[]));
    let near: Vec<_> = near.collect().await;

    let ports = near.iter().map(|(_, local)| *local).cycle().take(400);
    let echoed = stream::iter(ports).for_each_concurrent(100, is_echoed);
    within("the echoes", echoed).await;
    server.shutdown().await;
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (server, service) = (embedded().await, listener().await);
    let (_far, at) = Side::serve(port(&service), &address(&server), &["--allow-anyone"]).await;
    let (_near, local) = Side::connect(&at, &[]).await;
    let sent = pattern(0, 3 << 20);

    // The client ends its direction first, and the service then answers.
    let (mut near, mut far) = pair(local, &service).await;
    let answering = async {
        let got = rest(&mut far).await.expect("a proper end");
        far.write_all(&Sha256::digest(&got)).await.expect("written");
        far.shutdown().await.expect("shut down");
    };
    let asking = async {
        near.write_all(&sent).await.expect("written");
        near.shutdown().await.expect("shut down");
        rest(&mut near).await.expect("a proper end")
    };
    let ((), answer) = tokio::join!(answering, asking);
    assert_eq!(answer, Sha256::digest(&sent).to_vec());

    // The service ends its direction first.
    let (mut near, mut far) = pair(local, &service).await;
    far.shutdown().await.expect("shut down");
    assert!(rest(&mut near).await.expect("a proper end").is_empty());
    let sending = async {
        near.write_all(&sent).await.expect("written");
        near.shutdown().await.expect("shut down");
    };
    let ((), got) = tokio::join!(sending, rest(&mut far));
    assert_eq!(got.expect("a proper end"), sent);
    server.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_is_not_allowed_hears_so_and_so_does_the_service() {
    let (server, service, folder) = (embedded().await, listener().await, tempdir());
    let (friend, friend_id) = identity(&folder, "friend");
    let (stranger, stranger_id) = identity(&folder, "stranger");
    let allow = ["--allow", &friend_id];
    let (mut far, at) = Side::serve(port(&service), &address(&server), &allow).await;
    echo(service);

    let (mut near, local) = Side::connect(&at, &["--identity", &stranger]).await;
    is_refused(local).await;
    near.says("says: this peer may not use the service").await;
    let refused = format!("{stranger_id} is refused: this peer may not use the service");
    far.says(&refused).await;

    let (_near, local) = Side::connect(&at, &["--identity", &friend]).await;
    is_echoed(local).await;
    server.shutdown().await;
}

#[tokio::test]
async fn nobody_may_use_a_service_that_names_nobody() {
    let (server, service) = (embedded().await, listener().await);
    let target = port(&service).to_string();
    let mut far = Side::start(&["serve", &target, "--rendezvous", &address(&server)]);
    far.says("no peer may use the service").await;
    let at = far.says("serving at ").await;
    let (mut near, local) = Side::connect(at.trim_start_matches("serving at "), &[]).await;
    is_refused(local).await;
    near.says("this peer may not use the service").await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_service_that_is_away_is_an_error_until_it_is_back() {
    let server = embedded().await;
    // The port is bound, but nothing listens there.
    let service = TcpSocket::new_v4().expect("a socket");
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    service.bind(any).expect("a free port");
    let target = service.local_addr().expect("bound");
    let (mut far, at) = Side::serve(target, &address(&server), &["--allow-anyone"]).await;
    let (mut near, local) = Side::connect(&at, &[]).await;

    is_refused(local).await;
    near.says("says: the service cannot be reached: ").await;
    far.says(&format!("{target} cannot be reached: ")).await;

    echo(service.listen(16).expect("it listens"));
    is_echoed(local).await;
    server.shutdown().await;
}

#[tokio::test]
async fn the_tunnel_works_again_once_its_rendezvous_is_back() {
    let (server, service) = (embedded().await, listener().await);
    let (star, bound) = (address(&server), server.local_addr());
    let (mut far, at) = Side::serve(port(&service), &star, &["--allow-anyone"]).await;
    let (mut near, local) = Side::connect(&at, &[]).await;
    let (mut client, mut served) = pair(local, &service).await;

    server.shutdown().await;
    is_reset(&mut client).await;
    is_reset(&mut served).await;
    near.says("is lost: ").await;
    far.says("rendezvous: ").await;
    let from = is_refused(local).await;
    near.says(&format!("{from}: the peer cannot be reached: "))
        .await;

    let server = again(bound).await;
    far.says("serving at ").await;
    echo(service);
    is_echoed(local).await;
    server.shutdown().await;
}

/// Starts a rendezvous at the same port as before.
async fn again(bound: SocketAddr) -> Server {
    within("the port", async {
        loop {
            // Another test's outgoing connection may have used the port for a moment.
            match Server::bind(Config::default().with_listen_addr(bound)).await {
                Ok(server) => break server,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_tunnel_works_again_once_the_node_of_the_service_is_back() {
    let (server, service, folder) = (embedded().await, listener().await, tempdir());
    let (key, _) = identity(&folder, "key");
    let (target, star) = (port(&service), address(&server));
    let more = ["--allow-anyone", "--identity", &key];
    let (far, at) = Side::serve(target, &star, &more).await;
    let (mut near, local) = Side::connect(&at, &[]).await;
    let (mut client, mut served) = pair(local, &service).await;
    // The remaining direction of this connection is idle.
    let (mut reader, mut writer) = pair(local, &service).await;
    writer.shutdown().await.expect("shut down");
    assert!(rest(&mut reader).await.expect("a proper end").is_empty());
    let idle = reader.local_addr().expect("connected");

    far.kill().await;
    is_reset(&mut client).await;
    is_reset(&mut served).await;
    is_reset(&mut writer).await;
    near.says("is lost: ").await;
    near.says(&format!("{idle}: the peer broke the stream off"))
        .await;
    let from = is_refused(local).await;
    near.says(&format!("{from}: the peer cannot be reached: "))
        .await;

    let (_far, same) = Side::serve(target, &star, &more).await;
    assert_eq!(same, at);
    echo(service);
    is_echoed(local).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_connection_that_is_aborted_at_one_end_is_reset_at_the_other() {
    let (server, service) = (embedded().await, listener().await);
    let (mut far, at) = Side::serve(port(&service), &address(&server), &["--allow-anyone"]).await;
    let (mut near, local) = Side::connect(&at, &[]).await;

    let (client, mut served) = pair(local, &service).await;
    abort(client);
    is_reset(&mut served).await;
    near.says("the TCP connection failed: ").await;
    far.says("the peer broke the stream off").await;

    let (mut client, served) = pair(local, &service).await;
    abort(served);
    is_reset(&mut client).await;
    far.says("the TCP connection failed: ").await;
    near.says("the peer broke the stream off").await;

    // A reset is passed on even if one direction has ended already.
    let (mut client, mut served) = pair(local, &service).await;
    client.shutdown().await.expect("shut down");
    assert!(rest(&mut served).await.expect("a proper end").is_empty());
    abort(served);
    is_reset(&mut client).await;

    // A reset of one connection leaves the others alone.
    echo(service);
    is_echoed(local).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_wrong_command_line_is_told_in_words() {
    let star = "/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star";
    for (arguments, words) in [
        (&["serve"][..], "usage: tunnel"),
        (
            &["connect", star, "127.0.0.1:0"],
            "does not end with /p2p/<peer id>",
        ),
        (
            &["connect", "nowhere", "127.0.0.1:0"],
            "nowhere: not a multiaddr",
        ),
        (&["serve", "127.0.0.1:1", "--allow", "me"], "me: "),
        (
            &["serve", "127.0.0.1:1", "--allow"],
            "--allow needs a value",
        ),
    ] {
        let mut command = example::command("tunnel");
        let output = command.args(arguments).stderr(Stdio::piped()).output();
        let output = within("its end", output).await.expect("it runs");
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(error.contains(words), "{arguments:?}: {error}");
        assert_eq!(output.status.code(), Some(1));
    }
}
