//! squid, tinyproxy and microsocks, each as a process that stops with the test.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::process::{Child, Command};

use super::{
    certificates::{Certificate, Folder, text},
    program::{self, command, free_addr},
};

/// The credentials for proxies that ask for some.
pub const USER: &str = "user";
pub const PASSWORD: &str = "secret";

/// The address where the proxies listen. Only they use ports at this address.
const LISTEN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 78);
/// A name that only squid can look up here.
pub const NAME: &str = "star.invalid";
/// The program that makes certificates for squid.
const CERTIFICATES: &str = "/usr/lib/squid/security_file_certgen";
/// A script that checks the user name and the password for squid.
const JUDGE: &str = "#!/bin/sh\nwhile read -r who; do\n\
    if [ \"$who\" = \"USER PASSWORD\" ]; then echo OK; else echo ERR; fi\ndone\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Squid,
    /// Clients speak TLS with the proxy.
    SquidOverTls,
    /// The proxy replaces the certificates of servers with its own.
    SquidInspecting,
    /// The proxy refuses every connection.
    SquidRefusing,
    Tinyproxy,
    Microsocks,
}

impl Kind {
    fn scheme(self) -> &'static str {
        match self {
            Self::SquidOverTls => "https",
            Self::Microsocks => "socks5",
            _ => "http",
        }
    }
}

/// A proxy.
pub struct Proxy {
    kind: Kind,
    addr: SocketAddr,
    /// squid's name for its shared memory.
    name: String,
    _folder: Folder,
    child: Child,
}

impl Proxy {
    pub async fn start(kind: Kind) -> Self {
        Self::begin(kind, None, false).await
    }

    /// Starts a proxy that asks for a user name and a password.
    pub async fn with_password(kind: Kind) -> Self {
        Self::begin(kind, None, true).await
    }

    /// Starts a proxy with a certificate, or with an authority that makes certificates.
    pub async fn certified(kind: Kind, certificate: &Certificate) -> Self {
        Self::begin(kind, Some(certificate), false).await
    }

    async fn begin(kind: Kind, certificate: Option<&Certificate>, asks: bool) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("star{}x{n}", std::process::id());
        let folder = Folder::new();
        // squid gives up its root rights, so other users must be able to use the folder.
        open_to_all(&folder.path(""));
        if let Some(certificate) = certificate {
            let both = [&*certificate.pem, &certificate.key_pem].concat();
            folder.write("both.pem", both);
        }
        let judge = JUDGE.replace("USER", USER).replace("PASSWORD", PASSWORD);
        open_to_all(&folder.write("judge", judge));
        let addr = free_addr(LISTEN);
        let mut command = match kind {
            Kind::Tinyproxy => tinyproxy(&folder, addr, asks),
            Kind::Microsocks => microsocks(addr, asks),
            _ => squid(kind, &folder, addr, asks, &name),
        };
        let child = program::start(&mut command, &folder.path(""), &["log"], addr).await;
        Self {
            kind,
            addr,
            name,
            _folder: folder,
            child,
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.kind.scheme(), self.addr)
    }

    /// Returns its URL with a user name and a password.
    pub fn url_with(&self, credentials: &str) -> String {
        format!("{}://{credentials}@{}", self.kind.scheme(), self.addr)
    }

    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // When squid is killed, it leaves its shared memory behind.
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name
                .strip_prefix(&*self.name)
                .is_some_and(|rest| rest.starts_with('-'))
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn squid(kind: Kind, folder: &Folder, addr: SocketAddr, asks: bool, name: &str) -> Command {
    let path = |name| text(&folder.path(name));
    folder.write("hosts", format!("127.0.0.1 localhost {NAME}\n"));
    let listen = match kind {
        Kind::SquidOverTls => format!("https_port {addr} tls-cert={}", path("both.pem")),
        Kind::SquidInspecting => {
            let mut made = std::process::Command::new(CERTIFICATES);
            made.args(["-c", "-s", &path("certificates"), "-M", "4MB"]);
            let made = made.stdout(Stdio::null()).status().expect("squid-openssl");
            assert!(made.success());
            open_to_all(&folder.path("certificates"));
            format!(
                "http_port {addr} ssl-bump generate-host-certificates=on tls-cert={}\n\
                 sslcrtd_program {CERTIFICATES} -s {} -M 4MB\nsslcrtd_children 1 startup=1 idle=1\n\
                 ssl_bump bump all\nsslproxy_cert_error allow all\n\
                 http_upgrade_request_protocols websocket allow all",
                path("both.pem"),
                path("certificates"),
            )
        }
        _ => format!("http_port {addr}"),
    };
    let access = match (kind, asks) {
        (Kind::SquidRefusing, _) => "http_access deny all".to_owned(),
        (_, false) => "http_access allow all".to_owned(),
        (_, true) => format!(
            "auth_param basic program {}\nauth_param basic children 1 startup=1 idle=1\n\
             acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all",
            path("judge")
        ),
    };
    let config = format!(
        "{listen}\n{access}\nhosts_file {}\ncache_log stdio:{}\naccess_log none\ncache deny all\n\
         memory_cache_shared off\npid_filename none\nnetdb_filename none\nvisible_hostname squid.test\n\
         pinger_enable off\nshutdown_lifetime 0 seconds\n",
        path("hosts"),
        path("log"),
    );
    let mut command = command("squid");
    command.args(["-N", "-n", name, "-f"]);
    command.arg(folder.write("squid.conf", config));
    command
}

fn tinyproxy(folder: &Folder, addr: SocketAddr, asks: bool) -> Command {
    let mut config = format!(
        "Listen {}\nPort {}\nTimeout 600\nMaxClients 100\nLogLevel Connect\n",
        addr.ip(),
        addr.port()
    );
    if asks {
        config += &format!("BasicAuth {USER} {PASSWORD}\n");
    }
    let mut command = command("tinyproxy");
    command.arg("-d").arg("-c");
    command.arg(folder.write("tinyproxy.conf", config));
    command
}

fn microsocks(addr: SocketAddr, asks: bool) -> Command {
    let mut command = command("microsocks");
    command.args(["-i", &addr.ip().to_string(), "-p", &addr.port().to_string()]);
    if asks {
        command.args(["-u", USER, "-P", PASSWORD]);
    }
    command
}

/// Gives every user access to this path and to everything in it.
fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("ours");
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        open_to_all(&entry.path());
    }
}
