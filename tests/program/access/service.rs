//! A service that decides who may join. It can be told to answer well or badly.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use serde_json::Value;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::certificates::Certificate;

/// What the service does when it is asked.
#[derive(Debug, Clone)]
pub enum Answer {
    Text(String),
    Status(u16),
    /// It never answers.
    Nothing,
    /// It sends a body without end.
    Endless,
}

#[derive(Clone)]
struct State {
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

/// The service. It stops when this is dropped.
pub struct Service {
    addr: SocketAddr,
    state: State,
    tasks: JoinSet<()>,
    /// The connections with TLS.
    secure: Arc<Mutex<JoinSet<()>>>,
}

impl Service {
    pub async fn start(answer: Value) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let state = State {
            answer: Arc::new(Mutex::new(Answer::Text(answer.to_string()))),
            asked: Arc::default(),
        };
        let handler = {
            let state = state.clone();
            move |headers: HeaderMap, body: String| answer_to(state, headers, body)
        };
        let app = Router::new().route("/may/join", post(handler));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            axum::serve(listener, app).await.expect("it serves");
        });
        Self {
            addr,
            state,
            tasks,
            secure: Arc::default(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/may/join?key=abc", self.addr)
    }

    /// Starts a port with TLS, and returns the service's URL there.
    pub async fn secure_url(&mut self, certificate: &Certificate) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let (acceptor, to) = (certificate.acceptor(), self.addr);
        let connections = self.secure.clone();
        self.tasks.spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.expect("a connection");
                let acceptor = acceptor.clone();
                let mut connections = connections.lock().expect("no panic");
                connections.spawn(async move {
                    let mut plain = TcpStream::connect(to).await.expect("it listens");
                    if let Ok(mut tls) = acceptor.accept(tcp).await {
                        // Either end may close the connection.
                        let _ = copy_bidirectional(&mut tls, &mut plain).await;
                    }
                });
            }
        });
        format!("https://{addr}/may/join")
    }

    /// Closes all connections with TLS. New ones are accepted.
    pub fn hang_up(&self) {
        self.secure.lock().expect("no panic").abort_all();
    }

    pub fn answers(&self, answer: Answer) {
        *self.state.answer.lock().expect("no panic") = answer;
    }

    pub fn answers_json(&self, answer: Value) {
        self.answers(Answer::Text(answer.to_string()));
    }

    /// Returns all questions so far.
    pub fn asked(&self) -> Vec<Value> {
        self.state.asked.lock().expect("no panic").clone()
    }
}

async fn answer_to(state: State, headers: HeaderMap, body: String) -> Response {
    let of_type = headers.get("content-type").map(|value| value.as_bytes());
    assert_eq!(of_type, Some(&b"application/json"[..]));
    let asked = serde_json::from_str(&body).expect("JSON");
    state.asked.lock().expect("no panic").push(asked);
    let answer = state.answer.lock().expect("no panic").clone();
    match answer {
        Answer::Text(text) => text.into_response(),
        Answer::Status(status) => {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, "{\"allow\":true}").into_response()
        }
        Answer::Nothing => std::future::pending().await,
        Answer::Endless => {
            let piece = Bytes::from(vec![b' '; 64 * 1024]);
            let pieces = std::iter::repeat_with(move || Ok::<_, io::Error>(piece.clone()));
            Body::from_stream(futures::stream::iter(pieces)).into_response()
        }
    }
}
