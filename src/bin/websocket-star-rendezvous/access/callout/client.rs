//! An HTTP/1.1 client with limits. It reuses connections.

use std::{
    fmt, io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hyper::{
    Request, StatusCode,
    body::{Body as _, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{ACCEPT, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{
    connect::{Lookup, connect},
    endpoint::{Endpoint, RootsError, tls_config},
};

/// The largest head and the largest body of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 16 * 1024;
/// How long an idle connection is kept. A device on the way may drop an idle connection without notice.
const LONGEST_IDLE: Duration = Duration::from_secs(30);
const JSON: &str = "application/json";

/// The reason why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot resolve the host")]
    Lookup(#[source] Arc<io::Error>),
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the HTTP request failed")]
    Http(#[source] hyper::Error),
    #[error("the HTTP request is not valid")]
    Request(#[source] hyper::http::Error),
    #[error("the answer has the status {0}")]
    Status(u16),
    #[error("the answer has more than {MAX_BODY} bytes")]
    TooLong,
}

impl ClientError {
    /// Returns whether the service is out of reach or reports that it has failed.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Lookup(_) | Self::Connect(_) | Self::Tls(_) | Self::Status(500..) => true,
            Self::Http(_) | Self::Request(_) | Self::Status(_) | Self::TooLong => false,
        }
    }
}

type Sender = SendRequest<String>;

/// An idle connection, and the time since when it is idle.
struct Idle {
    sender: Sender,
    since: Instant,
}

pub struct Client {
    endpoint: Endpoint,
    lookup: Lookup,
    /// The TLS connector, and the name that the certificate must be for; `None` without TLS.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The idle connections, the most recently used one last.
    idle: Mutex<Vec<Idle>>,
    most_idle: usize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

impl Client {
    pub fn new(
        endpoint: Endpoint,
        roots: Option<&Path>,
        most_idle: usize,
    ) -> Result<Self, RootsError> {
        let tls = match endpoint.name() {
            Some(name) => Some((tls_config(roots)?.into(), name.clone())),
            None => None,
        };
        Ok(Self {
            lookup: Lookup::new(endpoint.host(), endpoint.port()),
            endpoint,
            tls,
            idle: Mutex::default(),
            most_idle,
        })
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self, now: Instant) -> Option<Sender> {
        let mut idle = self.idle();
        idle.retain(|idle| now.saturating_duration_since(idle.since) < LONGEST_IDLE);
        idle.pop().map(|idle| idle.sender)
    }

    fn keep(&self, sender: Sender, since: Instant) {
        let mut idle = self.idle();
        if idle.len() < self.most_idle && !sender.is_closed() {
            idle.push(Idle { sender, since });
        }
    }

    /// Posts JSON and returns the body of the answer. Dropping the future cancels the request.
    pub async fn post(&self, json: &str) -> Result<Vec<u8>, ClientError> {
        loop {
            let Some(mut sender) = self.take_idle(Instant::now()) else {
                let sender = self.connect().await?;
                return self.exchange(sender, json).await;
            };
            // The service may have closed the connection meanwhile, or may close it now.
            if sender.ready().await.is_err() {
                continue;
            }
            match self.exchange(sender, json).await {
                Err(ClientError::Http(_)) => {}
                result => return result,
            }
        }
    }

    async fn exchange(&self, mut sender: Sender, json: &str) -> Result<Vec<u8>, ClientError> {
        let request = Request::post(self.endpoint.path())
            .header(HOST, self.endpoint.authority())
            .header(CONTENT_TYPE, JSON)
            .header(ACCEPT, JSON)
            .body(json.to_owned());
        let request = request.map_err(ClientError::Request)?;
        let response = sender.send_request(request).await;
        let response = response.map_err(ClientError::Http)?;
        if response.status() != StatusCode::OK {
            return Err(ClientError::Status(response.status().as_u16()));
        }
        let body = read(response.into_body()).await?;
        self.keep(sender, Instant::now());
        Ok(body)
    }

    async fn connect(&self) -> Result<Sender, ClientError> {
        let addresses = self.lookup.addresses().await.map_err(ClientError::Lookup)?;
        let tcp = connect(addresses).await.map_err(ClientError::Connect)?;
        tcp.set_nodelay(true).map_err(ClientError::Connect)?;
        match &self.tls {
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await;
                begin(tls.map_err(ClientError::Tls)?).await
            }
            None => begin(tcp).await,
        }
    }
}

/// Starts HTTP on a connection. The connection ends when its sender is dropped.
async fn begin<S>(io: S) -> Result<Sender, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    let handshake = builder.max_buf_size(MAX_HEAD).handshake(TokioIo::new(io));
    let (sender, connection) = handshake.await.map_err(ClientError::Http)?;
    tokio::spawn(async move {
        // The requests on this connection get the error.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(ClientError::Http)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(ClientError::TooLong);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_kept_for_half_a_minute_and_not_more_of_them_than_needed() {
        let endpoint = "http://127.0.0.1:1/".parse().expect("a URL");
        let client = Client::new(endpoint, None, 2).expect("no roots are needed");
        let now = Instant::now();
        let mut others = Vec::new();
        for since in [0, 20, 25] {
            let (ours, theirs) = tokio::io::duplex(1024);
            let sender = begin(ours).await.expect("begun");
            client.keep(sender, now + Duration::from_secs(since));
            others.push(theirs);
        }
        assert_eq!(client.idle().len(), 2);
        // Connections that have been idle for too long are closed.
        assert!(client.take_idle(now + LONGEST_IDLE).is_some());
        assert!(client.idle().is_empty());
        assert!(client.take_idle(now).is_none());
    }
}
