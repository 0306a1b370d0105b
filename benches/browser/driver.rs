//! Chromium, without a screen, and the driver that tells it what to do.

use std::{process::Stdio, time::Duration};

use fantoccini::{Client, ClientBuilder, wd::WindowHandle};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::Result;

/// How a browser runs on a machine without a screen, as any user, and without a word to its maker.
const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    // Timers of a page that is hidden fire once a minute after 10 s, in place of 5 minutes.
    "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/10",
];
/// What the driver would have it do: then hidden pages would be as fast as others.
const NOT: [&str; 2] = [
    "disable-background-timer-throttling",
    "disable-backgrounding-occluded-windows",
];
/// How long a script may take.
const SCRIPT: Duration = Duration::from_secs(60);
/// How long the driver may take to start.
const START: Duration = Duration::from_secs(30);
/// How often it is started: it looks for a port that is free for IPv4, and ends if that one is not free for IPv6.
const TRIES: usize = 5;

/// A driver of browsers. It and they end with this.
pub struct Driver {
    process: Child,
    port: u16,
}

impl Driver {
    /// # Errors
    /// If there is no `chromedriver`, or if it does not start.
    pub async fn start() -> Result<Self> {
        for _ in 1..TRIES {
            if let Ok(driver) = Self::try_to_start().await {
                return Ok(driver);
            }
        }
        Self::try_to_start().await
    }

    async fn try_to_start() -> Result<Self> {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // Its browsers are in it, too.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("chromedriver, which .ci/setup installs: {error}"))?;
        let output = process.stdout.take().ok_or("no standard output")?;
        let mut driver = Self { process, port: 0 };
        let mut lines = BufReader::new(output).lines();
        let started = async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return Ok::<u16, crate::Error>(port.trim_end_matches('.').parse()?);
                }
            }
            Err("the driver ended".into())
        };
        driver.port = tokio::time::timeout(START, started).await??;
        // What it says later is not to fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(driver)
    }

    /// A new browser, with a profile of its own.
    pub async fn browser(&self) -> Result<Browser> {
        let wanted = json!({
            "goog:chromeOptions": { "args": ARGUMENTS, "excludeSwitches": NOT },
            "timeouts": { "script": SCRIPT.as_millis() },
        });
        let Value::Object(wanted) = wanted else {
            return Err("the capabilities are no object".into());
        };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted);
        let url = format!("http://127.0.0.1:{}", self.port);
        let client = builder.connect(&url).await?;
        let first = client.window().await?;
        Ok(Browser { client, first })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let Some(group) = self.process.id() else {
            return;
        };
        // It may have ended by itself.
        let _ = std::process::Command::new("kill")
            .args(["-9", "--", &format!("-{group}")])
            .status();
    }
}

pub struct Browser {
    client: Client,
    /// It is empty, and stays: the driver has to be in some window when it opens one.
    first: WindowHandle,
}

/// A window of the browser, with one page.
pub struct Window(WindowHandle);

impl Browser {
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
