//! The cluster settings: reads the files of the cluster and connects to its directory.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use libp2p_websocket_star::rendezvous::{
    TlsConfig, TlsError,
    cluster::{
        Cluster, DirectoryError, NatsConfig, NatsDirectory, NodeId, TrunkTls, TrunkTlsError,
    },
};

/// The settings of the cluster, from the command line and the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    pub id: NodeId,
    pub servers: Vec<String>,
    pub bucket: String,
    pub replicas: usize,
    pub credentials: Option<PathBuf>,
    pub nats_authority: Option<PathBuf>,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
    pub listen_addr: SocketAddr,
    pub advertised: Option<String>,
    pub drain_delay: Duration,
}

/// The reason why this server cannot be a node of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not UTF-8 text")]
    NotText { path: PathBuf },
    #[error("cannot use {cert} and {key}: {source}")]
    Certificate {
        cert: PathBuf,
        key: PathBuf,
        source: TlsError,
    },
    #[error("cannot use {authority}: {source}")]
    Authority {
        authority: PathBuf,
        source: TrunkTlsError,
    },
    #[error("cannot use NATS at {servers} as the directory")]
    Directory {
        servers: String,
        source: DirectoryError,
    },
}

fn read(path: &Path) -> Result<Vec<u8>, ClusterError> {
    fs::read(path).map_err(|source| ClusterError::Read {
        path: path.to_owned(),
        source,
    })
}

impl ClusterSettings {
    /// Reads the files and connects to the directory.
    pub async fn load(self) -> Result<Cluster, ClusterError> {
        let (cert, key) = (read(&self.cert)?, read(&self.key)?);
        let own = TlsConfig::from_pem(&cert, &key);
        let own = own.map_err(|source| ClusterError::Certificate {
            cert: self.cert.clone(),
            key: self.key.clone(),
            source,
        })?;
        let tls = TrunkTls::new(own, &read(&self.authority)?);
        let tls = tls.map_err(|source| ClusterError::Authority {
            authority: self.authority.clone(),
            source,
        })?;
        let mut nats = NatsConfig::new(self.servers.clone())
            .with_bucket(self.bucket)
            .with_replicas(self.replicas);
        if let Some(path) = &self.credentials {
            let text = String::from_utf8(read(path)?);
            let text = text.map_err(|_| ClusterError::NotText { path: path.clone() })?;
            nats = nats.with_credentials(text);
        }
        if let Some(authority) = self.nats_authority {
            nats = nats.with_authority(authority);
        }
        let servers = nats.shown_servers().join(",");
        let directory = NatsDirectory::connect(nats).await;
        let directory = directory.map_err(|source| ClusterError::Directory { servers, source })?;
        let cluster = Cluster::new(self.id, directory, tls)
            .with_listen_addr(self.listen_addr)
            .with_drain_delay(self.drain_delay);
        Ok(match self.advertised {
            Some(advertised) => cluster.with_advertised(advertised),
            None => cluster,
        })
    }
}
