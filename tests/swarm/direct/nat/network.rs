//! Several hosts on this machine, two of them behind NATs, in network namespaces of a separate process.
//!
//! ```text
//! a 10.1.0.2 ── NAT 198.51.100.2 ──┐
//!                                  ├── internet, with the rendezvous and its observer at 192.0.2.1
//! b 10.2.0.2 ── NAT 203.0.113.2 ───┘
//! ```

use std::{
    fs::File,
    os::fd::AsFd as _,
    process::{Command, Stdio},
    sync::mpsc,
    thread::JoinHandle,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{runtime::Handle, sync::oneshot};

/// Set in the process with namespaces of its own.
const INSIDE: &str = "STAR_TEST_INSIDE";
pub const RENDEZVOUS: [u8; 4] = [192, 0, 2, 1];

/// How a NAT assigns ports.
#[derive(Debug, Clone, Copy)]
pub enum Nat {
    /// One port for each port inside, whatever the destination: the usual kind.
    Cone,
    /// A different port for each destination.
    Symmetric,
}

/// Runs the test of this name again in a process with its own namespaces, which end with the process. Inside that
/// process, returns the network.
pub fn network(test: &str, nats: [Nat; 2]) -> Option<Network> {
    if std::env::var_os(INSIDE).is_some() {
        return Some(Network::new(nats));
    }
    let itself = std::env::current_exe().expect("a path");
    let mut unshare = Command::new("unshare");
    // A user who is not root needs a user namespace to make the others, and is root in it.
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let output = unshare
        .args(["--net", "--mount"])
        .arg(itself)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("unshare, of util-linux");
    assert!(
        output.status.success(),
        "in namespaces: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    None
}

fn run(commands: &str) {
    let status = Command::new("bash")
        .args(["-euo", "pipefail", "-c", commands])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .status()
        .expect("bash");
    assert!(
        status.success(),
        "{status}, needs iproute2 and nftables: {commands}"
    );
}

pub struct Network {
    pub internet: Host,
    pub a: Host,
    pub b: Host,
}

impl Network {
    fn new(nats: [Nat; 2]) -> Self {
        run("
            mount -t tmpfs none /run
            for host in internet nat-a nat-b a b; do
                ip netns add $host
                ip -n $host link set lo up
                ip netns exec $host sysctl -qw net.ipv4.ip_forward=1
            done
            link() { # <host> <interface> <address> <host> <interface> <address>
                ip link add $2 netns $1 type veth peer name $5 netns $4
                ip -n $1 address add $3 dev $2
                ip -n $4 address add $6 dev $5
                ip -n $1 link set dev $2 up
                ip -n $4 link set dev $5 up
            }
            link internet to-a 198.51.100.1/24 nat-a outside 198.51.100.2/24
            link internet to-b 203.0.113.1/24 nat-b outside 203.0.113.2/24
            link nat-a inside 10.1.0.1/24 a up 10.1.0.2/24
            link nat-b inside 10.2.0.1/24 b up 10.2.0.2/24
            ip -n internet address add 192.0.2.1/32 dev lo
            ip -n nat-a route add default via 198.51.100.1
            ip -n nat-b route add default via 203.0.113.1
            ip -n a route add default via 10.1.0.1
            ip -n b route add default via 10.2.0.1
        ");
        for (host, nat) in ["nat-a", "nat-b"].into_iter().zip(nats) {
            let random = match nat {
                Nat::Cone => "",
                Nat::Symmetric => "fully-random",
            };
            // Unsolicited packets are dropped, and leave no connection-tracking entry that would occupy a port.
            run(&format!(
                "ip netns exec {host} nft -f - <<'END'
                table ip nat {{
                    chain out {{
                        type nat hook postrouting priority srcnat
                        oifname outside masquerade {random}
                    }}
                    chain in {{
                        type filter hook input priority filter
                        iifname outside ct state != {{ established, related }} drop
                    }}
                    chain through {{
                        type filter hook forward priority filter
                        iifname outside ct state != {{ established, related }} drop
                    }}
                }}
END"
            ));
        }
        Self {
            internet: Host::new("internet"),
            a: Host::new("a"),
            b: Host::new("b"),
        }
    }

    /// Drops all packets from one NAT to the other from now on.
    pub fn cut(&self) {
        run("ip netns exec internet nft -f - <<'END'
            table ip cut {
                chain through {
                    type filter hook forward priority filter
                    iifname to-a oifname to-b drop
                    iifname to-b oifname to-a drop
                }
            }
END");
    }

    pub fn mend(&self) {
        run("ip netns exec internet nft delete table ip cut");
    }
}

/// A host: a thread in its namespace, with a runtime.
pub struct Host {
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    fn new(name: &str) -> Self {
        let namespace = File::open(format!("/run/netns/{name}")).expect("a namespace");
        let (stop, stopped) = oneshot::channel();
        let (to, started) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root in the namespaces");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            to.send(runtime.handle().clone()).expect("waits");
            // This ends when the host is stopped or dropped.
            let _ = runtime.block_on(stopped);
        });
        Self {
            runtime: started.recv().expect("a runtime"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Runs a future on this host.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.runtime.spawn(work).await.expect("no panic")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}
