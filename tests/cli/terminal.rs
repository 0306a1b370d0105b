//! Each command in a real terminal, tmux.

use std::time::Duration;

use tokio::process::Command;

use crate::{
    star::{Running, path},
    support::{
        address,
        certificates::{Folder, text},
        embedded, within,
    },
};

/// The start of an escape sequence for a colour.
const COLOUR: &str = "\x1b[3";

/// A terminal with one shell. It stops when this is dropped.
struct Terminal {
    folder: Folder,
}

impl Terminal {
    /// Runs a command line in the terminal. The terminal shows the exit status when it ends.
    async fn run(line: &str) -> Self {
        let terminal = Self {
            folder: Folder::new(),
        };
        let script = format!(
            "PATH={}:$PATH; {line}; echo \"status $?\"; sleep 600",
            folder_of_star()
        );
        let started = terminal
            .tmux(&[
                "-f",
                "/dev/null",
                "new-session",
                "-d",
                "-x",
                "150",
                "-y",
                "30",
                &script,
            ])
            .await;
        assert_eq!(started, "");
        terminal
    }

    async fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(self.folder.path("tmux")).args(arguments);
        tmux.env("TERM", "xterm-256color")
            .env_remove("TMUX")
            .env_remove("NO_COLOR");
        let output = within("tmux", tmux.output()).await;
        let output = output.expect("it is installed: run `.ci/setup`");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Returns the content of the terminal, with its colours.
    async fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"]).await
    }

    /// Waits until the terminal shows these words, and returns its whole content.
    async fn shows(&self, words: &str) -> String {
        within(words, async {
            loop {
                let screen = self.screen().await;
                if screen.contains(words) {
                    return screen;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
    }

    async fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]).await;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut tmux = std::process::Command::new("tmux");
        let _ = tmux
            .arg("-S")
            .arg(self.folder.path("tmux"))
            .arg("kill-server")
            .output();
    }
}

fn folder_of_star() -> &'static str {
    let (folder, _) = path().rsplit_once('/').expect("a path");
    folder
}

#[tokio::test]
async fn peers_is_a_table_that_is_drawn_anew() {
    let server = embedded().await;
    let star = address(&server);
    let terminal = Terminal::run(&format!("star peers {star}")).await;
    terminal.shows("0 peers at ws://127.0.0.1:").await;
    let mut there = Running::start(&["peers", &star, "--no-ping"]);
    let joined = there.notes("joined as ").await;
    let (_, peer) = joined.rsplit_once('/').expect("a peer");
    terminal.shows("1 peer at ws://127.0.0.1:").await;
    let screen = terminal.shows(" ms").await;
    assert!(!screen.contains("0 peers"), "{screen}");
    let row = screen.lines().find(|line| line.contains(peer));
    assert!(row.is_some_and(|row| row.contains(COLOUR)), "{screen:?}");
    terminal.press("C-c").await;
    terminal.shows("status 0").await;
}

#[tokio::test]
async fn ping_sums_up_at_ctrl_c() {
    let server = embedded().await;
    let star = address(&server);
    let mut there = Running::start(&["peers", &star, "--no-ping"]);
    let joined = there.notes("joined as ").await;
    let to = joined.trim_start_matches("joined as ");
    let terminal = Terminal::run(&format!("star ping {to} -i 100ms")).await;
    terminal.shows("answer 2: ").await;
    terminal.press("C-c").await;
    let screen = terminal.shows("status 0").await;
    assert!(screen.contains(" sent, "), "{screen}");
}

#[tokio::test]
async fn doctor_has_colours_unless_they_are_not_wanted() {
    let server = embedded().await;
    let star = address(&server);
    let terminal = Terminal::run(&format!("star doctor {star} --no-bulk")).await;
    let screen = terminal.shows("status 0").await;
    let green = "\x1b[32mok ";
    assert!(screen.contains(green), "{screen:?}");
    let terminal = Terminal::run(&format!("NO_COLOR=1 star doctor {star} --no-bulk")).await;
    let screen = terminal.shows("status 0").await;
    assert!(!screen.contains(COLOUR), "{screen:?}");
}

#[tokio::test]
async fn pipe_shows_how_far_it_is_and_types_both_ways() {
    let server = embedded().await;
    let star = address(&server);
    let mut there = Running::spawn(
        crate::star::command(&["pipe", "--listen", &star]).stdin(std::process::Stdio::piped()),
    );
    let invitation = there.notes("star pipe ").await;
    let folder = Folder::new();
    let input = text(&folder.write("input", vec![b'x'; 3 << 20]));
    let terminal = Terminal::run(&format!("{invitation} <{input}")).await;
    terminal.shows("3.00 MiB/3.00 MiB").await;
    // The other end has not ended its direction yet.
    use tokio::io::AsyncWriteExt as _;
    let mut stdin = there.child.stdin.take().expect("piped");
    stdin
        .write_all(b"what comes back\n")
        .await
        .expect("it reads");
    drop(stdin);
    terminal.shows("what comes back").await;
    let received = there.says("x").await;
    assert_eq!(received.len(), 3 << 20);
    terminal.shows("status 0").await;
    assert_eq!(there.code().await, Some(0));
}

#[tokio::test]
async fn errors_and_help_fit_the_terminal() {
    let terminal = Terminal::run("star ping ws://127.0.0.1:9 x").await;
    let screen = terminal.shows("status 2").await;
    assert!(
        screen.contains("star: \"x\" is not a valid peer id"),
        "{screen}"
    );
    let terminal = Terminal::run("star --help").await;
    terminal.shows("status 0").await;
}
