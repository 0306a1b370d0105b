//! The published JavaScript rendezvous and client, run under Node.js and driven over JSON lines.
//!
//! Set-up: `.ci/setup`. Each process keeps its stdin open and ends with it, so no process outlives the test, not even
//! if the test is killed.
//!
//! # Commands of a [`Peer`], and the events that answer them
//!
//! | command | fields (default) | answer |
//! |---|---|---|
//! | `listen` | `addr`, `keyType` (`rsa`, `ed25519`, `secp256k1`), `allowDisabledChallenge` (false); again, it is a new client with the same key | `listening` `addr` |
//! | `relisten` | `addr`, `times`; the challenge may be off | `relistened` `addr`, after that many listens and closes |
//! | `mode` | `incoming`, and the options of that mode; for all later dials | `mode` |
//! | `dial` | `id`, `to`, `mode` (`echo`), `bytes` (0), `chunk` (65,536), `empty`, `fail`, `hold`, `timeoutMS` (50,000) | `opened` `id`, then `dialled` |
//! | `measure` | `to`, `what` (`["dial","rtt","echo"]`), `dials` (50), `pings` (2,000), `mib` (64), `chunk` (65,536) | `measured` |
//! | `leave` | | `left` `addr`, when the server has handled it |
//! | `close` | | `closed`, when the server knows; a listener waits for its own dials first |
//! | `down` | | `down`, when the client has disconnected, even with open connections |
//! | `drop` | breaks the link without notice | `disconnected`, then `rejoined` after about a second |
//! | `pause`, `resume` | stop reading from the network, and continue | |
//!
//! A command that fails is answered by `error` with `cmd` and `error`. Events without a command: `peer` `addr` for
//! every announcement, `incoming` `from` `mode`, `received` (below), `disconnected` `reason`, `rejoined` `addr`.
//!
//! Incoming modes: `echo`; `sink` (read to the end, then end); `source` (send `bytes` in items of `chunk` with
//! `empty` and `fail` as for a dial, end, and read to the end); `stall` (accept and never read); `echo-after-end` (up
//! to 16 MiB); `close-at-once`; `refuse` with `reason`; `ignore` (never answer the dial). The modes that read to the
//! end emit `received` with `mode`, `from`, `bytes`, `items`, `sha256` (unless the mode says `"hash":false`) and
//! `error`.
//!
//! Dial modes: `echo` (the pattern must come back); `half-close` (the same, and nothing may come back before the
//! dialer's direction has ended); `collect` (accept whatever comes back, and report its `sha256`); `items` (send the
//! JSON values of `items` as they are, then collect). `empty` puts an empty item before every item and before the
//! end, `fail` ends with that string as the error, `hold` ends the dialer's direction only after the other. `dialled`
//! has `id`, `mode`, `ok`, `ms`, and the `bytes` and `items` that were read. If it is not `ok`, it also has `error`
//! and `stage` (`open` or `stream`).
//!
//! `measured` has `dialMs` (median), `rttP50Us`, `rttP99Us` (64 bytes), `echoMiBs` and `onewayMiBs`, as far as `what`
//! asks for them. `oneway` needs a peer in mode `sink`, the others one in mode `echo`.

#![allow(dead_code, reason = "each test target uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

/// The longest time that an event may take. It is longer than the 50 s after which a peer gives up a dial and reports
/// that.
const PATIENCE: Duration = Duration::from_secs(60);

/// The options of a [`Rendezvous`]. The defaults are those of the server, with strict addresses.
#[derive(Clone, Debug)]
pub struct RendezvousOptions {
    /// Whether a join needs a signature.
    pub crypto_challenge: bool,
    /// Whether addresses that are not websocket-star addresses are refused.
    pub strict_multiaddr: bool,
    /// The interval at which each peer is announced to the others.
    pub refresh_peer_list: Duration,
    /// Whether the server counts, for [`Rendezvous::metrics`].
    pub metrics: bool,
}

impl Default for RendezvousOptions {
    fn default() -> Self {
        Self {
            crypto_challenge: true,
            strict_multiaddr: true,
            refresh_peer_list: Duration::from_secs(10),
            metrics: false,
        }
    }
}

/// The npm rendezvous server on a loopback port of its own.
pub struct Rendezvous {
    node: Node,
    options: RendezvousOptions,
    port: u16,
}

impl Rendezvous {
    /// Starts a server on a free port, and waits until it listens.
    pub async fn start(options: RendezvousOptions) -> Self {
        let (node, port) = Self::spawn(&options, 0).await;
        Self {
            node,
            options,
            port,
        }
    }

    async fn spawn(options: &RendezvousOptions, port: u16) -> (Node, u16) {
        let config = json!({
            "port": port,
            "cryptoChallenge": options.crypto_challenge,
            "strictMultiaddr": options.strict_multiaddr,
            "refreshPeerListIntervalMS": millis(options.refresh_peer_list),
            "metrics": options.metrics,
        });
        let mut command = Node::command("rendezvous.js");
        command.arg(config.to_string());
        let node = Node::spawn("rendezvous.js", command);
        let event = node.expect("listening").await;
        let port = event["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        (node, port.expect("`listening` carries a port"))
    }

    /// Returns the port on which it listens. The port stays the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the id of the process, for measurements; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.node.child.id()
    }

    /// Returns the address at which peers listen, without a peer id.
    pub fn addr(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}/ws/p2p-websocket-star", self.port)
    }

    /// Returns its metrics in Prometheus' text format, as they were at the start.
    pub async fn metrics(&self) -> String {
        text(&self.node.expect("metrics").await["text"])
    }

    /// Returns the bytes of its heap that are in use after a garbage collection.
    pub async fn heap(&self) -> u64 {
        self.node.send(json!({ "cmd": "memory" })).await;
        let event = self.node.expect("memory").await;
        event["heap"].as_u64().expect("`memory` carries a number")
    }

    /// Kills the server, and waits until it has ended.
    pub async fn kill(&mut self) {
        self.node.kill().await;
    }

    /// Starts the server again on the same port with the same options. Kills it first if it still runs.
    pub async fn restart(&mut self) {
        self.kill().await;
        (self.node, _) = Self::spawn(&self.options, self.port).await;
    }
}

/// A process with the npm websocket-star client, driven by commands.
pub struct Peer {
    node: Node,
    next_dial: AtomicU64,
}

impl Peer {
    /// Starts the process. It queues commands until it is up, so there is nothing to wait for.
    pub fn start() -> Self {
        Self::with(Node::command("peer.js"))
    }

    /// Starts a process with an older client, of one of the versions in `tests/js/package.json`.
    pub fn older(version: &str) -> Self {
        let mut command = Node::command("peer.js");
        command.arg(format!("libp2p-websocket-star-{version}"));
        Self::with(command)
    }

    /// Starts a process that also trusts the root certificate in that PEM file.
    pub fn trusting(root: &Path) -> Self {
        let mut command = Node::command("peer.js");
        command.env("NODE_EXTRA_CA_CERTS", root);
        Self::with(command)
    }

    fn with(command: Command) -> Self {
        Self {
            node: Node::spawn("peer.js", command),
            next_dial: AtomicU64::new(1),
        }
    }

    /// Sends a command.
    pub async fn send(&self, command: Value) {
        self.node.send(command).await;
    }

    /// Returns the first event of that name that was not returned before.
    pub async fn expect(&self, event: &str) -> Value {
        self.node.expect(event).await
    }

    /// Returns the first event that was not returned before and for which `predicate` holds. `what` is for the panic
    /// message.
    pub async fn expect_where(&self, what: &str, predicate: impl Fn(&Value) -> bool) -> Value {
        self.node.expect_where(what, predicate).await
    }

    /// Returns all events of that name so far, whether or not they were returned before.
    pub fn seen(&self, event: &str) -> Vec<Value> {
        let mut seen = self.node.seen();
        seen.retain(|seen| seen["event"] == event);
        seen
    }

    /// Joins the rendezvous at `addr` with an RSA key, and returns the peer's full address.
    pub async fn listen(&self, addr: &str) -> String {
        self.try_listen(addr, json!({}))
            .await
            .unwrap_or_else(|error| panic!("the peer cannot listen: {error}"))
    }

    /// Joins with the given `options` of the command `listen`, and returns the full address or the client's error.
    pub async fn try_listen(&self, addr: &str, options: Value) -> Result<String, String> {
        self.send(merge(json!({ "cmd": "listen", "addr": addr }), options))
            .await;
        let event = self
            .expect_where("`listening`, or `error` for `listen`", |event| {
                event["event"] == "listening"
                    || event["event"] == "error" && event["cmd"] == "listen"
            })
            .await;
        match event["addr"].as_str() {
            Some(addr) => Ok(addr.to_owned()),
            None => Err(text(&event["error"])),
        }
    }

    /// Sets the mode for later incoming dials, with the `options` of that mode.
    pub async fn mode(&self, incoming: &str, options: Value) {
        self.send(merge(
            json!({ "cmd": "mode", "incoming": incoming }),
            options,
        ))
        .await;
        self.expect_where(&format!("`mode` {incoming}"), |event| {
            event["event"] == "mode" && event["incoming"] == incoming
        })
        .await;
    }

    /// Dials with the given `options` of the command `dial`, and returns its `dialled` event, whether `ok` or not.
    pub async fn dial(&self, to: &str, options: Value) -> Value {
        let id = self.begin_dial(to, options).await;
        self.dialled(id).await
    }

    /// Dials, and requires `bytes` bytes of the pattern to come back.
    pub async fn echo(&self, to: &str, bytes: u64) {
        let event = self
            .dial(to, json!({ "mode": "echo", "bytes": bytes }))
            .await;
        assert_eq!(event["ok"], true, "{event}");
    }

    /// Starts a dial, and returns its id for [`Peer::opened`] and [`Peer::dialled`].
    pub async fn begin_dial(&self, to: &str, options: Value) -> u64 {
        let id = self.next_dial.fetch_add(1, Ordering::Relaxed);
        self.send(merge(json!({ "cmd": "dial", "to": to, "id": id }), options))
            .await;
        id
    }

    /// Waits until the dial has a connection.
    pub async fn opened(&self, id: u64) {
        self.expect_dial("opened", id).await;
    }

    /// Returns the `dialled` event of a dial that was started.
    pub async fn dialled(&self, id: u64) -> Value {
        self.expect_dial("dialled", id).await
    }

    async fn expect_dial(&self, name: &str, id: u64) -> Value {
        self.expect_where(&format!("`{name}` of dial {id}"), |event| {
            event["event"] == name && event["id"] == id
        })
        .await
    }

    /// Measures with the peer at `to` and the given `options` of the command `measure`. Returns the `measured` event.
    pub async fn measure(&self, to: &str, options: Value) -> Value {
        self.send(merge(json!({ "cmd": "measure", "to": to }), options))
            .await;
        let event = self
            .expect_where("`measured`, or `error` for `measure`", |event| {
                event["event"] == "measured"
                    || event["event"] == "error" && event["cmd"] == "measure"
            })
            .await;
        assert_eq!(event["event"], "measured", "{event}");
        event
    }

    /// Removes its address from the server, and keeps the link. Returns when the server has handled it.
    pub async fn leave(&self) {
        self.send(json!({ "cmd": "leave" })).await;
        self.expect("left").await;
    }

    /// Closes the listener. Returns when the server knows.
    pub async fn close(&self) {
        self.send(json!({ "cmd": "close" })).await;
        self.expect("closed").await;
    }

    /// Disconnects from the server, even with open connections.
    pub async fn down(&self) {
        self.send(json!({ "cmd": "down" })).await;
        self.expect("down").await;
    }

    /// Kills the process, and waits until it has ended.
    pub async fn kill(&mut self) {
        self.node.kill().await;
    }
}

/// Returns an address in the spelling of JavaScript peers.
pub fn wire(addr: impl ToString) -> String {
    addr.to_string().replace("/p2p/", "/ipfs/")
}

/// Returns the pattern byte at `offset`. Peers send this pattern, and echoes are checked against it.
pub fn pattern_byte(offset: u64) -> u8 {
    let sum = (offset * 31)
        .wrapping_add((offset >> 8) * 7)
        .wrapping_add((offset >> 16) * 13);
    sum.to_le_bytes()[0]
}

/// Returns the `len` pattern bytes from `offset` on.
pub fn pattern(offset: u64, len: usize) -> Vec<u8> {
    (offset..).take(len).map(pattern_byte).collect()
}

/// A Node.js process, its stdin, and all events from it.
pub(super) struct Node {
    script: &'static str,
    child: Child,
    stdin: tokio::sync::Mutex<ChildStdin>,
    log: Arc<Mutex<Log>>,
    grown: watch::Receiver<()>,
}

#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    ended: bool,
}

struct Entry {
    event: Value,
    returned: bool,
}

impl Node {
    pub(super) fn command(script: &str) -> Command {
        let mut command = Command::new("node");
        command
            .arg(installed().join(script))
            .env("NODE_NO_WARNINGS", "1");
        command
    }

    pub(super) fn spawn(script: &'static str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("Node.js 18 or newer is installed as `node`");
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");

        let log = Arc::new(Mutex::new(Log::default()));
        let (grew, grown) = watch::channel(());
        tokio::spawn(record(stdout, Arc::clone(&log), grew));
        Self {
            script,
            child,
            stdin: tokio::sync::Mutex::new(stdin),
            log,
            grown,
        }
    }

    pub(super) async fn send(&self, command: Value) {
        let sent = self
            .stdin
            .lock()
            .await
            .write_all(format!("{command}\n").as_bytes())
            .await;
        if let Err(error) = sent {
            panic!(
                "{} does not take {command}: {error}\n{}",
                self.script,
                self.log()
            );
        }
    }

    pub(super) async fn expect(&self, name: &str) -> Value {
        self.expect_where(&format!("`{name}`"), |event| event["event"] == name)
            .await
    }

    pub(super) async fn expect_where(
        &self,
        what: &str,
        predicate: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut grown = self.grown.clone();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                grown.mark_unchanged();
                let ended = {
                    let mut log = self.log();
                    if let Some(event) = log.take(&predicate) {
                        return Ok(event);
                    }
                    log.ended
                };
                // An error means that the recorder has ended: with the process, or with the runtime on which it was
                // started.
                if ended || grown.changed().await.is_err() {
                    return Err("the process ended");
                }
            }
        });
        match found.await.unwrap_or(Err("a minute has passed")) {
            Ok(event) => event,
            Err(why) => panic!("{}: {why} without {what}\n{}", self.script, self.log()),
        }
    }

    /// Returns all events so far, whether or not they were returned before.
    pub(super) fn seen(&self) -> Vec<Value> {
        let log = self.log();
        let events = log.entries.iter().map(|entry| &entry.event);
        events.cloned().collect()
    }

    async fn kill(&mut self) {
        self.child
            .kill()
            .await
            .unwrap_or_else(|error| panic!("{} cannot be killed: {error}", self.script));
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }
}

impl Log {
    fn take(&mut self, predicate: impl Fn(&Value) -> bool) -> Option<Value> {
        let entry = self
            .entries
            .iter_mut()
            .find(|entry| !entry.returned && predicate(&entry.event))?;
        entry.returned = true;
        Some(entry.event.clone())
    }
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seen so far (* already returned):")?;
        for Entry { event, returned } in &self.entries {
            writeln!(f, "{} {event}", if *returned { '*' } else { ' ' })?;
        }
        Ok(())
    }
}

/// Reads all the time, whether or not somebody waits for an event: a child whose pipe is full would block.
async fn record(stdout: ChildStdout, log: Arc<Mutex<Log>>, grew: watch::Sender<()>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let event = serde_json::from_str(&line)
            .unwrap_or_else(|_| json!({ "event": "not JSON", "line": line }));
        lock(&log).entries.push(Entry {
            event,
            returned: false,
        });
        grew.send_replace(());
    }
    lock(&log).ended = true;
    grew.send_replace(());
}

/// Locks the log. A panic message that is printed while the lock is held poisons it, but the log itself is still
/// valid.
fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the folder of the scripts. Panics if their modules are not installed.
fn installed() -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js");
    let marker = scripts.join("node_modules/.package-lock.json");
    assert!(
        marker.exists(),
        "the JavaScript peers are not installed: run `.ci/setup`"
    );
    scripts
}

pub(super) fn merge(mut command: Value, options: Value) -> Value {
    let Value::Object(options) = options else {
        panic!("options are a JSON object, not {options}");
    };
    command
        .as_object_mut()
        .expect("a command is an object")
        .extend(options);
    command
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("an interval in milliseconds fits 64 bits")
}
