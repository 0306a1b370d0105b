//! Our trunk to another node.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use h2::client::{self, SendRequest};
use http::{Method, Request, StatusCode};
use rand::RngExt as _;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
};

use super::{
    stream::H2Stream,
    terms::{
        CLIENT, CONNECTION_WINDOW, FRAME, NODE, OPEN_TIMEOUT, PATH, REFUSAL, STREAM_WINDOW,
        STREAMS, TENANT, ping,
    },
};
use crate::{
    log_limit::LogLimit,
    rendezvous::{
        cluster::{Cut, Line, NodeId, TrunkCounts, TrunkTls},
        prepare_socket,
    },
    runtime::now,
    words::Words,
};

/// The pause before a trunk is opened again: the first one, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why there is no way to another node.
#[derive(Debug, thiserror::Error)]
pub(super) enum WayError {
    #[error("the trunk to that node is not open")]
    Closed,
    #[error("too many links have a stream on the trunk to that node")]
    Full,
    #[error("that node did not answer")]
    Silent,
    #[error("that node refused the stream: {0}")]
    Refused(String),
    #[error("the trunk to that node was cut: {0}")]
    Cut(#[from] h2::Error),
}

/// Why a trunk cannot be opened, or does not stay open.
#[derive(Debug, thiserror::Error)]
enum TrunkError {
    #[error("the trunk was not opened in time")]
    Late,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    #[error("the node does not answer")]
    Silent,
    #[error("that node closed the trunk")]
    Closed,
}

impl TrunkError {
    fn cut(&self) -> Cut {
        match self {
            Self::Closed => Cut::Closed,
            Self::Silent => Cut::Silent,
            Self::Late | Self::Io(_) | Self::Http2(_) => Cut::Lost,
        }
    }
}

/// A handle to a trunk. Its [`Keeper`] keeps the trunk open.
#[derive(Debug, Clone)]
pub(super) struct Trunk {
    /// Sends requests on the trunk; `None` while it is not open.
    current: watch::Receiver<Option<SendRequest<Bytes>>>,
    own: NodeId,
    node: NodeId,
    counts: Arc<TrunkCounts>,
    /// One permit for each stream that the trunk may have. HTTP/2 would let further streams wait for ever.
    places: Arc<Semaphore>,
}

/// Opens a trunk, and opens it again whenever it ends.
pub(super) struct Keeper {
    current: watch::Sender<Option<SendRequest<Bytes>>>,
    node: NodeId,
    address: String,
    tls: TrunkTls,
    counts: Arc<TrunkCounts>,
}

impl Trunk {
    /// Creates the trunk from one node to another at an address, and the keeper that opens it.
    pub(super) fn new(
        own: NodeId,
        node: NodeId,
        address: String,
        tls: TrunkTls,
        counts: Arc<TrunkCounts>,
    ) -> (Self, Keeper) {
        let (sender, current) = watch::channel(None);
        let keeper = Keeper {
            current: sender,
            node: node.clone(),
            address,
            tls,
            counts: counts.clone(),
        };
        let trunk = Self {
            current,
            own,
            node,
            counts,
            places: Arc::new(Semaphore::new(STREAMS as usize)),
        };
        (trunk, keeper)
    }

    pub(super) fn node(&self) -> &NodeId {
        &self.node
    }

    pub(super) fn counts(&self) -> &Arc<TrunkCounts> {
        &self.counts
    }

    /// Opens a stream for a client's link. Cancel safe: if the stream was opened already, it is cut.
    pub(super) async fn open(
        &self,
        tenant: Option<&str>,
        client: IpAddr,
    ) -> Result<H2Stream, WayError> {
        let current = self.current.borrow().clone();
        let requests = current.ok_or(WayError::Closed)?;
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| WayError::Full)?;
        let uri = format!("https://{}{PATH}", self.node);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(NODE, self.own.as_str())
            .header(CLIENT, client.to_string());
        if let Some(tenant) = tenant {
            request = request.header(TENANT, tenant);
        }
        // Only the name of a tenant could be invalid here, and it has been checked.
        let request = request.body(()).map_err(|_| WayError::Closed)?;
        let answer = async {
            let mut requests = requests.ready().await?;
            let (answer, send) = requests.send_request(request, false)?;
            Ok::<_, WayError>((answer.await?, send))
        };
        let answer = tokio::time::timeout(OPEN_TIMEOUT, answer).await;
        let (answer, send) = answer.map_err(|_| WayError::Silent)??;
        let (head, receive) = answer.into_parts();
        if head.status == StatusCode::OK {
            return Ok(H2Stream::new(send, receive).counted(self.counts.clone(), place));
        }
        let words = head.headers.get(REFUSAL);
        let words = words.and_then(|words| words.to_str().ok());
        let words = words.unwrap_or_else(|| head.status.as_str());
        Err(WayError::Refused(Words(words).to_string()))
    }
}

impl Keeper {
    /// Keeps the trunk open until the future is dropped. Calls `changed` whenever the trunk opens or is cut. What it
    /// returns is awaited before the next call, but not before the trunk is used: that may take long.
    pub(super) async fn run(self, changed: impl Fn(bool) -> BoxFuture<'static, ()>) {
        let answered = |time| self.counts.answered(time);
        let complaints = LogLimit::default();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match tokio::time::timeout(OPEN_TIMEOUT, self.open()).await {
                Err(_) => TrunkError::Late,
                Ok(Err(error)) => error,
                Ok(Ok((requests, mut connection))) => {
                    pause = FIRST_PAUSE;
                    tracing::info!(node = %self.node, "a trunk is open");
                    let pings = connection.ping_pong();
                    self.current.send_replace(Some(requests));
                    let open = self.counts.open();
                    let noted = changed(true);
                    let silent = async {
                        match pings {
                            Some(pings) => ping(pings, answered).await,
                            None => std::future::pending().await,
                        }
                    };
                    let error = tokio::select! {
                        end = connection => match end {
                            Ok(()) => TrunkError::Closed,
                            Err(error) => error.into(),
                        },
                        () = silent => TrunkError::Silent,
                    };
                    drop(open);
                    self.current.send_replace(None);
                    self.counts.cut(error.cut());
                    noted.await;
                    changed(false).await;
                    error
                }
            };
            if let Some(left_out) = complaints.admit(now()) {
                let error = Words(&error);
                tracing::warn!(node = %self.node, address = %Words(&self.address), %error, left_out, "the trunk to a node is not open");
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn open(
        &self,
    ) -> Result<(SendRequest<Bytes>, client::Connection<Box<dyn Line>>), TrunkError> {
        let stream = TcpStream::connect(&self.address).await?;
        prepare_socket(&stream);
        let stream = self.tls.connect(&self.node, stream).await?;
        let opened = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .max_send_buffer_size(STREAM_WINDOW as usize)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            // These bounds are against strangers. The other end is a node with a certificate, and what its clients do to
            // their streams must not cut the streams of others.
            .max_concurrent_reset_streams(STREAMS as usize)
            .max_local_error_reset_streams(None)
            .enable_push(false)
            .handshake(stream)
            .await?;
        Ok(opened)
    }
}
