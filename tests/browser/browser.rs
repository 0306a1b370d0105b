//! Pages in Chromium.

use std::time::Duration;

use fantoccini::Client;
use serde_json::{Map, Value, json};

use crate::{
    certificate::Certificate,
    chromium::{DevTools, Driver},
    page,
    support::within,
};

/// The longest time that a script of the driver may take.
const SCRIPT: Duration = Duration::from_secs(150);

/// The kind of WebSockets that a page uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockets {
    /// `WebSocketStream` as well, which only Chromium has.
    Streams,
    /// The plain `WebSocket` that every browser has.
    Plain,
}

pub const BOTH: [Sockets; 2] = [Sockets::Streams, Sockets::Plain];

/// The place where the nodes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Window,
    Worker,
    /// The window behind the one that the driver controls.
    Behind,
}

/// The browsers for the page. They stop when this is dropped.
pub struct Browser {
    driver: Driver,
    site: String,
}

impl Browser {
    pub async fn start() -> Self {
        Self::at(page::serve().await).await
    }

    /// Starts browsers whose pages are served over `https`. They accept any certificate.
    pub async fn start_secure(certificate: &Certificate) -> Self {
        Self::at(page::serve_secure(certificate).await).await
    }

    async fn at(site: String) -> Self {
        let driver = Driver::start().await.expect("a driver");
        Self { driver, site }
    }

    /// Opens a page without a node, in a browser of its own.
    pub async fn page(&self, sockets: Sockets) -> Page {
        self.page_in(Place::Window, sockets).await
    }

    /// Opens a page whose nodes run in a worker.
    pub async fn worker(&self, sockets: Sockets) -> Page {
        self.page_in(Place::Worker, sockets).await
    }

    async fn page_in(&self, place: Place, sockets: Sockets) -> Page {
        let wanted = [
            ("acceptInsecureCerts", json!(self.site.starts_with("https"))),
            ("timeouts", json!({ "script": SCRIPT.as_millis() })),
        ];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value));
        let client = self.driver.browser(Map::from_iter(wanted)).await;
        let page = Page {
            client: client.expect("a browser"),
            place,
        };
        let site = format!("{}/", self.site);
        page.client.goto(&site).await.expect("the page");
        if sockets == Sockets::Plain {
            let deleted =
                "return delete globalThis.WebSocketStream && !globalThis.WebSocketStream;";
            assert_eq!(page.run(deleted, vec![]).await, Ok(json!(true)));
        }
        page
    }
}

pub struct Page {
    client: Client,
    place: Place,
}

impl Page {
    /// Runs the body of an async function with these `args`. Returns an exception as an error.
    pub async fn run(&self, body: &str, args: Vec<Value>) -> Result<Value, String> {
        let script = "const [place, body, args, done] = arguments;
             const page = place === 'behind' ? window.opener : window;
             const wait = () => page.performIn
                 ? page.performIn(place, body, args).then(done)
                 : setTimeout(wait, 10);
             wait();";
        let place = match self.place {
            Place::Window => "window",
            Place::Worker => "worker",
            Place::Behind => "behind",
        };
        let args = vec![json!(place), json!(body), json!(args)];
        let ran = within("the page", self.client.execute_async(script, args)).await;
        let ran = ran.map_err(|error| error.to_string())?;
        match ran["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(ran["value"].clone()),
        }
    }

    /// Runs the body of an async function that returns a number.
    pub async fn number(&self, body: &str, args: Vec<Value>) -> f64 {
        let value = self.run(body, args).await.expect("no exception");
        value.as_f64().expect("a number")
    }

    /// Runs the body of an async function that returns a text.
    pub async fn text(&self, body: &str, args: Vec<Value>) -> String {
        let value = self.run(body, args).await.expect("no exception");
        value.as_str().expect("text").to_owned()
    }

    /// Starts the node at a rendezvous, and returns its peer id.
    pub async fn start(&self, rendezvous: &str) -> Result<String, String> {
        self.start_with(rendezvous, json!({})).await
    }

    /// Starts the node at a rendezvous with options, and returns its peer id.
    pub async fn start_with(&self, rendezvous: &str, options: Value) -> Result<String, String> {
        let body = "globalThis.node = await star.Node.start(args[0], args[1]); return node.peer();";
        let peer = self.run(body, vec![json!(rendezvous), options]).await?;
        Ok(peer.as_str().expect("a peer id").to_owned())
    }

    pub async fn dial(&self, address: &str) -> Result<(), String> {
        let dialled = self.run("await node.dial(args[0]);", vec![json!(address)]);
        dialled.await.map(drop)
    }

    /// Sends bytes to a peer that echoes. Returns the time of the echo in milliseconds.
    pub async fn echo(&self, peer: &str, bytes: usize) -> Result<f64, String> {
        let body = "return await node.echo(args[0], args[1]);";
        let took = self.run(body, vec![json!(peer), json!(bytes)]).await?;
        Ok(took.as_f64().expect("a number"))
    }

    pub async fn events(&self) -> Vec<String> {
        let events = self.run("return node.events();", vec![]).await;
        let events = events.expect("the page runs");
        let lines = events.as_array().expect("lines").iter();
        lines
            .map(|line| line.as_str().expect("text").to_owned())
            .collect()
    }

    /// Opens an empty tab in front of this one, and controls this one from there.
    pub async fn hide(&mut self) {
        self.hide_behind("empty.html").await;
    }

    /// Opens another tab of the same browser in front of this one.
    pub async fn hide_behind(&mut self, file: &str) -> Self {
        assert_eq!(self.place, Place::Window);
        let open = "return Boolean(window.open(args[0]));";
        let opened = self.run(open, vec![json!(file)]).await;
        assert_eq!(opened, Ok(json!(true)));
        let behind = self.client.window().await.expect("a window");
        let front = within("another window", async {
            loop {
                let windows = self.client.windows().await.expect("windows");
                if let Some(front) = windows.into_iter().find(|window| *window != behind) {
                    return front;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let front = front.await;
        let switched = self.client.switch_to_window(front).await;
        switched.expect("it is there");
        self.place = Place::Behind;
        let hidden = "while (document.visibilityState !== 'hidden')
                 await new Promise(done => setTimeout(done, 20));";
        self.run(hidden, vec![]).await.expect("it is hidden");
        Self {
            client: self.client.clone(),
            place: Place::Window,
        }
    }

    /// Sends the browser a command of the DevTools protocol, for what a page cannot do.
    pub async fn tell(&self, command: &'static str, params: Value) {
        let told = self.client.issue_cmd(DevTools { command, params });
        within("the browser", told).await.expect(command);
    }

    /// Closes the page's browser.
    pub async fn close(self) {
        let closed = within("the browser's end", self.client.close()).await;
        closed.expect("it ends");
    }
}
