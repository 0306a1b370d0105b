//! Programs of others, each a process of its own that ends with the test.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
};

use tokio::process::Command;

/// Runs a program that is killed when it is dropped, and when the thread that has started it ends.
pub fn command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", program])
        // Where Debian has what is not for every user.
        .env("PATH", format!("{path}:/usr/sbin"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// An address at that of loopback that is for one kind of program only, so that nobody else takes the port meanwhile.
pub fn free_addr(listen: Ipv4Addr) -> SocketAddr {
    let listener = std::net::TcpListener::bind((listen, 0));
    let bound = listener.and_then(|listener| listener.local_addr());
    bound.expect("a free port")
}
