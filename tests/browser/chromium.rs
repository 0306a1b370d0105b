//! Chromium without a window, and the driver that controls it. For tests and benchmarks.

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

/// The arguments with which a browser runs without a screen, as any user, and without connections to its maker.
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
    // Timers of a hidden page are limited to one a minute after ten seconds, and not after five minutes.
    "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/10",
];
/// The features that the driver would switch off. Without them, hidden pages would be as fast as visible ones.
const KEPT: [&str; 2] = [
    "disable-background-timer-throttling",
    "disable-backgrounding-occluded-windows",
];
/// The part of the capabilities that is specific to Chromium.
pub const OPTIONS: &str = "goog:chromeOptions";
/// The longest time that the driver or a browser may take to start.
const START: Duration = Duration::from_secs(60);
/// The number of attempts to start the driver. It picks a port that is free for IPv4, and ends if that port is not
/// free for IPv6.
const TRIES: usize = 5;

/// A driver of browsers. The driver and the browsers stop when this is dropped, even if a test has failed.
pub struct Driver {
    process: Child,
    port: u16,
    /// The folder of their files, above all profiles. A browser that is killed leaves its files behind.
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
            // The browsers belong to the same process group.
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
        // Read its later output, so that the pipe does not fill up.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(driver)
    }

    /// Starts a browser with a profile of its own, and with these capabilities in addition to the usual ones.
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
        // The driver may have ended by itself.
        let _ = std::process::Command::new("kill")
            .args(["-9", "--", &format!("-{group}")])
            .status();
    }
}

/// A command of the DevTools protocol, for what a page cannot make the browser do.
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
