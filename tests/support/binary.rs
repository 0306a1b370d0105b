//! The binary `websocket-star-rendezvous`, run as an operator runs it.

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    str::FromStr,
};

use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines,
    },
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
};

use super::within;

/// The variables that the binary reads. They must not come from the environment of the tests.
const VARIABLES: [&str; 20] = [
    "ADMIN_TOKEN",
    "CLUSTER",
    "CLUSTER_ADVERTISE",
    "CLUSTER_CA",
    "CLUSTER_CERT",
    "CLUSTER_CREDENTIALS",
    "CLUSTER_KEY",
    "CLUSTER_LISTEN",
    "CLUSTER_NATS_CA",
    "NODE_ID",
    "HOST",
    "PORT",
    "KEY",
    "CERT",
    "PFX",
    "PFX_PASSPHRASE",
    "DISABLE_CRYPTO_CHALLENGE",
    "DISABLE_STRICT_MULTIADDR",
    "DISABLE_METRICS",
    "RUST_LOG",
];

/// Returns the command, with none of these variables set.
pub fn command() -> Command {
    let path = option_env!("CARGO_BIN_EXE_websocket-star-rendezvous");
    let path = path.expect("the binary is built: run the tests with `--all-features`");
    let mut command = Command::new(path);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a command that must fail at once. Returns its exit code and standard error.
pub async fn failure(command: &mut Command) -> (Option<i32>, String) {
    let output = within("the binary to end", command.output()).await;
    let output = output.expect("the binary runs");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code(), stderr)
}

/// A running binary.
pub struct Binary {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    /// Its standard error, if that is a pipe and still open.
    stderr: Option<Lines<BufReader<ChildStderr>>>,
    secure: bool,
    addr: SocketAddr,
}

impl Binary {
    /// Starts the binary on a free loopback port with more arguments.
    pub async fn start(arguments: &[&str]) -> Self {
        let mut command = command();
        command.args(["--host", "127.0.0.1", "--port", "0"]);
        Self::spawn(command.args(arguments)).await
    }

    /// Starts the binary, and waits until it listens.
    pub async fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the binary runs");
        let mut stdout = lines(child.stdout.take().expect("piped"));
        let stderr = child.stderr.take().map(lines);
        let line = next("what it listens on", &mut stdout).await;
        let uri = line.strip_prefix("Listening on: ");
        let uri = uri.unwrap_or_else(|| panic!("unexpected: {line}"));
        let (scheme, addr) = uri.split_once("://").expect("a URI");
        Self {
            secure: scheme == "https",
            addr: addr.parse().expect("an address"),
            child,
            stdout,
            stderr,
        }
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the address at which peers listen at this rendezvous.
    pub fn addr(&self) -> String {
        let scheme = if self.secure { "wss" } else { "ws" };
        let port = self.addr.port();
        format!("/ip4/127.0.0.1/tcp/{port}/{scheme}/p2p-websocket-star")
    }

    /// Returns the next line of its log that contains `text`.
    pub async fn logged(&mut self, text: &str) -> String {
        loop {
            let stderr = self.stderr.as_mut().expect("piped and open");
            let line = next(text, stderr).await;
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Closes the reading end of its log, so that its next write fails.
    pub fn break_log(&mut self) {
        self.stderr = None;
    }

    /// Sends a signal, such as `TERM`.
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs");
        let kill = Command::new("kill")
            .args(["-s", name, &pid.to_string()])
            .status();
        assert!(kill.await.expect("kill runs").success());
    }

    /// Waits until the binary ends. Returns its exit status, and the last line of its output.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let mut last = String::new();
        let read = async {
            while let Some(line) = self.stdout.next_line().await.expect("UTF-8") {
                last = line;
            }
        };
        within("the end of its output", read).await;
        let status = within("the binary to end", self.child.wait()).await;
        (status.expect("a status"), last)
    }
}

fn lines<R: AsyncRead>(reader: R) -> Lines<BufReader<R>> {
    BufReader::new(reader).lines()
}

async fn next<R: AsyncRead + Unpin>(what: &str, lines: &mut Lines<BufReader<R>>) -> String {
    let line = within(what, lines.next_line()).await.expect("UTF-8");
    line.unwrap_or_else(|| panic!("the binary ended without {what}"))
}

/// Sends an HTTP request, and returns the whole answer with its head.
pub async fn http(addr: SocketAddr, method: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("it listens");
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    within("an answer", read).await.expect("an answer");
    answer
}

/// Returns the value of a metric. The name includes the labels.
pub fn value<T: FromStr>(metrics: &str, name: &str) -> T {
    let value = metrics.lines().find_map(|line| {
        let (found, value) = line.rsplit_once(' ')?;
        (found == name).then_some(value)
    });
    let value = value.unwrap_or_else(|| panic!("no {name} in {metrics}"));
    let number = value.parse().ok();
    number.unwrap_or_else(|| panic!("{name} is no such number: {value}"))
}
