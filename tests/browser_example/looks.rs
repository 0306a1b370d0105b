//! The look of the page, and its use without a mouse or without a screen.
//!
//! If `STAR_SCREENSHOTS` is set to a folder, pictures of the page are written there.

use std::{path::Path, time::Duration};

use serde_json::json;

use crate::{
    behaviours::FILES,
    support::within,
    tab::{ENTER, TAB, Tab},
    transfer::{self, Name, Source},
    world::{self, World},
};

async fn everything_has_a_name(tab: &Tab) {
    let labels = tab
        .labels("a[href], button, input, summary, [tabindex='0']")
        .await;
    assert!(labels.len() > 5, "{labels:?}");
    for (label, html) in labels {
        assert!(!label.trim().is_empty(), "no name: {html}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_a_phone_has_names_for_all_and_needs_no_mouse() {
    let world = World::start().await;
    world.tabs[0].resize(390, 844).await;
    assert!(!world.tabs[0].scrolls_sideways().await, "empty");
    everything_has_a_name(&world.tabs[0]).await;
    world.meet().await;
    let (one, other) = (&world.tabs[0], &world.tabs[1]);

    // Go from the top of the page to the chat with the keyboard alone.
    one.run("document.activeElement.blur();", vec![]).await;
    for _ in 0..32 {
        one.press(TAB).await;
        let id = one.run("return document.activeElement.id;", vec![]).await;
        if id == json!("words") {
            break;
        }
    }
    one.press("Has anybody seen the drawings?").await;
    one.press(ENTER).await;
    other.until("#log", "Has anybody seen the drawings?").await;
    other.write("#words", "They are on their way to you.").await;
    other.press(ENTER).await;
    one.until("#log", "They are on their way to you.").await;
    // One file has been received, one is being received, and one waits for an answer.
    let file = world.file("site plan.pdf", 3_400_000);
    other.choose(&world.peers[0], &file.path).await;
    one.until_file(file.name, "Do you want it?").await;
    one.click_file(file.name, "accept").await;
    one.until_file(file.name, "Received").await;
    let slow = slow(&world);
    one.until_file("drawings.zip", "Do you want it?").await;
    one.click_file("drawings.zip", "accept").await;
    one.until_file("drawings.zip", "MiB/s").await;
    let file = world.file("minutes of the meeting.txt", 1200);
    other.choose(&world.peers[0], &file.path).await;
    one.until_file(file.name, "Do you want it?").await;
    if let Ok(folder) = std::env::var("STAR_SCREENSHOTS") {
        let way = ".file:has([data-part=progress]:not([hidden])) progress";
        within("some of the file", async {
            while one.value(way).await.parse::<f64>().expect("a number") < 380.0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        pictures(one, Path::new(&folder)).await;
    }

    let long = "averylongwordthatdoesnotendforaverylongtimeandhasnoplacetobreakitatall";
    world.native.say(long).await;
    one.until("#log", long).await;
    let sent = world.native.send(&world.peers[0], long, vec![1; 10]);
    one.until_file(long, "Do you want it?").await;
    for width in [320, 390, 1280] {
        one.resize(width, 844).await;
        assert!(!one.scrolls_sideways().await, "{width} pixels");
    }
    everything_has_a_name(one).await;
    for scheme in ["light", "dark"] {
        one.prefer(scheme).await;
        assert_eq!(one.faint("[disabled]").await, json!([]), "{scheme}");
    }
    one.click_file(long, "decline").await;
    world::sent(sent).await.expect_err("it is declined");
    slow.abort();
    one.until_file("drawings.zip", "The other end has cancelled")
        .await;
    world.end().await;
}

/// Returns the height of the page. Removes the focus, and scrolls the chat to its end.
const HEIGHT: &str = "
    window.scrollTo(0, 0);
    document.activeElement.blur();
    document.getElementById('log').scrollTop = 1e6;
    return document.documentElement.scrollHeight;";

async fn pictures(tab: &Tab, folder: &Path) {
    tab.hide_scrollbars().await;
    for (scheme, mark) in [("light", ""), ("dark", "-dark")] {
        tab.prefer(scheme).await;
        for (name, width) in [("wide", 1280), ("narrow", 390)] {
            tab.resize(width, 600).await;
            // Repeat this, because the content of the page grows with its size.
            for _ in 0..6 {
                let height = tab.run(HEIGHT, vec![]).await.as_u64().expect("a number");
                tab.resize(width, u32::try_from(height).expect("a height"))
                    .await;
            }
            let path = folder.join(format!("{name}{mark}.png"));
            std::fs::write(path, tab.screenshot().await).expect("a place for pictures");
        }
    }
}

/// Sends a file slowly, for as long as the test runs.
fn slow(world: &World) -> tokio::task::JoinHandle<()> {
    let mut streams = world.native.streams.clone();
    let peer = world.peers[0].parse().expect("a peer");
    tokio::spawn(async move {
        let name = Name::new("drawings.zip").expect("a name");
        let stream = streams
            .open_stream(peer, FILES)
            .await
            .expect("it takes files");
        let outgoing = transfer::offer(stream, &name, 140 << 20).await;
        let ended = outgoing.expect("it is accepted").send(&mut Slow(0)).await;
        panic!("the test has taken too long: {ended:?}");
    })
}

/// A source that is fast for the first third of the file, and slow after that.
struct Slow(usize);

impl Source for Slow {
    async fn next(&mut self, most: usize) -> std::io::Result<Vec<u8>> {
        let rest = if self.0 < 54 << 20 { 100 } else { 700 };
        tokio::time::sleep(Duration::from_millis(rest)).await;
        self.0 += most;
        Ok(vec![0; most])
    }
}
