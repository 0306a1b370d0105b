//! A rendezvous with a listening socket.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::SystemTime,
};

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

#[cfg(feature = "rendezvous")]
use super::admin;
use super::{
    config::Config,
    house::House,
    names::PublicName,
    running::{Rendezvous, ServeError, Sockets},
    snapshot::Snapshot,
    supervised::EndError,
    tenant::Tenant,
    tls::{TlsConfig, TlsError},
};

/// Why a server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The server cannot be a node of its cluster.
    #[cfg(feature = "cluster")]
    #[error("cannot be a node of a cluster")]
    Cluster(#[from] super::cluster::JoinError),
    /// The certificate is not valid at present.
    #[error("cannot use TLS")]
    Tls(#[from] TlsError),
}

/// A running rendezvous with a listening socket of its own.
///
/// Dropping it stops it at once; [`shutdown`](Self::shutdown) notifies its peers.
#[derive(Debug)]
pub struct Server {
    rendezvous: Rendezvous,
    local_addr: SocketAddr,
}

impl Server {
    /// Starts a rendezvous. Its tasks are spawned on the current tokio runtime.
    ///
    /// # Errors
    /// [`BindError::Listen`] if the address cannot be listened on, [`BindError::Tls`] if the certificate has expired or
    /// is not valid yet, and `BindError::Cluster` if the node cannot join its cluster.
    ///
    /// # Cancel safety
    /// Dropping the future stops what has been started.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        if let Some(tls) = config.tls() {
            tls.check_validity(SystemTime::now())?;
        }
        let addr = config.listen_addr();
        #[cfg(feature = "rendezvous")]
        admin::warn_of_plain_http(&config);
        #[cfg(feature = "cluster")]
        let trunks = super::trunks::bind(&config)?;
        let listen = |source| BindError::Listen { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let sockets = Sockets {
            listener: Some(listener),
            #[cfg(feature = "cluster")]
            trunks,
        };
        let rendezvous = Rendezvous::start_with(config, sockets);
        tracing::info!(%local_addr, "rendezvous started");
        Ok(Self {
            rendezvous,
            local_addr,
        })
    }

    /// Returns the address that it listens on. The port is the real one if port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns the addresses for peers to listen on, ready for `Swarm::listen_on`: with the real port, `/ws` or `/wss`,
    /// and at least one.
    ///
    /// Where the server listens on all interfaces, this is the loopback address, for peers on this machine: the server
    /// cannot know the name or address at which others reach it. A `/wss` address works for peers only if the
    /// certificate is for that address. Usually the certificate is for a name, and the address to publish is
    /// `/dns4/<name>/tcp/<port>/wss/p2p-websocket-star`.
    ///
    /// With [public names](Config::with_public_names) there is one address for each of them, since peers may join under
    /// no other. There is also one for each host of a [tenant](Config::with_tenants). A proxy in front of the server
    /// may have another port.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        let ip = match self.local_addr.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let scheme = match self.house().tls() {
            Some(_) => Protocol::Wss("/".into()),
            None => Protocol::Ws("/".into()),
        };
        let address = |host| {
            Multiaddr::empty()
                .with(host)
                .with(Protocol::Tcp(self.local_addr.port()))
                .with(scheme.clone())
                .with(Protocol::P2pWebSocketStar)
        };
        let config = self.house().config();
        let mut hosts: Vec<_> = match config.takes_unknown_hosts() {
            true => config.public_names().hosts().collect(),
            false => Vec::new(),
        };
        if hosts.is_empty() && config.takes_unknown_hosts() {
            hosts.push(ip.into());
        }
        let tenants = config.tenants().all();
        let theirs: Vec<_> = tenants
            .flat_map(Tenant::hosts)
            .map(PublicName::host)
            .collect();
        // Only the peers of a tenant may join under its hosts.
        hosts.retain(|host| !theirs.contains(host));
        let mut told = BTreeSet::new();
        let all = hosts.into_iter().chain(theirs).map(address);
        all.filter(|address| told.insert(address.clone())).collect()
    }

    /// Uses another certificate for new connections from now on. Open links keep theirs and are not disturbed.
    ///
    /// # Errors
    /// If the certificate has expired or is not valid yet, or the server was started without TLS. The server then keeps
    /// what it had.
    pub fn reload_tls(&self, tls: TlsConfig) -> Result<(), TlsError> {
        self.house().tls().ok_or(TlsError::NotInUse)?.replace(tls)?;
        tracing::info!("certificate replaced");
        Ok(())
    }

    /// Serves a connection that was accepted elsewhere, like a connection that the server has accepted itself, but
    /// without TLS: see [`Rendezvous::serve_connection`].
    ///
    /// # Errors
    /// [`ServeError::Refused`] if there is no place for it, or `remote` connects too often; [`ServeError::Ended`] if
    /// the server has [ended](Self::ended).
    pub async fn serve_connection<S>(&self, io: S, remote: SocketAddr) -> Result<(), ServeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.rendezvous.serve_connection(io, remote).await
    }

    /// Closes the links of a peer and sends it this text: see [`Rendezvous::disconnect`].
    pub async fn disconnect(&self, peer: &PeerId, words: &str) -> usize {
        self.rendezvous.disconnect(peer, words).await
    }

    /// Closes the links of peers that may not stay: see [`Rendezvous::recheck_access`].
    pub async fn recheck_access(&self) -> usize {
        self.rendezvous.recheck_access().await
    }

    /// Returns the current state of all tenants together.
    pub fn snapshot(&self) -> Snapshot {
        self.rendezvous.snapshot()
    }

    /// Returns the current state of one tenant: see [`Rendezvous::tenant_snapshot`].
    pub fn tenant_snapshot(&self, tenant: &str) -> Option<Snapshot> {
        self.rendezvous.tenant_snapshot(tenant)
    }

    /// Waits until the server has ended although nobody has stopped it, and returns the reason: see
    /// [`Rendezvous::ended`].
    pub async fn ended(&self) -> EndError {
        self.rendezvous.ended().await
    }

    /// Stops the server: it takes no new links and ends every stream with a reason. Every link is closed when its peer
    /// has taken what is queued for it, or when the shutdown timeout is over.
    ///
    /// A node of a cluster drains first: for a while it answers `/health` and new links with 503, and everything else
    /// goes on.
    ///
    /// Not cancel safe: dropping the future stops the server at once.
    pub async fn shutdown(self) {
        self.rendezvous.shutdown().await;
    }

    fn house(&self) -> &House {
        self.rendezvous.tenants().house()
    }
}
