//! The operator's page: what it shows to whom, and who may act on it.

mod doing;
mod events;
mod guesses;
mod hostile;
mod hosts;
mod seeing;

use std::net::SocketAddr;

use libp2p_websocket_star::rendezvous::{Admin, Config, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{config, socket, soon};

const TOKEN: &str = "a-token+that/nobody~guesses==";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
/// The header of a request that the page itself sends from a browser.
const OWN: (&str, &str) = ("Sec-Fetch-Site", "same-origin");

fn admin() -> Admin {
    Admin::new(&TOKEN.parse().expect("a token")).expect("it is long")
}

async fn serving() -> Server {
    serving_with(config()).await
}

async fn serving_with(config: Config) -> Server {
    let bound = Server::bind(config.with_admin(admin())).await;
    bound.expect("a free port")
}

/// An answer, with its head in lower case.
#[derive(Debug)]
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        Self {
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    fn status(&self) -> u16 {
        let status = self.head.split(' ').nth(1);
        let status = status.and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("{self:?}"))
    }

    /// Returns the value of a header, in lower case.
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            (found == name).then_some(value)
        })
    }

    /// Returns the cookie that the answer sets, in the form in which a browser sends it back.
    fn cookie(&self) -> String {
        let cookie = self
            .header("set-cookie")
            .unwrap_or_else(|| panic!("{self:?}"));
        cookie.split(';').next().expect("a value").to_owned()
    }

    /// Returns the hidden value in the forms of the page.
    fn form(&self) -> String {
        let (_, rest) = self
            .body
            .split_once("name=\"form\" value=\"")
            .expect("a form");
        rest.split('"').next().expect("a value").to_owned()
    }
}

/// Sends a request from 127.0.0.`host`, and reads the answer until the connection ends.
async fn ask_from(
    host: u8,
    to: SocketAddr,
    request: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let stream = soon("a connection", socket(host).connect(to)).await;
    let mut stream = stream.expect("connected");
    let mut head = format!("{request} HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if request.starts_with("POST") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let text = format!("{head}\r\n{body}");
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // The connection may be reset after the answer.
    let _ = soon("an answer", stream.read_to_end(&mut answer)).await;
    Answer::of(&String::from_utf8(answer).expect("UTF-8"))
}

async fn ask(server: &Server, request: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    ask_from(1, server.local_addr(), request, headers, body).await
}

/// Logs in from 127.0.0.`host`.
async fn try_to_log_in(server: &Server, host: u8, token: &str) -> Answer {
    let body = format!("token={}", token.replace('+', "%2B").replace('=', "%3D"));
    let headers = [FORM, OWN];
    ask_from(
        host,
        server.local_addr(),
        "POST /admin/login",
        &headers,
        &body,
    )
    .await
}

/// An operator who has logged in.
struct Operator<'a> {
    server: &'a Server,
    cookie: String,
    /// The hidden value in the forms of the page.
    form: String,
}

impl<'a> Operator<'a> {
    async fn of(server: &'a Server) -> Self {
        let answer = try_to_log_in(server, 1, TOKEN).await;
        assert_eq!(answer.status(), 303, "{answer:?}");
        let cookie = answer.cookie();
        let page = ask(server, "GET /admin", &[("Cookie", &cookie)], "").await;
        Self {
            form: page.form(),
            server,
            cookie,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        let request = format!("GET {path}");
        ask(self.server, &request, &[("Cookie", &self.cookie)], "").await
    }

    /// Sends a form of the page with these fields and the hidden value.
    async fn post(&self, path: &str, fields: &str) -> Answer {
        let body = format!("form={}&{fields}", self.form);
        self.post_with(path, &[OWN], &body).await
    }

    async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let own = [FORM, ("Cookie", self.cookie.as_str())];
        let headers = [&own[..], headers].concat();
        ask(self.server, &format!("POST {path}"), &headers, body).await
    }

    /// Returns the page's message about the last action.
    async fn news(&self) -> String {
        let page = self.get("/admin").await;
        let news = page
            .body
            .split_once("id=\"news\" role=\"status\" tabindex=\"-1\">");
        let (_, rest) = news.unwrap_or_else(|| panic!("no news: {page:?}"));
        rest.split('<').next().expect("a text").to_owned()
    }
}
