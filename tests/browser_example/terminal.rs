//! The example `chat` in its terminal.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{example, support::within, tab::ENTER, world::World};

/// The running example. It is killed when this is dropped.
struct Terminal {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    fn start(rendezvous: &str) -> Self {
        let mut child = example::command("chat")
            .arg(rendezvous)
            .spawn()
            .expect("the example runs");
        let output = child.stdout.take().expect("piped");
        Self {
            input: child.stdin.take().expect("piped"),
            output: BufReader::new(output).lines(),
            _child: child,
        }
    }

    /// Waits until it prints a line that contains these words, and returns the line.
    async fn says(&mut self, words: &str) -> String {
        within(words, async {
            loop {
                let line = self.output.next_line().await.expect("UTF-8");
                let line = line.expect("it runs");
                if line.contains(words) {
                    return line;
                }
            }
        })
        .await
    }

    async fn write(&mut self, line: &str) {
        let line = format!("{line}\n");
        let written = self.input.write_all(line.as_bytes()).await;
        written.expect("it reads");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_chats_with_the_command_that_it_shows() {
    let world = World::start().await;
    world.meet().await;
    let tab = &world.tabs[0];
    let command = tab.text("#command").await;
    let (program, rendezvous) = command.rsplit_once(' ').expect("an address");
    assert_eq!(program, "cargo run --example chat --");
    let mut terminal = Terminal::start(rendezvous);
    let joined = terminal.says("* joined as ").await;
    let (_, peer) = joined.rsplit_once("/p2p/").expect("its address");
    tab.find(&format!("#log [title={peer:?}]")).await;
    terminal
        .says(&format!("* {} is here", world.peers[0]))
        .await;

    terminal.write("from a terminal").await;
    tab.until("#log", "from a terminal").await;
    tab.write("#words", "from a tab").await;
    tab.press(ENTER).await;
    let said = terminal.says("from a tab").await;
    assert_eq!(said, format!("{}: from a tab", world.peers[0]));
    // The example does not take files.
    tab.until(&tab.peer(peer), "connected").await;
    let send = format!("[data-part=send]:not([hidden]) [data-peer={peer:?}]");
    assert_eq!(tab.count(&send).await, 0);
    drop(terminal);
    tab.until_gone(&tab.peer(peer)).await;
    world.end().await;
}
