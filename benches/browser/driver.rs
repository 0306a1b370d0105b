//! The pages of a browser, told what to do.

use std::time::Duration;

use fantoccini::{Client, wd::WindowHandle};
use serde_json::{Map, Value, json};

use crate::{Result, chromium::Driver};

/// How long a script may take.
const SCRIPT: Duration = Duration::from_secs(60);

pub struct Browser {
    client: Client,
    /// It is empty, and stays: the driver has to be in some window when it opens one.
    first: WindowHandle,
}

/// A window of the browser, with one page.
pub struct Window(WindowHandle);

impl Browser {
    /// A new one, with a profile of its own.
    pub async fn start(driver: &Driver) -> Result<Self> {
        let timeouts = json!({ "script": SCRIPT.as_millis() });
        let wanted = Map::from_iter([("timeouts".to_owned(), timeouts)]);
        let client = driver.browser(wanted).await?;
        let first = client.window().await?;
        Ok(Self { client, first })
    }

    /// Its name and version.
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

    /// Opens a page.
    pub async fn open(&self, window: &Window, url: &str) -> Result<()> {
        self.client.switch_to_window(window.0.clone()).await?;
        Ok(self.client.goto(url).await?)
    }

    /// Hides a page.
    pub async fn minimize(&self, window: &Window) -> Result<()> {
        self.client.switch_to_window(window.0.clone()).await?;
        Ok(self.client.minimize_window().await?)
    }

    /// Runs the body of an async function, which has these `args`, in a page. Its exceptions are errors.
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
