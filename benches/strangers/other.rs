//! This program again, as a process of its own. It is started with hidden arguments, and ends with its standard
//! input. Shared by several benchmarks.

use std::{fs, io, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// The unit of processor times in `/proc`, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Another process of this program. It ends when this is dropped.
pub struct Other {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// The first report of the process.
    pub said: Value,
}

/// The resources that a process has used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Seconds of processor time.
    pub cpu: f64,
    /// Resident bytes.
    pub rss: f64,
}

impl Other {
    /// Starts the process, and waits until it is ready. With `yields`, all other processes have priority.
    pub async fn start(arguments: &[String], yields: bool) -> io::Result<Self> {
        let this = std::env::current_exe()?;
        let mut command = match yields {
            false => Command::new(this),
            true => {
                let mut command = Command::new("nice");
                command.args(["-n", "19"]).arg(this);
                command
            }
        };
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let gone = || io::Error::other("the process has no pipes");
        let stdin = child.stdin.take().ok_or_else(gone)?;
        let stdout = child.stdout.take().ok_or_else(gone)?;
        let mut other = Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
            said: Value::Null,
        };
        other.said = other.line().await?;
        Ok(other)
    }

    async fn line(&mut self) -> io::Result<Value> {
        let line = self.lines.next_line().await?.unwrap_or_default();
        serde_json::from_str(&line)
            .map_err(|_| io::Error::other(format!("{:?} is not an answer", line)))
    }

    /// Asks the process for a report.
    pub async fn ask(&mut self) -> io::Result<Value> {
        self.stdin.write_all(b"?\n").await?;
        self.line().await
    }

    /// Ends the process, and waits for its end.
    pub async fn end(mut self) -> io::Result<()> {
        self.child.kill().await
    }

    pub fn usage(&self) -> Usage {
        let pid = self.child.id().unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The fields after the process name, which may contain anything: state is field 3, the times are 14 and 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = |n: usize| {
            let field = fields.split_whitespace().nth(n - 3);
            field.and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0)
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
        Usage {
            cpu: (ticks(14) + ticks(15)) / TICKS_PER_SECOND,
            rss: kib.unwrap_or(0.0) * 1024.0,
        }
    }
}

/// Runs in the other process: reports `what` at first and whenever it is asked, until its standard input ends.
pub async fn tell(mut what: impl FnMut() -> Value) -> io::Result<()> {
    println!("{}", what());
    let mut lines: Lines<BufReader<Stdin>> = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        println!("{}", what());
    }
    Ok(())
}
