//! The trunks that other nodes open to this one.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::{
    RecvStream,
    server::{self, SendResponse},
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{
    stream::H2Stream,
    terms::{
        CLIENT, CONNECTION_WINDOW, FRAME, NODE, OPEN_TIMEOUT, PATH, PING_INTERVAL, REFUSAL,
        STREAM_WINDOW, STREAMS, TENANT, ping,
    },
};
use crate::{
    rendezvous::{
        cluster::{NodeId, Proved, TrunkTls, VERSION},
        link::{self, Partner, Upgraded},
        prepare_socket,
        tenants::Tenants,
    },
    runtime::now,
    words::Words,
};

/// The maximum number of connections whose certificate was not checked yet: from one address, and from all.
const STRANGERS: (usize, usize) = (8, 512);
/// The maximum number of trunks with one certificate. It is two, because the old trunk may be dead without having been
/// noticed yet.
const TRUNKS_OF_ONE: usize = 2;

/// The connections that have not shown a certificate yet, counted by address.
#[derive(Debug, Default)]
struct Strangers(Mutex<BTreeMap<IpAddr, usize>>);

/// The place of such a connection, until it is dropped.
#[derive(Debug)]
struct Stranger {
    strangers: Arc<Strangers>,
    ip: IpAddr,
}

impl Strangers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Stranger> {
        let mut by_ip = self.lock();
        let (of_one, of_all) = STRANGERS;
        let is_full = by_ip.values().sum::<usize>() >= of_all;
        let count = by_ip.entry(ip).or_default();
        if *count >= of_one || is_full {
            if *count == 0 {
                by_ip.remove(&ip);
            }
            return None;
        }
        *count += 1;
        Some(Stranger {
            strangers: self.clone(),
            ip,
        })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut by_ip = self.strangers.lock();
        if let Some(count) = by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}

/// The open trunks, by the certificate that their node has shown.
#[derive(Debug, Default)]
struct Open(Mutex<BTreeMap<Vec<u8>, Shown>>);

/// What is open with one certificate.
#[derive(Debug, Default)]
struct Shown {
    /// The trunks, the newest last. Each is notified when it has to make room for a newer one.
    trunks: Vec<Arc<Notify>>,
    /// The number of links on all of these trunks.
    links: Arc<AtomicUsize>,
}

/// A link on a trunk, until it is dropped.
#[derive(Debug)]
struct CountedLink(Arc<AtomicUsize>);

impl CountedLink {
    /// Counts a link, unless there are `most` already.
    fn new(links: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        // The count is taken back if there are too many.
        let link = Self(links.clone());
        (links.fetch_add(1, Ordering::Relaxed) < most).then_some(link)
    }
}

impl Drop for CountedLink {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open trunk, until it is dropped.
#[derive(Debug)]
struct Opened {
    open: Arc<Open>,
    proof: Vec<u8>,
    /// Notified when the trunk has to make room for a newer one.
    over: Arc<Notify>,
    links: Arc<AtomicUsize>,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Shown>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, proof: Vec<u8>) -> Opened {
        let over = Arc::new(Notify::new());
        let mut by_proof = self.lock();
        let its = by_proof.entry(proof.clone()).or_default();
        if its.trunks.len() >= TRUNKS_OF_ONE {
            its.trunks.remove(0).notify_one();
        }
        its.trunks.push(over.clone());
        Opened {
            open: self.clone(),
            proof,
            over,
            links: its.links.clone(),
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut by_proof = self.open.lock();
        if let Some(its) = by_proof.get_mut(&self.proof) {
            its.trunks.retain(|over| !Arc::ptr_eq(over, &self.over));
            if its.trunks.is_empty() {
                by_proof.remove(&self.proof);
            }
        }
    }
}

/// Why a trunk of another node cannot be opened, or has ended.
#[derive(Debug, thiserror::Error)]
enum IncomingError {
    #[error("the trunk was not opened in time")]
    Late,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    #[error("the node does not answer")]
    Silent,
    #[error("the node has opened another trunk")]
    Replaced,
}

/// Why a stream is refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("unknown request")]
    Unknown,
    #[error("the certificate is for another node")]
    OtherNode,
    #[error("no such tenant here")]
    Tenant,
    #[error("the node has as many links here as it may have")]
    Full,
    #[error("{0}")]
    NotPlaced(String),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::OtherNode => StatusCode::FORBIDDEN,
            Self::Tenant => StatusCode::MISDIRECTED_REQUEST,
            Self::Full | Self::NotPlaced(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Accepts the trunks of other nodes.
#[derive(Debug, Clone)]
pub(super) struct Incoming {
    tenants: Arc<Tenants>,
    tls: TrunkTls,
    open: Arc<Open>,
}

impl Incoming {
    pub(super) fn new(tenants: Arc<Tenants>, tls: TrunkTls) -> Self {
        Self {
            tenants,
            tls,
            open: Arc::default(),
        }
    }

    /// Accepts and serves trunks until the future is dropped.
    pub(super) async fn run(self, listener: TcpListener) {
        let mut tasks = tokio::task::JoinSet::new();
        let complaints = crate::log_limit::LogLimit::default();
        let strangers = Arc::new(Strangers::default());
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
            };
            match accepted {
                Ok((stream, remote)) => {
                    // Clients without a certificate cannot keep the nodes out, unless they have very many addresses.
                    let Some(place) = strangers.enter(remote.ip()) else {
                        continue;
                    };
                    let incoming = self.clone();
                    tasks.spawn(async move {
                        if let Err(error) = incoming.serve(stream, place).await {
                            tracing::debug!(%remote, error = %Words(error), "a trunk of another node has ended");
                        }
                    });
                }
                Err(error) => {
                    if let Some(left_out) = complaints.admit(now()) {
                        tracing::warn!(%error, left_out, "cannot accept a trunk");
                    }
                    tokio::time::sleep(PING_INTERVAL).await;
                }
            }
        }
    }

    /// Serves a connection. It keeps a stranger's place until its certificate was checked.
    async fn serve(self, stream: TcpStream, place: Stranger) -> Result<(), IncomingError> {
        prepare_socket(&stream);
        let opening = async {
            let (stream, proved) = self.tls.accept(stream).await?;
            let connection = server::Builder::new()
                .initial_window_size(STREAM_WINDOW)
                .max_send_buffer_size(STREAM_WINDOW as usize)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(FRAME)
                // These bounds are against strangers. The other end is a node with a certificate, and what its clients do to
                // their streams must not cut the streams of others.
                .max_concurrent_reset_streams(STREAMS as usize)
                .max_local_error_reset_streams(None)
                .max_concurrent_streams(STREAMS)
                .handshake::<_, Bytes>(stream)
                .await?;
            Ok::<_, IncomingError>((connection, proved))
        };
        let opened = tokio::time::timeout(OPEN_TIMEOUT, opening).await;
        drop(place);
        let (mut connection, proved) = opened.map_err(|_| IncomingError::Late)??;
        let pings = connection.ping_pong();
        let silent = async {
            match pings {
                Some(pings) => ping(pings, |_| ()).await,
                None => std::future::pending().await,
            }
        };
        let mut silent = std::pin::pin!(silent);
        let opened = self.open.enter(proved.bytes().to_vec());
        let mut links = tokio::task::JoinSet::new();
        loop {
            let request = tokio::select! {
                request = connection.accept() => request,
                Some(_) = links.join_next() => continue,
                () = &mut silent => return Err(IncomingError::Silent),
                () = opened.over.notified() => return Err(IncomingError::Replaced),
            };
            let Some(request) = request else {
                return Ok(());
            };
            let (request, respond) = request?;
            self.begin(request, respond, &proved, &opened.links, &mut links);
        }
    }

    /// Begins to serve a stream, or refuses it.
    fn begin(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        proved: &Proved,
        counted: &Arc<AtomicUsize>,
        links: &mut tokio::task::JoinSet<()>,
    ) {
        let (head, receive) = request.into_parts();
        let is_known = head.method == Method::POST && head.uri.path() == PATH;
        let asked = match is_known {
            true => Asked::of(&head.headers).ok_or(Refused::Unknown),
            false => Err(Refused::Unknown),
        };
        let begun = asked.and_then(|asked| match proved.is(&asked.node) {
            true => self.link(asked, receive, &mut respond, counted, links),
            false => Err(Refused::OtherNode),
        });
        if let Err(refused) = begun {
            let mut response = Response::new(());
            *response.status_mut() = refused.status();
            if let Ok(words) = refused.to_string().parse() {
                response.headers_mut().insert(REFUSAL, words);
            }
            // This fails if the trunk is gone.
            let _ = respond.send_response(response, true);
        }
    }

    fn link(
        &self,
        asked: Asked,
        receive: RecvStream,
        respond: &mut SendResponse<Bytes>,
        counted: &Arc<AtomicUsize>,
        links: &mut tokio::task::JoinSet<()>,
    ) -> Result<(), Refused> {
        let hub = self.tenants.with_name(asked.tenant.as_deref());
        let hub = hub.ok_or(Refused::Tenant)?;
        // One node may have at most half of the links, on all of its trunks, so that places are left for the others.
        let most = self.tenants.config().limits().links / 2;
        let counted = CountedLink::new(counted, most).ok_or(Refused::Full)?;
        let admission = self.tenants.house().admission();
        let place = admission.enter(asked.client, false, now());
        let place = place.map_err(|reason| Refused::NotPlaced(reason.to_string()))?;
        let member = hub.admit(&place, asked.client, VERSION, None);
        let member = member.map_err(|error| Refused::NotPlaced(error.to_string()))?;
        hub.set_guest(member.link, asked.node);
        let Ok(send) = respond.send_response(Response::new(()), false) else {
            // The trunk is gone.
            return Ok(());
        };
        let ticket = place.ticket();
        let task = links.spawn(async move {
            let upgraded = Upgraded {
                io: H2Stream::new(send, receive),
                read: Bytes::new(),
                member,
                base64: false,
                end: Partner::Guest,
            };
            link::serve(upgraded).await;
            drop((place, counted));
        });
        ticket.served_by(task);
        Ok(())
    }
}

/// The node, tenant and client that a request for a stream names.
struct Asked {
    node: NodeId,
    tenant: Option<String>,
    client: IpAddr,
}

impl Asked {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Some(Self {
            node: text(NODE)?.parse().ok()?,
            tenant: text(TENANT).map(str::to_owned),
            client: text(CLIENT)?.parse().ok()?,
        })
    }
}
