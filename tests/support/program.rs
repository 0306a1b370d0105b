//! Programs of other projects, each as a process that stops with the test.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use super::within;

/// The file in the program's folder that gets its output.
const SAID: &str = "said";

/// Returns a command that is killed when it is dropped, and when the thread that started it ends.
pub fn command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", program])
        // Debian installs programs that not every user needs there.
        .env("PATH", format!("{path}:/usr/sbin"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Returns a free port at a loopback address that is used for one kind of program only. Nothing else takes the port
/// before the program does.
pub fn free_addr(listen: Ipv4Addr) -> SocketAddr {
    let listener = std::net::TcpListener::bind((listen, 0));
    let bound = listener.and_then(|listener| listener.local_addr());
    bound.expect("a free port")
}

/// Starts a program, and waits until it listens at `addr`. If it ends before that, panics with its output and with
/// the content of these log files.
pub async fn start(command: &mut Command, folder: &Path, logs: &[&str], addr: SocketAddr) -> Child {
    let log = fs::File::create(folder.join(SAID)).expect("a file");
    let same = log.try_clone().expect("a descriptor");
    let child = command.stdout(log).stderr(same).spawn();
    let mut child = child.expect("it is installed: run `.ci/setup`");
    let listening = async {
        while TcpStream::connect(addr).await.is_err() {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("it ended ({status}):\n{}", logged(folder, logs));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("a program that listens", listening).await;
    child
}

/// Returns the output of a program, and the content of these log files.
pub fn logged(folder: &Path, logs: &[&str]) -> String {
    let files = [&[SAID], logs].concat();
    let read = |name: &&str| fs::read(folder.join(name)).unwrap_or_default();
    let all: Vec<_> = files.iter().flat_map(read).collect();
    String::from_utf8_lossy(&all).into_owned()
}
