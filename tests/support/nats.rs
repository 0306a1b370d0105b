//! A published release of nats-server, as a process.

use std::{net::Ipv4Addr, path::PathBuf, process::Stdio, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// The longest time that nats-server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// One server with JetStream. It stops when this is dropped.
pub struct Nats {
    child: Child,
    dir: TempDir,
    port: u16,
    more: Vec<String>,
}

fn program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/nats/bin/nats-server");
    assert!(program.exists(), "no nats-server: run .ci/setup");
    program
}

impl Nats {
    pub async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    /// Starts a server with more arguments.
    pub async fn start_with(more: Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (child, port) = Self::spawn(&dir, None, &more).await;
        Self {
            child,
            dir,
            port,
            more,
        }
    }

    /// Starts three servers that keep three replicas of everything. Each test uses its own loopback address, so that
    /// the ports found free there stay free.
    pub async fn start_three() -> Vec<Self> {
        let host = Ipv4Addr::new(
            127,
            rand::random_range(2..255),
            rand::random_range(2..255),
            1,
        );
        let free = || {
            let listener = std::net::TcpListener::bind((host, 0)).expect("a free port");
            (listener.local_addr().expect("an address"), listener)
        };
        let (routes, held): (Vec<_>, Vec<_>) = (0..3).map(|_| free()).unzip();
        drop(held);
        let all: Vec<String> = routes
            .iter()
            .map(|route| format!("nats://{route}"))
            .collect();
        let servers = routes.iter().enumerate().map(|(n, route)| {
            let more = [
                format!("--name=nats-{n}"),
                "--cluster_name=star".to_owned(),
                format!("--cluster=nats://{route}"),
                format!("--routes={}", all.join(",")),
            ];
            Self::start_with(more.to_vec())
        });
        futures::future::join_all(servers).await
    }

    async fn spawn(dir: &TempDir, port: Option<u16>, more: &[String]) -> (Child, u16) {
        let path = dir.path().to_str().expect("UTF-8");
        let port = port.map_or("-1".to_owned(), |port| port.to_string());
        let store = format!("{path}/store");
        let mut command = Command::new(program());
        command
            .args(["-js", "-a", "127.0.0.1", "-p", &port, "-sd", &store])
            .args(["--ports_file_dir", path])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let child = command.spawn().expect("nats-server runs");
        let pid = child.id().expect("it runs");
        let ports = dir.path().join(format!("nats-server_{pid}.ports"));
        let port = tokio::time::timeout(PATIENCE, async {
            loop {
                let text = std::fs::read(&ports).unwrap_or_default();
                if let Ok(told) = serde_json::from_slice::<Value>(&text)
                    && let Some(url) = told["nats"][0].as_str()
                {
                    return url
                        .rsplit(':')
                        .next()
                        .expect("a port")
                        .parse()
                        .expect("one");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        (child, port.await.expect("nats-server listens"))
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills the server at once, like a power cut.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("killed");
    }

    /// Starts the server again at the same port with its stored data.
    pub async fn restart(&mut self) {
        let (child, port) = Self::spawn(&self.dir, Some(self.port), &self.more).await;
        (self.child, self.port) = (child, port);
    }

    /// Deletes the stored data. Call this while the server does not run.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.dir.path().join("store")).expect("wiped");
    }
}
