//! A tab, and the actions of a person who uses it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::Method;
use fantoccini::{
    Client, Locator,
    actions::{InputSource as _, KeyAction, KeyActions},
    elements::Element,
    wd::WebDriverCompatibleCommand,
};
use serde_json::{Map, Value, json};

use crate::{
    chromium::{DevTools, Driver, OPTIONS},
    support::within,
};

const LOOK: Duration = Duration::from_millis(50);

/// Keys without a character, in the encoding of drivers.
pub const ENTER: &str = "\u{e007}";
pub const TAB: &str = "\u{e004}";

/// Returns the visible texts whose contrast with their background is less than 4.5, except for elements that match a
/// selector.
const FAINT: &str = "
    const light = colour => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255)
            .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const ground = element => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if (!/, 0\\)$/.test(colour)) return colour;
        }
    };
    const hasText = element => [...element.childNodes]
        .some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    return [...document.body.querySelectorAll('*')]
        .filter(element => hasText(element) && element.checkVisibility() && !element.matches(arguments[0]))
        .map(element => {
            const pair = [getComputedStyle(element).color, ground(element)];
            const [less, more] = pair.map(light).sort((one, other) => one - other);
            return [element.textContent, ...pair, (more + 0.05) / (less + 0.05)];
        })
        .filter(found => found[3] < 4.5);";

/// Opens a page in a browser of its own, which saves files in this folder.
pub async fn open(driver: &Driver, page: &str, downloads: &Path) -> Tab {
    let options = json!({
        "prefs": {
            "download.default_directory": downloads,
            "download.prompt_for_download": false,
        },
    });
    let options = Map::from_iter([(OPTIONS.to_owned(), options)]);
    let client = driver.browser(options).await;
    let tab = Tab {
        client: client.expect("a browser"),
        downloads: downloads.to_owned(),
    };
    tab.client.goto(page).await.expect("the page");
    tab
}

pub struct Tab {
    client: Client,
    downloads: PathBuf,
}

impl Tab {
    /// Runs a script, and returns its result.
    pub async fn run(&self, script: &str, args: Vec<Value>) -> Value {
        // If the result is a promise, the driver waits for it.
        let ran = within("the page", self.client.execute(script, args)).await;
        ran.expect("the script runs")
    }

    /// Returns whether anything is wider than the page.
    pub async fn scrolls_sideways(&self) -> bool {
        let script = "return document.documentElement.scrollWidth > innerWidth;";
        self.run(script, vec![]).await == json!(true)
    }

    /// Returns the texts that are hard to read, except for elements that match this selector.
    pub async fn faint(&self, left_out: &str) -> Value {
        self.run(FAINT, vec![json!(left_out)]).await
    }

    /// Waits for an element that matches this selector, and returns the first one.
    pub async fn find(&self, selector: &str) -> Element {
        let found = self.client.wait().at_most(crate::support::PATIENCE);
        let found = found.for_element(Locator::Css(selector)).await;
        found.unwrap_or_else(|error| panic!("{selector}: {error}"))
    }

    pub async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        let clicked = element.click().await;
        clicked.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    pub async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        let written = element.send_keys(text).await;
        written.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Presses keys, wherever the focus is.
    pub async fn press(&self, keys: &str) {
        let keyboard = KeyActions::new("keyboard".to_owned());
        let keys = keys.chars().fold(keyboard, |pressed, value| {
            let down = pressed.then(KeyAction::Down { value });
            down.then(KeyAction::Up { value })
        });
        let pressed = self.client.perform_actions(keys).await;
        pressed.expect("a keyboard");
    }

    /// Sends a chat message, and repeats that until somebody is there to receive it.
    pub async fn write_until_sent(&self, words: &str) {
        self.write("#words", words).await;
        within("somebody to hear it", async {
            while !self.value("#words").await.is_empty() {
                self.click("#send").await;
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }

    pub async fn count(&self, selector: &str) -> u64 {
        let script = "return document.querySelectorAll(arguments[0]).length;";
        let count = self.run(script, vec![json!(selector)]).await;
        count.as_u64().expect("a number")
    }

    pub async fn value(&self, selector: &str) -> String {
        let script = "return String(document.querySelector(arguments[0]).value);";
        let value = self.run(script, vec![json!(selector)]).await;
        value.as_str().expect("text").to_owned()
    }

    pub async fn text(&self, selector: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.textContent ?? '';";
        let text = self.run(script, vec![json!(selector)]).await;
        text.as_str().expect("text").to_owned()
    }

    /// Waits until the element for this selector contains these words.
    pub async fn until(&self, selector: &str, words: &str) {
        let seen = async {
            while !self.text(selector).await.contains(words) {
                assert_eq!(self.text("#fault").await, "", "the page has stopped");
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(crate::support::PATIENCE, seen)
            .await
            .is_err()
        {
            let page = self.text("body").await;
            panic!("waited in vain for {words:?} in {selector}; the page says {page}");
        }
    }

    /// Waits until no visible element matches this selector.
    pub async fn until_gone(&self, selector: &str) {
        let script =
            "return [...document.querySelectorAll(arguments[0])].some(e => e.checkVisibility());";
        within(selector, async {
            while self.run(script, vec![json!(selector)]).await == json!(true) {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }

    /// Returns the selector of a peer's state in the list.
    pub fn peer(&self, peer: &str) -> String {
        format!(".peer:has([title={peer:?}]) [data-part=state]")
    }

    /// Chooses a file to send to a peer.
    pub async fn choose(&self, peer: &str, path: &Path) {
        let input = format!("[data-part=send]:not([hidden]) [data-peer={peer:?}]");
        self.write(&input, path.to_str().expect("text")).await;
    }

    /// Waits until the row of a file shows these words.
    pub async fn until_file(&self, name: &str, words: &str) {
        self.mark(name).await;
        self.until(&format!("[data-test={name:?}] [data-part=state]"), words)
            .await;
    }

    pub async fn state_of(&self, name: &str) -> String {
        self.text(&format!("[data-test={name:?}] [data-part=state]"))
            .await
    }

    pub async fn click_file(&self, name: &str, part: &str) {
        self.mark(name).await;
        self.click(&format!("[data-test={name:?}] [data-part={part}]"))
            .await;
    }

    /// Waits for the row of a file, and marks it so that it can be found.
    async fn mark(&self, name: &str) {
        let script = "for (const row of document.querySelectorAll('.file'))
                if (row.querySelector('[data-part=name]').textContent === arguments[0]) {
                    row.dataset.test = arguments[0];
                    return true;
                }
            return false;";
        within(name, async {
            while self.run(script, vec![json!(name)]).await != json!(true) {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }

    /// Waits until the browser has saved a whole file, and returns its content.
    pub async fn downloaded(&self, name: &str, bytes: usize) -> Vec<u8> {
        let path = self.downloads.join(name);
        within(name, async {
            loop {
                match tokio::fs::read(&path).await {
                    Ok(file) if file.len() == bytes => return file,
                    _ => tokio::time::sleep(LOOK).await,
                }
            }
        })
        .await
    }

    /// Reloads the page with this script before its own. Returns the page's new peer id.
    pub async fn reload(&self, before: &str) -> String {
        self.tell(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({ "source": before }),
        )
        .await;
        self.client.refresh().await.expect("the page");
        self.joined().await
    }

    /// Waits until the page has joined, and returns its peer id.
    pub async fn joined(&self) -> String {
        self.until("#state", "Joined").await;
        let address = self.text("#address").await;
        let (_, peer) = address.rsplit_once("/p2p/").expect("a peer's address");
        peer.to_owned()
    }

    /// Sets the size of the page in pixels.
    pub async fn resize(&self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Sets the preferred colour scheme, `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.tell("Emulation.setEmulatedMedia", features).await;
    }

    /// Hides the scrollbars, as a phone does.
    pub async fn hide_scrollbars(&self) {
        self.tell("Emulation.setScrollbarsHidden", json!({ "hidden": true }))
            .await;
    }

    pub async fn screenshot(&self) -> Vec<u8> {
        self.client.screenshot().await.expect("a picture")
    }

    /// Returns the accessible name of each visible element for this selector, with its HTML.
    pub async fn labels(&self, selector: &str) -> Vec<(String, String)> {
        self.computed("computedlabel", selector).await
    }

    /// Returns the accessible role of each visible element for this selector.
    pub async fn roles(&self, selector: &str) -> Vec<String> {
        let roles = self.computed("computedrole", selector).await;
        roles.into_iter().map(|(role, _)| role).collect()
    }

    async fn computed(&self, what: &'static str, selector: &str) -> Vec<(String, String)> {
        let elements = self.client.find_all(Locator::Css(selector)).await;
        let mut all = Vec::new();
        for element in elements.expect("a selector") {
            if !element.is_displayed().await.expect("it is there") {
                continue;
            }
            let asked = Computed {
                what,
                element: element.element_id().to_string(),
            };
            let computed = self.client.issue_cmd(asked).await.expect("a text");
            let html = element.html(false).await.expect("it is there");
            all.push((computed.as_str().unwrap_or_default().to_owned(), html));
        }
        all
    }

    /// Sends the browser a command of the DevTools protocol, for what a page cannot do.
    pub async fn tell(&self, command: &'static str, params: Value) {
        let told = self.client.issue_cmd(DevTools { command, params });
        within("the browser", told).await.expect(command);
    }

    /// Closes the tab's browser.
    pub async fn close(self) {
        let closed = within("the browser's end", self.client.close()).await;
        closed.expect("it ends");
    }
}

/// A request for the accessible name of an element, or for its role.
#[derive(Debug)]
struct Computed {
    what: &'static str,
    element: String,
}

impl WebDriverCompatibleCommand for Computed {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        let Self { what, element } = self;
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/element/{element}/{what}"))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::GET, None)
    }
}
