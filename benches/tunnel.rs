//! The example `tunnel` compared with `ssh -L`, over loopback: one connection, one way.
//!
//! ```console
//! $ cargo bench --bench tunnel      # takes sshd and ssh, and builds the example
//! ```

use std::{
    error::Error,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use libp2p_websocket_star::rendezvous;

const MIB: usize = 1 << 20;
const BYTES: usize = 512 * MIB;
const ROUNDS: usize = 5;
/// The longest time that anything may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

type Fallible<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Fallible<()> {
    // `cargo test --all-targets` starts it too, but has no time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let service = service()?;
    let server = rendezvous::Server::bind(rendezvous::Config::default()).await?;
    let star = server.addresses()[0].to_string();
    let ways = [
        ("no tunnel", Way::none(service)),
        ("tunnel", Way::tunnel(service, &star)?),
        ("ssh -L", Way::ssh(service, folder.path())?),
    ];

    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for ((_, way), rates) in ways.iter().zip(&mut rates) {
            rates.push(send(way.local)?);
        }
    }
    println!(
        "one way, MiB/s, {} MiB in each of {ROUNDS} rounds",
        BYTES / MIB
    );
    let medians = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    });
    for ((name, _), median) in ways.iter().zip(medians) {
        println!("{name:10} {median:8.0}");
    }
    println!("tunnel ÷ ssh -L: {:.2}", medians[1] / medians[2]);
    server.shutdown().await;
    Ok(())
}

/// Starts a service that reads each connection to its end, and then sends the number of bytes.
fn service() -> Fallible<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let at = listener.local_addr()?;
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            // The sender notices errors.
            let _ = read(tcp);
        }
    });
    Ok(at)
}

fn read(mut tcp: TcpStream) -> std::io::Result<()> {
    let (mut buffer, mut total) = (vec![0; MIB], 0_u64);
    loop {
        match tcp.read(&mut buffer)? {
            0 => return tcp.write_all(&total.to_be_bytes()),
            read => total += read as u64,
        }
    }
}

/// Sends to the service. Returns the rate in MiB/s.
fn send(to: SocketAddr) -> Fallible<f64> {
    let mut tcp = TcpStream::connect(to)?;
    let began = Instant::now();
    let data = vec![7; MIB];
    for _ in 0..BYTES / MIB {
        tcp.write_all(&data)?;
    }
    tcp.shutdown(std::net::Shutdown::Write)?;
    let mut total = [0; 8];
    tcp.read_exact(&mut total)?;
    let took = began.elapsed();
    if u64::from_be_bytes(total) != BYTES as u64 {
        return Err("not all data has arrived".into());
    }
    Ok((BYTES / MIB) as f64 / took.as_secs_f64())
}

/// A local port that leads to the service, and the processes that carry the data.
struct Way {
    local: SocketAddr,
    _processes: Vec<Process>,
}

/// A process that ends when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Way {
    fn none(service: SocketAddr) -> Self {
        Self {
            local: service,
            _processes: Vec::new(),
        }
    }

    fn tunnel(service: SocketAddr, star: &str) -> Fallible<Self> {
        let example = built()?;
        let service = service.to_string();
        let serve = ["serve", &service, "--rendezvous", star, "--allow-anyone"];
        let (far, line) = says(Command::new(&example).args(serve), "serving at ")?;
        let node = line.trim_start_matches("serving at ");
        let connect = ["connect", node, "127.0.0.1:0"];
        let (near, line) = says(Command::new(&example).args(connect), " leads to ")?;
        let local = line.split(' ').next().ok_or("no address")?.parse()?;
        Ok(Self {
            local,
            _processes: vec![far, near],
        })
    }

    fn ssh(service: SocketAddr, folder: &Path) -> Fallible<Self> {
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join(key))
                .status()?;
            assert!(made.success(), "ssh-keygen: {made}");
        }
        // The directory for sshd's privilege separation, needed if it runs as root.
        let _ = fs::DirBuilder::new().mode(0o755).create("/run/sshd");
        let (daemon, local) = (free()?, free()?);
        let option = |name: &str, value: String| format!("-o{name}={value}");
        let file = |name: &str| folder.join(name).display().to_string();
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", "/dev/null"])
            .args([
                option("ListenAddress", daemon.to_string()),
                option("HostKey", file("host")),
                option("AuthorizedKeysFile", file("user.pub")),
                option("StrictModes", "no".to_owned()),
                option("PermitRootLogin", "yes".to_owned()),
                option("PidFile", "none".to_owned()),
            ])
            .stderr(fs::File::create(folder.join("sshd"))?)
            .spawn()?;
        let sshd = Process(sshd);
        listens(daemon)?;
        let ssh = Command::new("ssh")
            .args(["-N", "-p", &daemon.port().to_string()])
            .arg("-L")
            .arg(format!("{local}:{service}"))
            .args([
                option("IdentityFile", file("user")),
                option("IdentitiesOnly", "yes".to_owned()),
                option("StrictHostKeyChecking", "no".to_owned()),
                option("UserKnownHostsFile", "/dev/null".to_owned()),
                option("ExitOnForwardFailure", "yes".to_owned()),
            ])
            .arg(daemon.ip().to_string())
            .stderr(fs::File::create(folder.join("ssh"))?)
            .spawn()?;
        let ssh = Process(ssh);
        listens(local)?;
        Ok(Self {
            local,
            _processes: vec![ssh, sshd],
        })
    }
}

/// Builds the example with the profile of this benchmark. Returns its path.
fn built() -> Fallible<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--profile",
            "bench",
            "--example",
            "tunnel",
        ])
        .status()?;
    assert!(status.success(), "cargo build: {status}");
    let bench = std::env::current_exe()?;
    let profile = bench.ancestors().nth(2).ok_or("no folder")?;
    Ok(profile.join("examples").join("tunnel"))
}

/// Starts a command, and waits for a line that contains these words.
fn says(command: &mut Command, words: &str) -> Fallible<(Process, String)> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let process = Process(child);
    let mut lines = BufReader::new(output).lines();
    let line = loop {
        match lines.next() {
            Some(line) => {
                let line = line?;
                if line.contains(words) {
                    break line;
                }
            }
            None => return Err(format!("it ended before it said {words:?}").into()),
        }
    };
    // Read its later output, so that the pipe does not fill up.
    std::thread::spawn(move || lines.count());
    Ok((process, line))
}

fn free() -> Fallible<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn listens(at: SocketAddr) -> Fallible<()> {
    let began = Instant::now();
    while TcpStream::connect(at).is_err() {
        if began.elapsed() > PATIENCE {
            return Err(format!("nothing listens at {at}").into());
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
