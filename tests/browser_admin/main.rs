//! The operator's page in Chromium, with a driver that clicks and types.

#[path = "../browser/chromium.rs"]
mod chromium;
#[path = "../support/client.rs"]
mod client;
mod crowd;
mod looks;
#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../browser_example/tab.rs"]
mod tab;

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Admin, Config, Server};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use chromium::Driver;
use client::Client;
use tab::{ENTER, Tab};

const TOKEN: &str = "a-token+that/nobody~guesses==";

/// Allows one world at a time, because browsers need the whole machine.
static TURN: Mutex<()> = Mutex::const_new(());

/// A rendezvous, and a browser that shows its page.
struct World {
    server: Server,
    tab: Tab,
    _folder: TempDir,
    _driver: Driver,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    async fn start() -> Self {
        Self::with(client::config()).await
    }

    async fn with(config: Config) -> Self {
        let turn = TURN.lock().await;
        let admin = Admin::new(&TOKEN.parse().expect("a token")).expect("it is long");
        let server = Server::bind(config.with_admin(admin)).await;
        let server = server.expect("a free port");
        let driver = Driver::start().await.expect("a driver");
        let folder = tempfile::tempdir().expect("a folder");
        let page = format!("http://{}/admin", server.local_addr());
        let tab = tab::open(&driver, &page, folder.path()).await;
        Self {
            server,
            tab,
            _folder: folder,
            _driver: driver,
            _turn: turn,
        }
    }

    async fn log_in(&self) {
        self.tab.write("#token", TOKEN).await;
        self.tab.click(".login button").await;
        self.tab.find("#figures").await;
    }

    async fn end(self) {
        self.tab.close().await;
        self.server.shutdown().await;
    }
}

fn id(key: &Keypair) -> String {
    key.public().to_peer_id().to_base58()
}

async fn joined(server: &Server, key: &Keypair) -> Client {
    let mut client = Client::connect(server).await;
    client.join(key).await;
    client
}

/// Returns the selector of the button for this action on a peer.
fn button(action: &str, key: &Keypair) -> String {
    format!("button[aria-label='{action} {}']", id(key))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_logs_in_sees_a_peer_come_and_disconnects_bans_and_unbans_it() {
    let world = World::start().await;
    let (tab, server) = (&world.tab, &world.server);
    tab.write("#token", "another-token-that-is-wrong").await;
    tab.press(ENTER).await;
    tab.until("#problem", "That is not the token.").await;
    world.log_in().await;
    tab.until("#state", "live").await;
    assert_eq!(
        tab.text("#peers").await.trim(),
        "No peer has joined, or none matches the search."
    );

    // The page shows the peer without a reload.
    let key = Keypair::generate_ed25519();
    let mut client = joined(server, &key).await;
    tab.until("#figures", "Peers1").await;
    tab.click(&button("Disconnect", &key)).await;
    client.closed().await.expect("a reason");
    tab.until(
        "#news",
        &format!("Disconnected {}: 1 link was closed.", id(&key)),
    )
    .await;

    let mut client = joined(server, &key).await;
    tab.click(&button("Ban", &key)).await;
    client.closed().await.expect("a reason");
    tab.until("#news", &format!("Banned {}: 1 link was closed.", id(&key)))
        .await;
    let mut client = Client::connect(server).await;
    let ack = client.prove(&key).await;
    assert_eq!(
        client.answer(ack).await,
        json!(["Not allowed: you are banned"])
    );

    tab.click(&button("Unban", &key)).await;
    tab.until("#news", &format!("Unbanned {}.", id(&key))).await;
    let client = joined(server, &key).await;
    // The peer leaves, and the page shows that too.
    tab.find(&button("Ban", &key)).await;
    drop(client);
    tab.until_gone(&button("Ban", &key)).await;

    // A peer that is not connected can be banned by its id.
    tab.write("#peer", &id(&key)).await;
    tab.press(ENTER).await;
    tab.until(
        "#news",
        &format!("Banned {}: 0 links were closed.", id(&key)),
    )
    .await;
    tab.write("#id", "12D3KooWnobody").await;
    tab.press(ENTER).await;
    tab.until("main", "No banned peer has an id that begins like this.")
        .await;

    tab.click("header form button").await;
    tab.find("#token").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_script_all_can_be_done_with_forms() {
    let world = World::start().await;
    let (tab, server) = (&world.tab, &world.server);
    let key = Keypair::generate_ed25519();
    let mut client = joined(server, &key).await;
    tab.tell(
        "Emulation.setScriptExecutionDisabled",
        json!({ "value": true }),
    )
    .await;
    world.log_in().await;
    assert_eq!(tab.text("#state").await, "not live");
    tab.click(&button("Ban", &key)).await;
    client.closed().await.expect("a reason");
    tab.click(&button("Unban", &key)).await;
    tab.until("#news", &format!("Unbanned {}.", id(&key))).await;
    let _client = joined(server, &key).await;
    tab.click("header a").await;
    tab.find(&button("Disconnect", &key)).await;
    tab.click("header form button").await;
    tab.find("#token").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_session_or_server_is_gone_says_so() {
    let world = World::start().await;
    world.log_in().await;
    world.tab.until("#state", "live").await;
    // Log out as if from another window.
    let out =
        "const form = new URLSearchParams({ form: document.querySelector('[name=form]').value });
        return fetch('/admin/logout', { method: 'POST', body: form }).then(r => r.status);";
    assert_eq!(world.tab.run(out, vec![]).await, json!(200));
    world
        .tab
        .until("#state", "you are logged out: reload")
        .await;
    world.tab.click("header a").await;
    world.log_in().await;
    world.tab.until("#state", "live").await;
    let World {
        server, tab, _turn, ..
    } = world;
    server.shutdown().await;
    tab.until("#state", "not live: trying again").await;
    tab.close().await;
}
