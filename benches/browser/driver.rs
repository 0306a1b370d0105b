//! Control of the browser's pages.

use std::time::Duration;

use fantoccini::{Client, wd::WindowHandle};
use serde_json::{Map, Value, json};

use crate::{Result, chromium::Driver};

/// The longest time that a script may take.
const SCRIPT: Duration = Duration::from_secs(60);

pub struct Browser {
    client: Client,
    /// An empty window that stays open: the driver has to be in some window when it opens another one.
    first: WindowHandle,
}

/// A window of the browser, with one page.
pub struct Window(WindowHandle);

impl Browser {
    /// Starts a browser with a profile of its own.
    pub async fn start(driver: &Driver) -> Result<Self> {
        let timeouts = json!({ "script": SCRIPT.as_millis() });
        let wanted = Map::from_iter([("timeouts".to_owned(), timeouts)]);
        let client = driver.browser(wanted).await?;
        let first = client.window().await?;
        Ok(Self { client, first })
    }

    /// Returns the name and the version of the browser.
    pub fn name(&self) -> String {
        let told = self.client.capabilities();
        let told = |name: &str| {
            let value = told.and_then(|told| told.get(name));
            value.and_then(Value::as_str).unwrap_or("unknown")
        };
        format!("{} {}", told("browserName"), told("browserVersion"))
    }

    pub async fn window(&self) -> Result<Window> {
        self.client.switch_to_window(self.first.clone()).await?;
        Ok(Window(self.client.new_window(false).await?.handle))
    }

    /// Opens a page in a window.
    pub async fn open(&self, window: &Window, url: &str) -> Result<()> {
        self.client.switch_to_window(window.0.clone()).await?;
        Ok(self.client.goto(url).await?)
    }

    /// Hides a page.
    pub async fn minimize(&self, window: &Window) -> Result<()> {
        self.client.switch_to_window(window.0.clone()).await?;
        Ok(self.client.minimize_window().await?)
    }

    /// Runs the body of an async function with these `args` in a page. Returns an exception as an error.
    pub async fn run(&self, window: &Window, body: &str, args: Vec<Value>) -> Result<Value> {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const args = [...arguments].slice(0, -1);
             (async () => {{ {body} }})().then(
                 value => done({{ value: value ?? null }}),
                 error => done({{ error: String(error?.message ?? error) }}));"
        );
        self.client.switch_to_window(window.0.clone()).await?;
        let ran = self.client.execute_async(&script, args).await?;
        match ran["error"].as_str() {
            Some(error) => Err(error.into()),
            None => Ok(ran["value"].clone()),
        }
    }

    pub async fn close(&self, window: Window) -> Result<()> {
        self.client.switch_to_window(window.0).await?;
        Ok(self.client.close_window().await?)
    }

    pub async fn end(self) -> Result<()> {
        Ok(self.client.close().await?)
    }
}
