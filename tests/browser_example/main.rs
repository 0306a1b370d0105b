//! The page of `examples/browser` in Chromium, with a driver that clicks and types. Two tabs and a native node find
//! each other, chat, and exchange files.

#[allow(dead_code, reason = "the page uses all of it")]
#[path = "../../examples/browser/src/behaviours.rs"]
mod behaviours;
mod bounds;
#[path = "../browser/chromium.rs"]
mod chromium;
#[path = "../swarm/example.rs"]
mod example;
#[path = "../../examples/browser/src/files.rs"]
mod files;
mod looks;
mod native;
mod protocol;
#[path = "../../examples/browser/src/site.rs"]
mod site;
#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "each test target uses its own part")]
mod tab;
mod terminal;
#[allow(dead_code, reason = "the page uses all of it")]
#[path = "../../examples/browser/src/transfer.rs"]
mod transfer;
mod world;

use tab::ENTER;
use world::{LARGE, World};

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_and_a_native_node_find_each_other_and_chat() {
    let mut world = World::start().await;
    world.meet().await;
    let (one, other) = (&world.tabs[0], &world.tabs[1]);
    for peer in [world.peers[1].as_str(), &world.native.name()] {
        one.until(&one.peer(peer), " ms").await;
    }

    one.write("#words", "from one tab").await;
    one.press(ENTER).await;
    other.write("#words", "from the other").await;
    other.click("#send").await;
    world.native.say("from <b>the</b> native one").await;

    one.until("#log", "from the other").await;
    one.until("#log", "from <b>the</b> native one").await;
    other.until("#log", "from one tab").await;
    other.until("#log", "from <b>the</b> native one").await;
    world.native.until_heard("from one tab").await;
    world.native.until_heard("from the other").await;
    assert_eq!(one.count("#log b").await, 0, "what others say is text");
    assert_eq!(one.value("#words").await, "", "what was sent is gone");

    world.tabs.remove(1).close().await;
    let gone = world.tabs[0].peer(&world.peers[1]);
    world.tabs[0].until_gone(&gone).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_is_shown_and_all_meet_again_afterwards() {
    let mut world = World::start().await;
    world.meet().await;
    world.stop_server().await;
    for tab in &world.tabs {
        tab.until("#state", "Joining again").await;
        tab.until("#log", "has left").await;
    }
    world.start_server_again().await;
    for (tab, peer) in world.tabs.iter().zip([&world.peers[1], &world.peers[0]]) {
        tab.until("#state", "Joined").await;
        tab.until(&tab.peer(peer), " ms").await;
    }
    let (one, other) = (&world.tabs[0], &world.tabs[1]);
    one.write_until_sent("here again").await;
    other.until("#log", "here again").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_64_mib_arrive_as_they_were() {
    let mut world = World::start().await;
    world.meet().await;
    let file = world.file("to a tab.bin", LARGE);
    let (one, other) = (&world.tabs[0], &world.tabs[1]);
    one.choose(&world.peers[1], &file.path).await;
    one.until_file(file.name, "Waiting for an answer").await;
    other.until_file(file.name, "Do you want it?").await;
    other.click_file(file.name, "accept").await;
    one.until_file(file.name, "Sent").await;
    other.until_file(file.name, "Received").await;
    other.click_file(file.name, "save").await;
    assert!(other.downloaded(file.name, LARGE).await == file.bytes());
    println!("tab to tab: {}", other.state_of(file.name).await);

    let file = world.file("to the native node.bin", LARGE);
    let name = world.native.name();
    world.tabs[0].choose(&name, &file.path).await;
    let received = world.native.accept().await;
    assert_eq!(received.name, file.name);
    assert!(received.bytes == file.bytes());
    world.tabs[0].until_file(file.name, "Sent").await;
    println!("tab to native: {}", world.tabs[0].state_of(file.name).await);

    let file = world.file("from the native node.bin", LARGE);
    let sent = world.native.send(&world.peers[0], file.name, file.bytes());
    let one = &world.tabs[0];
    one.until_file(file.name, "Do you want it?").await;
    one.click_file(file.name, "accept").await;
    world::sent(sent).await.expect("it is stored");
    one.until_file(file.name, "Received").await;
    one.click_file(file.name, "save").await;
    assert!(one.downloaded(file.name, LARGE).await == file.bytes());
    println!("native to tab: {}", one.state_of(file.name).await);
    one.click_file(file.name, "remove").await;
    one.until_gone("#files [data-part=save]").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn either_end_may_cancel_and_the_next_transfer_works() {
    let world = World::start().await;
    world.meet().await;
    let (one, other) = (&world.tabs[0], &world.tabs[1]);
    // The files are long enough to be cancelled during the transfer.
    for (name, by_sender) in [("by the sender.bin", true), ("by the receiver.bin", false)] {
        let path = world.empty_file(name, 4 << 30);
        one.choose(&world.peers[1], &path).await;
        other.until_file(name, "Do you want it?").await;
        other.click_file(name, "accept").await;
        one.until_file(name, "MiB/s").await;
        other.until_file(name, "MiB/s").await;
        let (here, there) = match by_sender {
            true => (one, other),
            false => (other, one),
        };
        here.click_file(name, "cancel").await;
        here.until_file(name, "You have cancelled").await;
        there.until_file(name, "The other end has cancelled").await;
    }

    let path = world.empty_file("taken back.bin", 10);
    one.choose(&world.peers[1], &path).await;
    other.until_file("taken back.bin", "Do you want it?").await;
    one.click_file("taken back.bin", "cancel").await;
    other
        .until_file("taken back.bin", "The other end has cancelled")
        .await;

    let path = world.empty_file("declined.bin", 10);
    one.choose(&world.peers[1], &path).await;
    other.until_file("declined.bin", "Do you want it?").await;
    other.click_file("declined.bin", "decline").await;
    other.until_file("declined.bin", "You have declined").await;
    one.until_file("declined.bin", "Declined").await;

    let file = world.file("afterwards.bin", 1 << 20);
    one.choose(&world.peers[1], &file.path).await;
    other.until_file(file.name, "Do you want it?").await;
    other.click_file(file.name, "accept").await;
    one.until_file(file.name, "Sent").await;
    other.until_file(file.name, "Received").await;
    other.click_file(file.name, "save").await;
    assert!(other.downloaded(file.name, 1 << 20).await == file.bytes());
    world.end().await;
}
