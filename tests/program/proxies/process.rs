//! The proxies. Each is a process that stops with the test.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::process::{Child, Command};

use crate::support::{
    certificates::{Certificate, Folder, text},
    program::{self, command, free_addr},
};

pub const NGINX: &str = include_str!("nginx.conf");
pub const HAPROXY: &str = include_str!("haproxy.cfg");
pub const HAPROXY_TCP: &str = include_str!("haproxy-tcp.cfg");
pub const CADDY: &str = include_str!("Caddyfile");

/// The address where the proxies listen. Only they use ports at this address.
const LISTEN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

/// The log files that they write in addition to their output.
const LOGS: &[&str] = &["star.log", "star-error.log", "error.log"];

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Nginx,
    Haproxy,
    /// Passes on bytes, and announces the client's address by this version of the PROXY protocol.
    HaproxyTcp {
        version: &'static str,
    },
    Caddy,
}

/// A proxy in front of a rendezvous.
pub struct Proxy {
    addr: SocketAddr,
    folder: Folder,
    _child: Child,
}

impl Proxy {
    /// Starts a proxy in front of `rendezvous`, and waits until it listens.
    pub async fn start(kind: Kind, rendezvous: SocketAddr, certificate: &Certificate) -> Self {
        let folder = Folder::with(certificate);
        let both = [certificate.pem.as_str(), &certificate.key_pem].concat();
        folder.write("both.pem", both);
        let addr = free_addr(LISTEN);
        let place = Place {
            folder: &folder,
            addr,
            rendezvous,
        };
        let mut command = match kind {
            Kind::Nginx => place.nginx(),
            Kind::Haproxy => {
                place.haproxy(HAPROXY, "bind :443 ssl crt /etc/haproxy/star.example.pem")
            }
            Kind::HaproxyTcp { version } => {
                place.haproxy(&HAPROXY_TCP.replace("send-proxy-v2", version), "bind :443")
            }
            Kind::Caddy => place.caddy(),
        };
        let child = program::start(&mut command, &folder.path(""), LOGS, addr).await;
        Self {
            addr,
            folder,
            _child: child,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns everything that it has written so far, to its logs and to its output.
    pub fn logged(&self) -> String {
        program::logged(&self.folder.path(""), LOGS)
    }
}

/// The paths and addresses to which a configuration is adapted.
struct Place<'a> {
    folder: &'a Folder,
    addr: SocketAddr,
    rendezvous: SocketAddr,
}

impl Place<'_> {
    fn path(&self, name: &str) -> String {
        text(&self.folder.path(name))
    }

    /// Returns the configuration with each of these pieces replaced, and with the address of the rendezvous. Each
    /// piece must occur exactly once.
    fn fitted(&self, config: &str, pieces: &[(&str, &str)]) -> String {
        let rendezvous = self.rendezvous.to_string();
        let mut fitted = config.to_owned();
        for (piece, instead) in pieces.iter().chain([&("127.0.0.1:9090", &*rendezvous)]) {
            assert_eq!(fitted.matches(piece).count(), 1, "{piece} in {config}");
            fitted = fitted.replace(piece, instead);
        }
        fitted
    }

    fn nginx(&self) -> Command {
        let letsencrypt = "/etc/letsencrypt/live/star.example";
        let star = self.fitted(
            NGINX,
            &[
                ("listen 443 ssl", &format!("listen {} ssl", self.addr)),
                (
                    &format!("{letsencrypt}/fullchain.pem"),
                    &self.path("cert.pem"),
                ),
                (&format!("{letsencrypt}/privkey.pem"), &self.path("key.pem")),
                ("/var/log/nginx/star.log", &self.path("star.log")),
                (
                    "/var/log/nginx/star-error.log",
                    &self.path("star-error.log"),
                ),
            ],
        );
        self.folder.write("star.conf", star);
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|name| format!("{name}_temp_path {};\n", self.path(name)));
        let whole = format!(
            "daemon off;\nmaster_process off;\npid {};\nerror_log {};\nevents {{}}\n\
             http {{\n{}include {};\n}}\n",
            self.path("pid"),
            self.path("error.log"),
            temporary.concat(),
            self.path("star.conf"),
        );
        let whole = self.folder.write("nginx.conf", whole);
        let mut command = command("nginx");
        command
            .arg("-e")
            .arg(self.path("error.log"))
            .arg("-c")
            .arg(whole);
        command
    }

    fn haproxy(&self, config: &str, bind: &str) -> Command {
        let listen = bind
            .replace(":443", &self.addr.to_string())
            .replace("/etc/haproxy/star.example.pem", &self.path("both.pem"));
        let pieces = [
            ("log /dev/log local0", "log stdout format raw local0"),
            (bind, &listen),
        ];
        let config = self
            .folder
            .write("haproxy.cfg", self.fitted(config, &pieces));
        let mut command = command("haproxy");
        // Run in the foreground.
        command.arg("-db").arg("-f").arg(config);
        command
    }

    fn caddy(&self) -> Command {
        let port = self.addr.port();
        let site = format!(
            "https://localhost:{port}, https://star.example:{port} {{\n    bind {}\n    tls {} {}",
            self.addr.ip(),
            self.path("cert.pem"),
            self.path("key.pem"),
        );
        let options = "{\n    admin off\n    auto_https off\n    log {";
        let pieces = [("{\n    log {", options), ("star.example {", site.as_str())];
        let config = self.fitted(CADDY, &pieces);
        let config = self.folder.write("Caddyfile", config);
        let mut command = command("caddy");
        command
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(config)
            .env("HOME", self.path(""))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CONFIG_HOME", self.path("config"));
        command
    }
}
