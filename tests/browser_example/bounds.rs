//! Limits on what strangers can do to a page.

use futures::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    behaviours::FILES,
    support::within,
    transfer::{self, Error, MAX_SIZE, Name, Refusal},
    world::{self, World},
};

/// Sends this header, and returns the byte that the receiver answers.
async fn answer(world: &World, header: &[u8]) -> u8 {
    let peer = world.peers[0].parse().expect("a peer");
    let opened = world.native.streams.clone().open_stream(peer, FILES).await;
    let mut stream = opened.expect("it takes files");
    stream.write_all(header).await.expect("it reads");
    stream.flush().await.expect("it reads");
    let mut answer = [0];
    let read = within("the answer", stream.read_exact(&mut answer)).await;
    read.expect("an answer");
    answer[0]
}

fn header(name: &[u8], size: u64) -> Vec<u8> {
    let length = u16::try_from(name.len()).expect("a short name");
    let length = length.to_be_bytes();
    [&[1], length.as_slice(), name, size.to_be_bytes().as_slice()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_offer_is_refused_and_nobody_is_asked() {
    const MALFORMED: u8 = 4;
    let world = World::start().await;
    world.meet().await;
    let long = [b'a'; 256];
    let names: [&[u8]; 11] = [
        b"",
        b".",
        b"..",
        b"../../.profile",
        b"C:\\autoexec.bat",
        b"two\nlines",
        b"nul\0.txt",
        b" .txt",
        b"\xff\xfe",
        "picture\u{202e}gpj.exe".as_bytes(),
        &long,
    ];
    for name in names {
        let answered = answer(&world, &header(name, 10)).await;
        assert_eq!(answered, MALFORMED, "{name:?}");
    }
    let answered = answer(&world, &header(b"large.bin", MAX_SIZE + 1)).await;
    assert_eq!(answered, MALFORMED);
    let answered = answer(&world, &[9, 0, 1, b'a', 0, 0, 0, 0, 0, 0, 0, 1]).await;
    assert_eq!(answered, MALFORMED);
    let tab = &world.tabs[0];
    assert_eq!(tab.count(".file").await, 0);
    tab.until("#log", "was refused").await;

    // A name that looks like HTML is shown as text.
    let name = "<img src=x onerror=document.title='taken'>.txt";
    let sending = world.native.send(&world.peers[0], name, b"text".to_vec());
    tab.until_file(name, "Do you want it?").await;
    assert_eq!(tab.count("img").await, 0);
    tab.click_file(name, "accept").await;
    world::sent(sending).await.expect("it is stored");
    tab.until_file(name, "Received").await;
    assert_eq!(
        tab.run("return document.title;", vec![]).await,
        "A libp2p node in a tab"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_two_offers_at_once_at_most() {
    let world = World::start().await;
    world.meet().await;
    let tab = &world.tabs[0];
    let offer = |name: &'static str| world.native.send(&world.peers[0], name, vec![1; 10]);
    let (first, second) = (offer("first.bin"), offer("second.bin"));
    tab.until_file("first.bin", "Do you want it?").await;
    tab.until_file("second.bin", "Do you want it?").await;
    let third = world::sent(offer("third.bin")).await;
    assert!(
        matches!(third, Err(Error::Refused(Refusal::Busy))),
        "{third:?}"
    );
    tab.click_file("first.bin", "decline").await;
    let declined = world::sent(first).await;
    assert!(
        matches!(declined, Err(Error::Refused(Refusal::Declined))),
        "{declined:?}"
    );
    let again = offer("again.bin");
    tab.until_file("again.bin", "Do you want it?").await;
    tab.click_file("again.bin", "accept").await;
    world::sent(again).await.expect("it is stored");
    tab.click_file("second.bin", "accept").await;
    world::sent(second).await.expect("it is stored");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_stops_reading_stops_the_page_and_either_may_cancel() {
    let mut world = World::start().await;
    world.meet().await;
    let path = world.empty_file("stopped.bin", 4 << 30);
    let tab = &world.tabs[0];
    tab.choose(&world.native.name(), &path).await;
    let offer = world.native.offer().await;
    let held = tokio::spawn(async move { offer.receive(&mut Stuck).await });
    let tab = &world.tabs[0];
    tab.until_file("stopped.bin", "MiB/s").await;
    let stopped = within("the page to stop", async {
        let mut before = String::new();
        loop {
            let state = tab.state_of("stopped.bin").await;
            if state == before {
                return state;
            }
            before = state;
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        }
    })
    .await;
    assert!(stopped.contains(" 0.0 MiB/s"), "{stopped}");
    let (taken, unit) = stopped.split_once(' ').expect("a number and its unit");
    let taken: f64 = taken.parse().expect("a number");
    let little = unit.starts_with("KiB") || (unit.starts_with("MiB") && taken < 32.0);
    assert!(little, "{stopped}");
    held.abort();
    tab.until_file("stopped.bin", "The other end has cancelled")
        .await;

    let name = Name::new("stalled.bin").expect("a name");
    let mut streams = world.native.streams.clone();
    let peer = world.peers[0].parse().expect("a peer");
    let stream = streams
        .open_stream(peer, FILES)
        .await
        .expect("it takes files");
    let sending = tokio::spawn(async move {
        let outgoing = transfer::offer(stream, &name, 1 << 30).await?;
        outgoing.send(&mut Stuck).await
    });
    tab.until_file("stalled.bin", "Do you want it?").await;
    tab.click_file("stalled.bin", "accept").await;
    tab.until_file("stalled.bin", "of 1.0 GiB").await;
    tab.click_file("stalled.bin", "cancel").await;
    tab.until_file("stalled.bin", "You have cancelled").await;
    let cancelled = world::sent(sending).await;
    assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_closed_page_has_received_is_removed() {
    const SESSIONS: &str = "return (async () => {
        const root = await navigator.storage.getDirectory();
        const sessions = await root.getDirectoryHandle('star-example');
        const found = [];
        for await (const [name, folder] of sessions.entries())
            for await (const file of folder.keys()) found.push(`${name}/${file}`);
        return found;
    })();";
    let world = World::start().await;
    world.meet().await;
    let tab = &world.tabs[0];
    let sending = world
        .native
        .send(&world.peers[0], "left.bin", vec![1; 1000]);
    tab.until_file("left.bin", "Do you want it?").await;
    tab.click_file("left.bin", "accept").await;
    world::sent(sending).await.expect("it is stored");
    tab.until_file("left.bin", "Received").await;
    let left = format!("{}/1", world.peers[0]);
    assert_eq!(tab.run(SESSIONS, vec![]).await, serde_json::json!([left]));
    tab.reload("").await;
    within("what is left to be removed", async {
        while tab.run(SESSIONS, vec![]).await != serde_json::json!([]) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_without_a_place_for_files_says_so_and_takes_none() {
    let world = World::start().await;
    let tab = &world.tabs[0];
    let peer = tab
        .reload("delete StorageManager.prototype.getDirectory;")
        .await;
    tab.until("#log", "This browser cannot store files from others")
        .await;
    world.native.until_here(&peer).await;
    let refused = world::sent(world.native.send(&peer, "a.bin", vec![1; 10])).await;
    assert!(
        matches!(refused, Err(Error::Refused(Refusal::NoPlace))),
        "{refused:?}"
    );
    tab.until("#log", "has offered a file").await;
    assert_eq!(tab.count(".file").await, 0);
    world.end().await;
}

/// A source that gives nothing, and a sink that accepts nothing.
struct Stuck;

impl transfer::Sink for Stuck {
    async fn write(&mut self, _: &[u8]) -> std::io::Result<()> {
        std::future::pending().await
    }

    async fn finish(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl transfer::Source for Stuck {
    async fn next(&mut self, _: usize) -> std::io::Result<Vec<u8>> {
        std::future::pending().await
    }
}
