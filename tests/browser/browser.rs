//! Chromium and its driver.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{page, support::within};

/// How a browser runs on a machine without a screen, as any user, and without a word to its maker.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];
/// How long a script of the driver may take.
const SCRIPT: Duration = Duration::from_secs(40);

/// What the page has of WebSockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockets {
    /// `WebSocketStream`, too, as Chromium has it.
    Streams,
    /// What every browser has.
    Plain,
}

pub const BOTH: [Sockets; 2] = [Sockets::Streams, Sockets::Plain];

/// A driver of browsers. It ends with this.
pub struct Browser {
    driver: Child,
    port: u16,
    site: SocketAddr,
}

impl Browser {
    pub async fn start() -> Self {
        let site = page::serve().await;
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // Its browsers are in it, too.
            .process_group(0)
            .spawn()
            .expect("chromedriver is there: .ci/setup installs it");
        let output = driver.stdout.take().expect("it is a pipe");
        let mut lines = BufReader::new(output).lines();
        let port = within("the driver", async {
            while let Some(line) = lines.next_line().await.expect("text") {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return port.trim_end_matches('.').parse().expect("a port");
                }
            }
            panic!("the driver did not start");
        })
        .await;
        // What it says later is not to fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { driver, port, site }
    }

    /// A page with a node that is not started yet, in a browser of its own.
    pub async fn page(&self, sockets: Sockets) -> Page {
        let wanted = json!({
            "goog:chromeOptions": { "args": ARGUMENTS },
            "timeouts": { "script": SCRIPT.as_millis() },
        });
        let Value::Object(wanted) = wanted else {
            unreachable!("it is an object");
        };
        let url = format!("http://127.0.0.1:{}", self.port);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted);
        let client = within("the browser", builder.connect(&url)).await;
        let client = client.expect("a browser");
        let page = Page { client };
        page.client
            .goto(&format!("http://{}/", self.site))
            .await
            .expect("the page");
        page.run(
            "while (!window.StarNode) await new Promise(done => setTimeout(done, 10));",
            vec![],
        )
        .await
        .expect("the page starts");
        if sockets == Sockets::Plain {
            let deleted =
                "return delete globalThis.WebSocketStream && !globalThis.WebSocketStream;";
            assert_eq!(page.run(deleted, vec![]).await, Ok(json!(true)));
        }
        page
    }
}

/// Ends the driver and all its browsers, also when a test has failed.
impl Drop for Browser {
    fn drop(&mut self) {
        let Some(group) = self.driver.id() else {
            return;
        };
        // It may have ended by itself.
        let _ = std::process::Command::new("kill")
            .args(["-9", "--", &format!("-{group}")])
            .status();
    }
}

pub struct Page {
    client: Client,
}

impl Page {
    /// Runs the body of an async function, which has these `args`. Its exceptions are errors.
    pub async fn run(&self, body: &str, args: Vec<Value>) -> Result<Value, String> {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const args = [...arguments].slice(0, -1);
             (async () => {{ {body} }})().then(
                 value => done({{ value: value ?? null }}),
                 error => done({{ error: String(error?.message ?? error) }}));"
        );
        let ran = within("the page", self.client.execute_async(&script, args)).await;
        let ran = ran.map_err(|error| error.to_string())?;
        match ran["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(ran["value"].clone()),
        }
    }

    /// Starts the node at a rendezvous, and gives its peer id.
    pub async fn start(&self, rendezvous: &str) -> Result<String, String> {
        let body = "window.node = await StarNode.start(args[0]); return node.peer();";
        let peer = self.run(body, vec![json!(rendezvous)]).await?;
        Ok(peer.as_str().expect("a peer id").to_owned())
    }

    pub async fn dial(&self, address: &str) -> Result<(), String> {
        let dialled = self.run("await node.dial(args[0]);", vec![json!(address)]);
        dialled.await.map(drop)
    }

    /// The milliseconds that an echo takes.
    pub async fn echo(&self, peer: &str, bytes: usize) -> Result<f64, String> {
        let body = "return await node.echo(args[0], args[1]);";
        let took = self.run(body, vec![json!(peer), json!(bytes)]).await?;
        Ok(took.as_f64().expect("a number"))
    }

    /// Ends the page's browser.
    pub async fn close(self) {
        let closed = within("the browser's end", self.client.close()).await;
        closed.expect("it ends");
    }

    pub async fn events(&self) -> Vec<String> {
        let events = self.run("return node.events();", vec![]).await;
        let events = events.expect("the page runs");
        let lines = events.as_array().expect("lines").iter();
        lines
            .map(|line| line.as_str().expect("text").to_owned())
            .collect()
    }
}
