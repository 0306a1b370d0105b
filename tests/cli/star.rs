//! The binary `star`, and its output.

use std::process::Stdio;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
};

use crate::support::within;

/// The variables that the binary reads. They must not come from the environment of the tests.
const VARIABLES: [&str; 13] = [
    "STAR_RENDEZVOUS",
    "STAR_TOKEN",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "NO_COLOR",
    "CLICOLOR_FORCE",
    "RUST_LOG",
];

pub fn path() -> &'static str {
    let path = option_env!("CARGO_BIN_EXE_star");
    path.expect("the binary is built: run the tests with `--all-features`")
}

/// Returns the command with these arguments, and with none of these variables set. It is killed when it is dropped.
pub fn command<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(path());
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The output of a command that has ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Returns standard output as JSON objects, one for each line.
    pub fn json(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect()
    }
}

/// Runs the command until it ends.
pub async fn run<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Said {
    ended(command(arguments).spawn().expect("it runs")).await
}

/// Waits until the command ends.
pub async fn ended(child: Child) -> Said {
    let output = within("star to end", child.wait_with_output()).await;
    let output = output.expect("it ran");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// A running command whose output is read line by line.
pub struct Running {
    pub child: Child,
    pub stdout: Lines<BufReader<ChildStdout>>,
    pub stderr: Lines<BufReader<ChildStderr>>,
}

impl Running {
    pub fn start<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Self {
        Self::spawn(&mut command(arguments))
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("it runs");
        Self {
            stdout: BufReader::new(child.stdout.take().expect("piped")).lines(),
            stderr: BufReader::new(child.stderr.take().expect("piped")).lines(),
            child,
        }
    }

    /// Returns the next line on standard output that begins with `begin`.
    pub async fn says(&mut self, begin: &str) -> String {
        next(begin, &mut self.stdout).await
    }

    /// Returns the next line on standard error that begins with `begin`.
    pub async fn notes(&mut self, begin: &str) -> String {
        next(begin, &mut self.stderr).await
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends a signal, such as `INT`.
    pub async fn signal(&self, name: &str) {
        signal(self.pid(), name).await;
    }

    pub async fn code(&mut self) -> Option<i32> {
        let status = within("star to end", self.child.wait()).await;
        status.expect("it ran").code()
    }
}

pub async fn signal(pid: u32, name: &str) {
    let kill = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(kill.await.expect("kill runs").success());
}

async fn next<R: AsyncRead + Unpin>(begin: &str, lines: &mut Lines<BufReader<R>>) -> String {
    within(begin, async {
        loop {
            let line = lines.next_line().await.expect("UTF-8");
            let line = line.unwrap_or_else(|| panic!("it ended without {begin:?}"));
            if line.starts_with(begin) {
                return line;
            }
        }
    })
    .await
}
