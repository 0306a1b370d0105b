//! `star pipe` between two processes: every byte arrives in both directions, and each end reports what has failed.

use std::{
    fs::File,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use crate::{
    star::{Running, Said, command, ended, run},
    support::{
        PATIENCE, address,
        binary::Binary,
        certificates::{Folder, text},
        embedded,
        js::{Rendezvous, RendezvousOptions},
        within,
    },
};

/// The most resident memory of an end in bytes: unread data, and everything else that a node needs, in a build
/// without optimizations.
const RESIDENT: u64 = 96 << 20;
/// The most bytes by which a writer may be ahead of its reader, apart from the buffers of pipes.
const WINDOW: u64 = 8 << 20;
/// The longest time until one end notices that the other has ended.
const NOTICED: Duration = Duration::from_secs(20);

/// Returns the amount of data in MiB. The long checks send more.
fn mebibytes() -> u64 {
    let set = std::env::var("STAR_PIPE_MIB").ok();
    set.map_or(16, |set| set.parse().expect("a number"))
}

/// A generator of bytes that differ everywhere.
struct Bytes(u64);

impl Bytes {
    fn piece(&mut self) -> Vec<u8> {
        let mut piece = Vec::with_capacity(1 << 20);
        for _ in 0..(1 << 20) / 8 {
            // Marsaglia's xorshift generator.
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            piece.extend_from_slice(&self.0.to_le_bytes());
        }
        piece
    }
}

/// Writes that many MiB to a process, and returns their hash.
fn feed(
    mut to: impl std::io::Write + Send + 'static,
    seed: u64,
    mib: u64,
) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut bytes, mut hash) = (Bytes(seed), Sha256::new());
        for _ in 0..mib {
            let piece = bytes.piece();
            hash.update(&piece);
            to.write_all(&piece).expect("it reads");
        }
        hash.finalize().to_vec()
    })
}

/// Reads everything that a process writes, and returns its length and its hash.
fn drain(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<(u64, Vec<u8>)> {
    std::thread::spawn(move || {
        let (mut piece, mut len, mut hash) = (vec![0; 1 << 20], 0, Sha256::new());
        loop {
            match from.read(&mut piece).expect("readable") {
                0 => return (len, hash.finalize().to_vec()),
                read => {
                    len += read as u64;
                    hash.update(&piece[..read]);
                }
            }
        }
    })
}

/// Starts the listening end with pipes. Returns it with the arguments for the other end.
async fn listening(star: &str, more: &[&str]) -> (Running, Vec<String>) {
    let arguments = [&["pipe", "--listen", star], more].concat();
    listening_as(command(&arguments).stdin(Stdio::piped())).await
}

async fn listening_as(command: &mut Command) -> (Running, Vec<String>) {
    let mut end = Running::spawn(command);
    let invitation = end.notes("star pipe ").await;
    let arguments = invitation.split(' ').skip(1).map(str::to_owned).collect();
    (end, arguments)
}

/// Starts the other end with pipes.
fn dialling(arguments: &[String]) -> Running {
    Running::spawn(command(arguments).stdin(Stdio::piped()))
}

/// Starts both ends, and connects them. Each has sent the other a line.
async fn connected(star: &str) -> (Running, Running) {
    let (mut one, arguments) = listening(star, &[]).await;
    let mut other = dialling(&arguments);
    for (from, to) in [(&mut one, &mut other)] {
        write(from, b"hello\n").await;
        to.says("hello").await;
        write(to, b"hello\n").await;
        from.says("hello").await;
    }
    (one, other)
}

async fn write(end: &mut Running, bytes: &[u8]) {
    let stdin = end.child.stdin.as_mut().expect("open");
    within("it to read", stdin.write_all(bytes))
        .await
        .expect("it reads");
}

/// Waits until an end has ended. Returns its exit code and its standard error.
async fn failed(end: &mut Running) -> (Option<i32>, String) {
    let code = tokio::time::timeout(NOTICED, end.child.wait()).await;
    let code = code.expect("it notices").expect("it ran").code();
    let mut said = String::new();
    while let Some(line) = end.stderr.next_line().await.expect("UTF-8") {
        said += &line;
        said.push('\n');
    }
    (code, said)
}

/// Returns the highest resident memory of a process so far in bytes, or `None` if the process has ended.
fn most_resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mut lines = status.lines();
    let kib = lines.find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib = kib.trim().trim_end_matches(" kB");
    Some(kib.parse::<u64>().expect("a number") << 10)
}

/// Watches the highest resident memory of a process until it ends.
fn watch_resident(pid: u32) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut most = 0;
        while let Some(now) = most_resident(pid) {
            most = now;
            std::thread::sleep(Duration::from_millis(20));
        }
        most
    })
}

async fn every_byte_arrives(star: &str, mib: u64) {
    let mut one = command(&["pipe", "--listen", star]).into_std();
    let mut one = one.stdin(Stdio::piped()).spawn().expect("it runs");
    let mut stderr = std::io::BufReader::new(one.stderr.take().expect("piped"));
    let mut invitation = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut invitation).expect("UTF-8");
    let arguments: Vec<_> = invitation.trim_end().split(' ').skip(1).collect();
    let mut other = command(&arguments).into_std();
    let mut other = other.stdin(Stdio::piped()).spawn().expect("it runs");
    let begin = Instant::now();
    let (there, back) = (mib, mib / 2);
    let fed = feed(one.stdin.take().expect("piped"), 1, there);
    let fed_back = feed(other.stdin.take().expect("piped"), 2, back);
    let came = drain(other.stdout.take().expect("piped"));
    let came_back = drain(one.stdout.take().expect("piped"));
    let resident = [one.id(), other.id()].map(watch_resident);
    let ended = tokio::task::spawn_blocking(move || {
        for (len, fed, came) in [(there, fed, came), (back, fed_back, came_back)] {
            let (received, hash) = came.join().expect("read");
            assert_eq!(received, len << 20);
            assert_eq!(hash, fed.join().expect("written"));
        }
        let most = resident.map(|watched| watched.join().expect("no panic"));
        (one.wait(), other.wait(), most)
    });
    let (one, other, most) = ended.await.expect("no panic");
    println!(
        "{there} and {back} MiB in {:?}, resident {} and {} MiB",
        begin.elapsed(),
        most[0] >> 20,
        most[1] >> 20
    );
    assert!(one.expect("it ran").success() && other.expect("it ran").success());
    assert!(most.into_iter().all(|bytes| bytes < RESIDENT), "{most:?}");
}

#[tokio::test]
async fn every_byte_arrives_both_ways_through_the_stand_alone_rendezvous() {
    let star = Binary::start(&[]).await;
    every_byte_arrives(&star.addr(), mebibytes()).await;
}

#[tokio::test]
async fn every_byte_arrives_both_ways_through_npms_rendezvous() {
    let npm = Rendezvous::start(RendezvousOptions::default()).await;
    every_byte_arrives(&npm.addr(), mebibytes().min(64)).await;
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let server = embedded().await;
    for dialer_first in [false, true] {
        let (mut one, mut other) = connected(&address(&server)).await;
        let (first, second) = match dialer_first {
            true => (&mut other, &mut one),
            false => (&mut one, &mut other),
        };
        write(first, b"the last line\n").await;
        first.child.stdin = None;
        second.says("the last line").await;
        // The second end sees the end of the input, and can still send.
        let end = within("the end", second.stdout.next_line()).await;
        assert_eq!(end.expect("UTF-8"), None);
        write(second, b"still here\n").await;
        first.says("still here").await;
        second.child.stdin = None;
        assert_eq!(
            (first.code().await, second.code().await),
            (Some(0), Some(0))
        );
    }
}

#[tokio::test]
async fn nothing_at_all_is_carried_too() {
    let server = embedded().await;
    let star = address(&server);
    let mut listen = command(&["pipe", "--listen", &star]);
    let (mut one, arguments) = listening_as(&mut listen).await;
    let said = run(&arguments).await;
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (Some(0), "", ""));
    assert_eq!(one.code().await, Some(0));
}

#[tokio::test]
async fn a_writer_waits_for_its_reader_and_memory_is_bounded() {
    let star = Binary::start(&[]).await;
    let (mut one, arguments) = listening(&star.addr(), &[]).await;
    let mut other = dialling(&arguments);
    let mut stdin = one.child.stdin.take().expect("piped");
    let written = tokio::spawn(async move {
        let (piece, mut written) = (vec![7; 1 << 16], 0_u64);
        // Write until nothing is accepted any more. Until the window is full, the peer is only slow.
        loop {
            let patience = match written > WINDOW {
                true => Duration::from_secs(2),
                false => PATIENCE,
            };
            match tokio::time::timeout(patience, stdin.write(&piece)).await {
                Ok(taken) => written += taken.expect("it reads") as u64,
                Err(_) => break,
            }
        }
        (stdin, written)
    });
    let (stdin, written) = within("it to wait", written).await.expect("no panic");
    assert!(written > WINDOW, "{written}");
    assert!(written < WINDOW * 3, "{written}");
    // The other direction does not wait.
    write(&mut other, b"meanwhile\n").await;
    one.says("meanwhile").await;
    for end in [&one, &other] {
        let most = most_resident(end.pid()).expect("it runs");
        println!(
            "{} MiB are on their way, {} MiB are resident",
            written >> 20,
            most >> 20
        );
        assert!(most < RESIDENT, "{most}");
    }
    drop(stdin);
    other.child.stdin = None;
    let mut rest = Vec::new();
    let reading = other.stdout.get_mut().read_to_end(&mut rest);
    within("the rest", reading).await.expect("all");
    assert_eq!(rest.len() as u64, written);
    assert!(rest.iter().all(|byte| *byte == 7));
    assert_eq!((one.code().await, other.code().await), (Some(0), Some(0)));
}

#[tokio::test]
async fn an_end_that_is_killed_is_noticed_by_the_other() {
    let star = Binary::start(&[]).await;
    for kill_dialer in [false, true] {
        let (one, other) = connected(&star.addr()).await;
        let (mut killed, mut left) = match kill_dialer {
            true => (other, one),
            false => (one, other),
        };
        killed.signal("KILL").await;
        killed.code().await;
        let (code, said) = failed(&mut left).await;
        assert_eq!(code, Some(1), "{said}");
        let expected = "star: the connection to the other end broke off";
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn an_end_whose_input_has_ended_notices_too() {
    let server = embedded().await;
    let (mut one, mut other) = connected(&address(&server)).await;
    other.child.stdin = None;
    let end = within("the end", one.stdout.next_line()).await;
    assert_eq!(end.expect("UTF-8"), None);
    one.signal("KILL").await;
    let (code, said) = failed(&mut other).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("broke off"), "{said}");
}

#[tokio::test]
async fn a_rendezvous_that_goes_breaks_the_pipe() {
    let star = Binary::start(&[]).await;
    let (mut one, mut other) = connected(&star.addr()).await;
    star.signal("KILL").await;
    for end in [&mut one, &mut other] {
        let (code, said) = failed(end).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("star: the connection to the other end broke off: "),
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_interrupt_is_told_to_the_other_end() {
    let server = embedded().await;
    let (mut one, mut other) = connected(&address(&server)).await;
    one.signal("INT").await;
    let (code, said) = failed(&mut one).await;
    assert_eq!((code, &*said), (Some(1), "star: interrupted\n"));
    let (code, said) = failed(&mut other).await;
    assert_eq!(code, Some(1));
    assert_eq!(said, "star: the other end gave up: it was interrupted\n");
}

/// Starts two ends whose inputs have ended. One waits for the other to write everything out, but that output is
/// not read.
async fn only_writing_out(star: &str) -> (Running, Running) {
    let (mut one, mut other) = connected(star).await;
    // This is more than the pipes hold.
    write(&mut one, &[b'x'; 1 << 20]).await;
    one.child.stdin = None;
    other.child.stdin = None;
    let end = within("the end", one.stdout.next_line()).await;
    assert_eq!(end.expect("UTF-8"), None);
    (one, other)
}

#[tokio::test]
async fn who_only_waits_for_the_other_end_can_be_interrupted() {
    let server = embedded().await;
    let (mut one, mut other) = only_writing_out(&address(&server)).await;
    one.signal("INT").await;
    let (code, said) = failed(&mut one).await;
    assert_eq!((code, &*said), (Some(1), "star: interrupted\n"));
    let (code, said) = failed(&mut other).await;
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said, "star: the other end gave up: it was interrupted\n");
}

#[tokio::test]
async fn who_only_writes_out_notices_the_end_of_the_other_end() {
    let server = embedded().await;
    let (one, mut other) = only_writing_out(&address(&server)).await;
    one.signal("KILL").await;
    let (code, said) = failed(&mut other).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("broke off"), "{said}");
}

#[tokio::test]
async fn an_output_that_fails_is_told_to_the_other_end() {
    let server = embedded().await;
    let star = address(&server);
    let (mut one, arguments) = listening(&star, &[]).await;
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("on Linux");
    let child = command(&arguments).stdout(full).spawn().expect("it runs");
    write(&mut one, b"too much\n").await;
    let said = ended(child).await;
    assert_eq!(said.code, Some(1));
    let words = "No space left on device (os error 28)";
    assert_eq!(
        said.stderr,
        format!("star: cannot write to standard output: {words}\n")
    );
    let (code, said) = failed(&mut one).await;
    let expected =
        format!("star: the other end gave up: it cannot write to its standard output: {words}\n");
    assert_eq!((code, said), (Some(1), expected));
}

#[tokio::test]
async fn an_output_that_nobody_reads_is_a_quiet_end_here_and_told_there() {
    let server = embedded().await;
    let star = address(&server);
    let (mut one, arguments) = listening(&star, &[]).await;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let child = command(&arguments).stdout(writer).spawn().expect("it runs");
    write(&mut one, b"hello\n").await;
    let said = ended(child).await;
    assert_eq!((said.code, &*said.stderr), (Some(1), ""), "{said:?}");
    let (code, said) = failed(&mut one).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("it cannot write to its standard output: Broken pipe"),
        "{said}"
    );
}

#[tokio::test]
async fn an_input_that_cannot_be_read_is_told_to_the_other_end() {
    let server = embedded().await;
    let star = address(&server);
    let (mut one, arguments) = listening(&star, &[]).await;
    // A folder can be opened, but not read.
    let folder = File::open("/").expect("a folder");
    let child = command(&arguments).stdin(folder).spawn().expect("it runs");
    let said = ended(child).await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr
            .starts_with("star: cannot read standard input: "),
        "{said:?}"
    );
    let (code, said) = failed(&mut one).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("it cannot read its standard input: "),
        "{said}"
    );
}

#[tokio::test]
async fn who_does_not_know_the_code_is_refused_and_the_pipe_waits_on() {
    let server = embedded().await;
    let (mut one, arguments) = listening(&address(&server), &[]).await;
    let [command, address, flag, code] = &arguments[..] else {
        panic!("{arguments:?}");
    };
    assert_eq!((&**command, &**flag, code.len()), ("pipe", "--code", 32));
    let wrong = "0".repeat(32);
    for wrong in [&["pipe", address][..], &["pipe", address, "--code", &wrong]] {
        let said = run(wrong).await;
        let expected = "star: the other end refuses: the code is not the one that the listening end has printed\n";
        assert_eq!((said.code, &*said.stderr), (Some(1), expected));
    }
    one.notes("star: 12D3KooW").await;
    let mut other = dialling(&arguments);
    write(&mut other, b"hello\n").await;
    one.says("hello").await;
    // The pipe is in use now.
    let said = run(&arguments).await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr
            .starts_with("star: the other end has no open pipe: "),
        "{said:?}"
    );
}

#[tokio::test]
async fn who_is_not_allowed_is_refused_and_told_so() {
    let server = embedded().await;
    let star = address(&server);
    let folder = Folder::new();
    let key = text(&folder.path("key"));
    let peer = run(&["id", &key]).await.stdout;
    let (mut one, arguments) = listening(&star, &["--allow", peer.trim_end()]).await;
    let address = &arguments[1];
    let said = run(&["pipe", address]).await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr
            .starts_with("star: the other end refuses: this peer may not connect"),
        "{said:?}"
    );
    one.notes("star: 12D3KooW").await;
    one.child.stdin = None;
    let said = run(&["pipe", address, "--identity", &key]).await;
    assert_eq!((said.code, &*said.stderr), (Some(0), ""));
    assert_eq!(one.code().await, Some(0));
}

fn last_json(said: &str) -> Value {
    let last = said.lines().last().expect("a line");
    serde_json::from_str(last).unwrap_or_else(|_| panic!("{said}"))
}

#[tokio::test]
async fn scripts_are_told_in_json() {
    let server = embedded().await;
    let star = address(&server);
    let mut listen = command(&["pipe", "--listen", "--json", &star]);
    let mut one = Running::spawn(listen.stdin(Stdio::piped()));
    let listening: Value = serde_json::from_str(&one.notes("{").await).expect("JSON");
    assert_eq!(listening["event"], "listening");
    let waiting = std::time::Instant::now();
    let (address, code) = (&listening["address"], &listening["code"]);
    let (address, code) = (
        address.as_str().expect("text"),
        code.as_str().expect("text"),
    );
    let wrong = run(&["pipe", address]).await;
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    let refused: Value = serde_json::from_str(&one.notes("{").await).expect("JSON");
    assert_eq!(refused["event"], "refused", "{refused}");
    write(&mut one, b"12345").await;
    one.child.stdin = None;
    let said: Said = run(&["pipe", address, "--code", code, "--json"]).await;
    assert_eq!((said.code, &*said.stdout), (Some(0), "12345"));
    let end = last_json(&said.stderr);
    assert_eq!(
        (&end["event"], &end["error"]),
        (&"end".into(), &Value::Null),
        "{end}"
    );
    assert_eq!(
        (&end["sent"], &end["received"]),
        (&0.into(), &5.into()),
        "{end}"
    );
    let end = last_json(&one.notes("{").await);
    assert_eq!(
        (&end["sent"], &end["received"]),
        (&5.into(), &0.into()),
        "{end}"
    );
    // It does not count how long it has waited for the other end.
    let waited = waiting.elapsed().as_secs_f64();
    assert!(end["seconds"].as_f64().is_some_and(|s| s < waited), "{end}");
    assert_eq!(one.code().await, Some(0));

    let nobody = libp2p::PeerId::random().to_string();
    let said = run(&["pipe", &star, &nobody, "--json"]).await;
    assert_eq!(said.code, Some(1));
    let end = last_json(&said.stderr);
    let error = end["error"].as_str().expect("text");
    assert!(
        error.ends_with("the peer is not at the rendezvous"),
        "{error}"
    );

    // It cannot start.
    let said = run(&["pipe", &star, &nobody, "--json", "--token-file", "missing"]).await;
    assert_eq!(said.code, Some(2));
    let end = last_json(&said.stderr);
    let error = end["error"].as_str().expect("text");
    assert!(error.starts_with("cannot read missing: "), "{error}");
}

#[tokio::test]
async fn a_pipe_of_shells_ends_as_it_should() {
    let server = embedded().await;
    let star = address(&server);
    let (mut one, arguments) = listening(&star, &[]).await;
    // `head` reads a little and ends.
    let mut shell = Command::new("bash");
    let line = "set -o pipefail; \"$@\" </dev/null | head -c 10";
    shell
        .args(["-c", line, "bash", crate::star::path()])
        .args(&arguments);
    shell
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let ended = tokio::spawn(async move { within("the shell", shell.output()).await });
    let mut stdin = one.child.stdin.take().expect("piped");
    // Write until the pipe breaks.
    while stdin.write_all(&[b'x'; 1 << 16]).await.is_ok() {}
    let output = ended.await.expect("no panic").expect("it ran");
    assert_eq!(output.stdout, [b'x'; 10]);
    assert_eq!((output.status.code(), &*output.stderr), (Some(1), &b""[..]));
    let (code, said) = failed(&mut one).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Broken pipe"), "{said}");
}
