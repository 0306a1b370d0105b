//! Two tabs, a native node, and the rendezvous at which they meet.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use libp2p_websocket_star::rendezvous::{Config, Server};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{Mutex, MutexGuard},
    task::JoinHandle,
};

use crate::{
    chromium::Driver,
    files,
    native::Native,
    support::{address, embedded, log, within},
    tab::{self, Tab},
    transfer,
};

/// 64 MiB.
pub const LARGE: usize = 64 << 20;

/// Allows one world at a time, because browsers need the whole machine.
static TURN: Mutex<()> = Mutex::const_new(());

pub struct World {
    /// The tabs, in the order in which they are closed.
    pub tabs: Vec<Tab>,
    /// The peer ids of the tabs.
    pub peers: Vec<String>,
    pub native: Native,
    /// The rendezvous; `None` while it is stopped.
    server: Option<Server>,
    /// The address at which the rendezvous listens.
    listens: SocketAddr,
    folder: TempDir,
    _driver: Driver,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// Starts tabs and a native node, and waits until the tabs have joined.
    pub async fn start() -> Self {
        log();
        let turn = TURN.lock().await;
        let server = embedded().await;
        let site = serve(&server).await;
        let folder = tempfile::tempdir().expect("a place for files");
        let driver = Driver::start().await.expect("a driver");
        let (mut tabs, mut peers) = (Vec::new(), Vec::new());
        for index in 0..2 {
            let downloads = folder.path().join(format!("downloads {index}"));
            std::fs::create_dir(&downloads).expect("a place for files");
            let tab = tab::open(&driver, &site, &downloads).await;
            peers.push(tab.joined().await);
            tabs.push(tab);
        }
        Self {
            tabs,
            peers,
            native: Native::start(&address(&server)),
            listens: server.local_addr(),
            server: Some(server),
            folder,
            _driver: driver,
            _turn: turn,
        }
    }

    /// Waits until all of them know each other and are in the chat.
    pub async fn meet(&self) {
        let (name, [one, other]) = (self.native.name(), [&self.peers[0], &self.peers[1]]);
        for (tab, others) in self.tabs.iter().zip([[other, &name], [one, &name]]) {
            for peer in others {
                tab.find(&format!("#log [title={peer:?}]")).await;
                tab.find(&format!(
                    "[data-part=send]:not([hidden]) [data-peer={peer:?}]"
                ))
                .await;
            }
            tab.until("#peers-count", "2").await;
        }
        self.native.until_here(one).await;
        self.native.until_here(other).await;
    }

    /// Makes a file whose bytes differ everywhere.
    pub fn file(&self, name: &'static str, size: usize) -> File {
        let path = self.folder.path().join(name);
        let mut file = std::fs::File::create(&path).expect("a place for files");
        file.write_all(&scrambled(size)).expect("a place for files");
        File { name, path, size }
    }

    /// Makes a sparse file, which takes no space on the disk.
    pub fn empty_file(&self, name: &str, size: u64) -> PathBuf {
        let path = self.folder.path().join(name);
        let file = std::fs::File::create(&path).expect("a place for files");
        file.set_len(size).expect("a place for files");
        path
    }

    pub async fn stop_server(&mut self) {
        let server = self.server.take().expect("it runs");
        server.shutdown().await;
    }

    pub async fn start_server_again(&mut self) {
        let config = Config::default().with_listen_addr(self.listens);
        let server = within("the port", async {
            loop {
                if let Ok(server) = Server::bind(config.clone()).await {
                    return server;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        });
        self.server = Some(server.await);
    }

    pub async fn end(self) {
        for tab in self.tabs {
            tab.close().await;
        }
        drop(self.native);
        if let Some(server) = self.server {
            server.shutdown().await;
        }
    }
}

pub struct File {
    pub name: &'static str,
    pub path: PathBuf,
    size: usize,
}

impl File {
    pub fn bytes(&self) -> Vec<u8> {
        scrambled(self.size)
    }
}

/// Returns pseudo-random bytes, so that a misplaced part of a file is noticed.
fn scrambled(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Waits for the result of a native node's sending.
pub async fn sent(sending: JoinHandle<Result<(), transfer::Error>>) -> Result<(), transfer::Error> {
    within("the end of a file", sending)
        .await
        .expect("no panic")
}

/// Serves the page, and returns its URL.
async fn serve(server: &Server) -> String {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = tokio::task::spawn_blocking(|| {
        FOLDER.get_or_init(|| {
            let workspace = Path::new(env!("CARGO_MANIFEST_DIR"));
            files::page(workspace).build().expect("it compiles")
        })
    });
    let folder = folder.await.expect("the page was built");
    let star = address(server).parse().expect("an address");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a free port");
    let at = listener.local_addr().expect("bound");
    let app = files::router(folder, &star);
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{at}/")
}
