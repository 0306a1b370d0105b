//! The look of the page, and its use without a mouse or without a screen.
//!
//! If `STAR_SCREENSHOTS` is set to a folder, a picture of the page is written there. The picture shows some minutes
//! of activity, so that takes some minutes.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::Limits;
use serde_json::json;

use crate::{
    World, button,
    client::{self, Client, dial, dialled},
    id, joined,
    support::within,
    tab::{ENTER, TAB, Tab},
};

/// The time of activity before a picture is taken.
const BEFORE_PICTURE: Duration = Duration::from_secs(330);

/// Collects everything that the page's content security policy blocks.
const WATCH: &str = "
    window.violations = [];
    document.addEventListener('securitypolicyviolation', e => violations.push(e.violatedDirective + ' ' + e.blockedURI));
    window.addEventListener('error', e => violations.push(e.message));";

async fn violations(tab: &Tab) -> serde_json::Value {
    tab.run("return window.violations;", vec![]).await
}

async fn watch(world: &World) {
    world
        .tab
        .tell(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({ "source": WATCH }),
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_keeps_to_its_own_policy_which_stops_what_is_not_its_own() {
    let world = World::start().await;
    watch(&world).await;
    world.log_in().await;
    let (tab, key) = (&world.tab, Keypair::generate_ed25519());
    let _client = joined(&world.server, &key).await;
    tab.find(&button("Ban", &key)).await;
    tab.until("#state", "live").await;
    tab.until("#pictures", "Peers at most 1").await;
    assert_eq!(violations(tab).await, json!([]));
    let foreign = "
        const script = document.createElement('script');
        script.textContent = 'window.wasRun = true';
        document.body.append(script);
        document.body.style.setProperty('color', 'red');
        const image = new Image();
        image.src = 'http://127.0.0.1:1/x.png';
        await fetch('http://127.0.0.1:1/').catch(() => {});
        return window.wasRun === undefined;";
    assert_eq!(tab.run(foreign, vec![]).await, json!(true));
    within("what is stopped", async {
        loop {
            let found = violations(tab).await.to_string();
            let all = ["script-src-elem inline", "img-src http", "connect-src http"];
            if all.iter().all(|part| found.contains(part)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    world.end().await;
}

/// Presses the tabulator key until the element for this selector has the focus.
async fn tab_to(tab: &Tab, selector: &str) {
    let script = "return document.activeElement.matches(arguments[0]);";
    for _ in 0..40 {
        if tab.run(script, vec![json!(selector)]).await == json!(true) {
            return;
        }
        tab.press(TAB).await;
    }
    panic!("no key leads to {selector}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_is_enough_and_the_focus_stays_where_it_is() {
    let world = World::start().await;
    let (tab, key) = (&world.tab, Keypair::generate_ed25519());
    let mut client = joined(&world.server, &key).await;
    // The focus is there when the page opens.
    tab_to(tab, "#token").await;
    tab.press(crate::TOKEN).await;
    tab.press(ENTER).await;
    tab.find("#figures").await;
    tab.until("#state", "live").await;
    tab_to(tab, &button("Disconnect", &key)).await;
    // Other peers join in the meantime, but the list does not change while it has the focus.
    let other = Keypair::generate_ed25519();
    let _other = joined(&world.server, &other).await;
    tab.until("#figures", "Peers2").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let has_focus = "return document.activeElement.matches(arguments[0]);";
    let focus = vec![json!(button("Disconnect", &key))];
    assert_eq!(tab.run(has_focus, focus).await, json!(true));
    tab.press(ENTER).await;
    client.closed().await.expect("a reason");
    tab.until("#news", "Disconnected").await;
    tab_to(tab, &button("Ban", &other)).await;
    tab.press(ENTER).await;
    tab.until("#news", "Banned").await;
    tab_to(tab, &button("Unban", &other)).await;
    tab.press(ENTER).await;
    tab.until("#news", "Unbanned").await;
    tab_to(tab, "header form button").await;
    tab.press(ENTER).await;
    tab.find("#token").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_by_itself_can_be_stopped_by_keyboard_and_the_state_is_told_once() {
    let world = World::start().await;
    let tab = &world.tab;
    world.log_in().await;
    tab.until("#state", "live").await;
    let watch = "
        window.told = [];
        const state = document.getElementById('state');
        new MutationObserver(() => told.push(state.textContent)).observe(state, { childList: true });";
    tab.run(watch, vec![]).await;
    tab.until("#figures", "Peers0").await;
    let _one = joined(&world.server, &Keypair::generate_ed25519()).await;
    tab.until("#figures", "Peers1").await;
    tab_to(tab, "#pause").await;
    tab.press(ENTER).await;
    tab.until("#state", "paused").await;
    assert_eq!(tab.text("#pause").await, "Resume");
    let before = tab.text("main").await;
    let _other = joined(&world.server, &Keypair::generate_ed25519()).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(tab.text("main").await, before);
    tab.press(ENTER).await;
    tab.until("#figures", "Peers2").await;
    tab.until("#state", "live").await;
    assert_eq!(tab.text("#pause").await, "Pause");
    let told = tab.run("return window.told;", vec![]).await;
    assert_eq!(told, json!(["paused", "not live", "live"]));
    world.end().await;
}

/// Returns the roles of these elements for screen readers.
async fn roles(tab: &Tab, selector: &str) -> Vec<String> {
    let mut roles = tab.roles(selector).await;
    roles.dedup();
    roles
}

async fn has_names(tab: &Tab) {
    // Leave out elements that may be replaced in the meantime.
    let controls = "a[href]:not(#users a), button, input:not([type=hidden]), section, nav";
    let labels = tab.labels(controls).await;
    for (label, html) in &labels {
        assert!(!label.trim().is_empty(), "no name: {html}");
    }
    // Each button must have a name that makes sense alone, for users who hear them one by one.
    let buttons = tab.labels(".peers button, .bans button").await;
    for (label, html) in buttons {
        assert!(label.contains("12D3KooW"), "of which peer: {label} {html}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_a_phone_has_names_for_all_and_can_be_read_by_day_and_by_night() {
    // No client here sends heartbeats or reads everything that it gets.
    let limits = Limits::default().with_stall_timeout(Duration::MAX);
    let config = client::config().with_limits(limits);
    let world = World::with(config.with_ping_interval(Duration::MAX)).await;
    let tab = &world.tab;
    tab.resize(360, 740).await;
    assert!(!tab.scrolls_sideways().await, "to log in");
    has_names(tab).await;
    world.log_in().await;
    let (mut dialer, mut listener) = dialled(&world.server).await;
    dialer.item("d.dialer", &[7; 5000]).await;
    listener.expect_item("d.dialer", &[7; 5000]).await;
    dialer.request(json!(["no such request"])).await;
    let banned = Keypair::generate_ed25519();
    tab.write("#peer", &id(&banned)).await;
    tab.press(ENTER).await;
    tab.until("#news", "Banned").await;
    tab.until("#users", "4.88 KiB").await;
    tab.until("#refusals", "unknown request").await;
    for width in [320, 360, 768, 1280] {
        tab.resize(width, 740).await;
        assert!(!tab.scrolls_sideways().await, "{width} pixels");
    }
    has_names(tab).await;
    // Pause the page, so that nothing is replaced in the meantime.
    tab.click("#pause").await;
    tab.until("#state", "paused").await;
    for width in [360, 1280] {
        tab.resize(width, 740).await;
        for (selector, role) in [
            (".peers", "table"),
            (".peers tbody tr", "row"),
            (".peers tbody th", "rowheader"),
            (".peers td", "cell"),
            ("#refusals td", "cell"),
            ("#refusals tbody tr", "row"),
        ] {
            assert_eq!(roles(tab, selector).await, [role], "{selector} at {width}");
        }
    }
    let told = "return [...document.querySelectorAll('svg[role=img]')].map(e => e.ariaLabel);";
    let told = tab.run(told, vec![]).await;
    assert_eq!(told.as_array().map(Vec::len), Some(4));
    assert_eq!(told[1], "Peers in the last hour: 2 now, 2 at most");
    let users = "return [...document.querySelectorAll('#users a')].map(e => e.textContent);";
    let users = tab.run(users, vec![]).await;
    let (_, sender) = dialer.address.rsplit_once('/').expect("an id");
    assert_eq!(users, json!([sender]));
    for scheme in ["light", "dark"] {
        tab.prefer(scheme).await;
        assert_eq!(tab.faint("script").await, json!([]), "{scheme}");
    }
    tab.prefer("light").await;
    if let Ok(folder) = std::env::var("STAR_SCREENSHOTS") {
        picture(&world, Path::new(&folder), &mut dialer, &mut listener).await;
    }
    world.end().await;
}

/// Generates activity for a while, and takes the picture for the README.
async fn picture(world: &World, folder: &Path, dialer: &mut Client, listener: &mut Client) {
    let tab = &world.tab;
    tab.hide_scrollbars().await;
    tab.resize(1180, 680).await;
    let began = Instant::now();
    let mut pairs: Vec<[Client; 2]> = Vec::new();
    let item = vec![7; 200_000];
    while began.elapsed() < BEFORE_PICTURE {
        let second = began.elapsed().as_secs();
        // The amount varies, so that the graphs show something.
        for _ in 0..2 + second % 97 / 8 + second % 41 / 5 {
            dialer.item("d.dialer", &item).await;
            listener.expect_item("d.dialer", &item).await;
        }
        match second % 75 {
            0..50 if pairs.len() < 20 => {
                let mut one = Client::joined(&world.server).await;
                let mut other = Client::joined(&world.server).await;
                let dial_id = format!("{second}-{}", pairs.len());
                dial(&mut one, &mut other, &dial_id).await;
                one.item(&format!("{dial_id}.dialer"), &item).await;
                pairs.push([one, other]);
            }
            _ => drop(pairs.pop()),
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    tab.click("header a").await;
    tab.until("#state", "live").await;
    tab.run("scrollTo(0, 0); document.activeElement.blur();", vec![])
        .await;
    let path = folder.join("admin.png");
    std::fs::write(path, tab.screenshot().await).expect("a place for pictures");
}
