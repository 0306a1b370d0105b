//! Chromium without a screen, and the driver that tells it what to do: for tests and benchmarks.

use std::{error::Error, process::Stdio, time::Duration};

use axum::http::Method;
use fantoccini::{Client, ClientBuilder, wd::WebDriverCompatibleCommand};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

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
    // Timers of a page that is hidden are held back to one a minute after ten seconds, and not after five minutes.
    "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/10",
];
/// What the driver would switch off: then hidden pages would be as fast as others.
const KEPT: [&str; 2] = [
    "disable-background-timer-throttling",
    "disable-backgrounding-occluded-windows",
];
/// The part of the capabilities that is Chromium's own.
pub const OPTIONS: &str = "goog:chromeOptions";
/// How long the driver may take to start, and a browser.
const START: Duration = Duration::from_secs(60);
/// How often it is started: it looks for a port that is free for IPv4, and ends if that one is not free for IPv6.
const TRIES: usize = 5;

/// A driver of browsers. It and they end with this, also when a test has failed.
pub struct Driver {
    process: Child,
    port: u16,
    /// Where they keep their files, profiles above all: those that are killed leave them.
    _files: TempDir,
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
        let files = TempDir::new()?;
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", files.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // Its browsers are in it, too.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("chromedriver, which .ci/setup installs: {error}"))?;
        let output = process.stdout.take().ok_or("no standard output")?;
        let mut driver = Self {
            process,
            port: 0,
            _files: files,
        };
        let mut lines = BufReader::new(output).lines();
        let started = async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return Result::<u16>::Ok(port.trim_end_matches('.').parse()?);
                }
            }
            Err("the driver ended".into())
        };
        driver.port = timeout(START, started).await??;
        // What it says later is not to fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(driver)
    }

    /// A new browser with a profile of its own, and these capabilities beside the usual ones.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn browser(&self, mut more: Map<String, Value>) -> Result<Client> {
        let mut options = json!({ "args": ARGUMENTS, "excludeSwitches": KEPT });
        if let Some(Value::Object(more)) = more.remove(OPTIONS) {
            for (name, value) in more {
                options[name] = value;
            }
        }
        more.insert(OPTIONS.to_owned(), options);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(more);
        let url = format!("http://127.0.0.1:{}", self.port);
        Ok(timeout(START, builder.connect(&url)).await??)
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

/// A command of the DevTools protocol, for what a page cannot tell the browser.
#[derive(Debug)]
pub struct DevTools {
    pub command: &'static str,
    pub params: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> std::result::Result<url::Url, url::ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/goog/cdp/execute"))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        let body = json!({ "cmd": self.command, "params": self.params });
        (Method::POST, Some(body.to_string()))
    }
}
