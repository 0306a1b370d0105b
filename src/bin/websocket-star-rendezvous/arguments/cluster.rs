//! The flags for a cluster: several rendezvous servers as one network.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use libp2p_websocket_star::rendezvous::cluster::NodeId;

use super::{ArgumentError, text_variable, values::duration, variable};
use crate::cluster::ClusterSettings;

/// The default address to listen on for trunks.
pub(super) const LISTEN: &str = "0.0.0.0:9443";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cluster: several servers as one network")]
pub struct ClusterArguments {
    /// Run as a node of a cluster with this NATS JetStream as its directory: nats-server 2.11 or newer, such as
    /// nats://127.0.0.1:4222 or tls://nats.internal. Several servers of one NATS cluster are separated by commas [env:
    /// CLUSTER]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    cluster: Vec<String>,
    /// The name of this node, unique in the cluster: a to z, 0 to 9, and - [env: NODE_ID]
    #[arg(long, value_name = "NAME")]
    node_id: Option<String>,
    /// The certificate of this node for trunks, in PEM, with the --node-id as a DNS name in its subjectAltName. It is
    /// used as client and as server [env: CLUSTER_CERT]
    #[arg(long, value_name = "FILE")]
    cluster_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM [env: CLUSTER_KEY]
    #[arg(long, value_name = "FILE")]
    cluster_key: Option<PathBuf>,
    /// The certificate of the authority that signs the certificates of all nodes, and no others [env: CLUSTER_CA]
    #[arg(long, value_name = "FILE")]
    cluster_ca: Option<PathBuf>,
    /// The address to listen on for trunks from the other nodes [env: CLUSTER_LISTEN] [default: 0.0.0.0:9443]
    #[arg(long, value_name = "IP:PORT")]
    cluster_listen: Option<String>,
    /// The address at which the other nodes reach --cluster-listen: a name or an IP address, and a port. Without it, it
    /// is --cluster-listen itself, which must then be an address of this machine [env: CLUSTER_ADVERTISE]
    #[arg(long, value_name = "HOST:PORT")]
    cluster_advertise: Option<String>,
    /// The credentials file (.creds) for NATS [env: CLUSTER_CREDENTIALS]
    #[arg(long, value_name = "FILE")]
    cluster_credentials: Option<PathBuf>,
    /// The certificate, in PEM, of the authority that signed the certificate of NATS, if the system does not trust it
    /// [env: CLUSTER_NATS_CA]
    #[arg(long, value_name = "FILE")]
    cluster_nats_ca: Option<PathBuf>,
    /// How long to go on after a request to stop. Meanwhile /health and new links are answered with 503, so that a load
    /// balancer sends new clients to other nodes before the open links have to move there
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    cluster_drain: Duration,
    /// The key-value bucket in NATS, created if it does not exist
    #[arg(long, value_name = "NAME", default_value = "websocket-star")]
    cluster_bucket: String,
    /// The number of servers on which NATS keeps the bucket, if it is created; 3 survive the loss of one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    cluster_replicas: u8,
}

impl ClusterArguments {
    /// Takes from the environment what the command line leaves out.
    pub(super) fn with_environment(mut self) -> Result<Self, ArgumentError> {
        let path = |said: Option<PathBuf>, name| said.or_else(|| variable(name).map(PathBuf::from));
        if self.cluster.is_empty()
            && let Some(servers) = text_variable("CLUSTER")?
        {
            self.cluster = servers.split(',').map(str::to_owned).collect();
        }
        self.node_id = self.node_id.or(text_variable("NODE_ID")?);
        self.cluster_cert = path(self.cluster_cert, "CLUSTER_CERT");
        self.cluster_key = path(self.cluster_key, "CLUSTER_KEY");
        self.cluster_ca = path(self.cluster_ca, "CLUSTER_CA");
        self.cluster_listen = self.cluster_listen.or(text_variable("CLUSTER_LISTEN")?);
        self.cluster_advertise = self
            .cluster_advertise
            .or(text_variable("CLUSTER_ADVERTISE")?);
        self.cluster_credentials = path(self.cluster_credentials, "CLUSTER_CREDENTIALS");
        self.cluster_nats_ca = path(self.cluster_nats_ca, "CLUSTER_NATS_CA");
        Ok(self)
    }

    /// Returns the settings of the cluster; `None` if this server is not to be a node of one.
    pub(super) fn settings(&self) -> Result<Option<ClusterSettings>, ArgumentError> {
        if self.cluster.is_empty() {
            let others = [
                (self.node_id.is_some(), "--node-id"),
                (self.cluster_cert.is_some(), "--cluster-cert"),
                (self.cluster_key.is_some(), "--cluster-key"),
                (self.cluster_ca.is_some(), "--cluster-ca"),
                (self.cluster_listen.is_some(), "--cluster-listen"),
                (self.cluster_advertise.is_some(), "--cluster-advertise"),
                (self.cluster_credentials.is_some(), "--cluster-credentials"),
                (self.cluster_nats_ca.is_some(), "--cluster-nats-ca"),
            ];
            return match others.iter().find(|(is_said, _)| *is_said) {
                Some((_, flag)) => Err(ArgumentError::NoCluster(flag)),
                None => Ok(None),
            };
        }
        fn needed<T: Clone>(said: &Option<T>, flag: &'static str) -> Result<T, ArgumentError> {
            said.clone().ok_or(ArgumentError::ClusterNeeds(flag))
        }
        let id = needed(&self.node_id, "--node-id NAME (or NODE_ID)")?;
        let id: NodeId = id
            .parse()
            .map_err(|error| ArgumentError::NodeId(id, error))?;
        let listen = self.cluster_listen.as_deref().unwrap_or(LISTEN);
        let listen_addr: SocketAddr = listen
            .parse()
            .map_err(|_| ArgumentError::ClusterListen(listen.to_owned()))?;
        if listen_addr.ip().is_unspecified() && self.cluster_advertise.is_none() {
            return Err(ArgumentError::ClusterNeeds(
                "--cluster-advertise HOST:PORT (or CLUSTER_ADVERTISE)",
            ));
        }
        Ok(Some(ClusterSettings {
            id,
            servers: self.cluster.clone(),
            bucket: self.cluster_bucket.clone(),
            replicas: self.cluster_replicas.into(),
            credentials: self.cluster_credentials.clone(),
            nats_authority: self.cluster_nats_ca.clone(),
            cert: needed(&self.cluster_cert, "--cluster-cert FILE (or CLUSTER_CERT)")?,
            key: needed(&self.cluster_key, "--cluster-key FILE (or CLUSTER_KEY)")?,
            authority: needed(&self.cluster_ca, "--cluster-ca FILE (or CLUSTER_CA)")?,
            listen_addr,
            advertised: self.cluster_advertise.clone(),
            drain_delay: self.cluster_drain,
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{super::Arguments, *};

    const ALL: [&str; 5] = [
        "--cluster=nats://a,nats://b",
        "--node-id=eu-1",
        "--cluster-cert=c",
        "--cluster-key=k",
        "--cluster-ca=a",
    ];

    fn settings(flags: &[&str]) -> Result<Option<ClusterSettings>, ArgumentError> {
        let flags = ["rendezvous"].iter().chain(flags);
        let arguments = Arguments::try_parse_from(flags).expect("valid");
        arguments.cluster.settings()
    }

    #[test]
    fn a_node_says_who_it_is_and_where_it_is_reached() {
        assert_eq!(settings(&[]), Ok(None));
        let all = [&ALL[..], &["--cluster-advertise=star-1:9443"]].concat();
        let told = settings(&all).expect("good").expect("a node");
        assert_eq!(told.servers, ["nats://a", "nats://b"]);
        assert_eq!(told.id.as_str(), "eu-1");
        assert_eq!(told.listen_addr, ([0, 0, 0, 0], 9443).into());
        assert_eq!(told.advertised.as_deref(), Some("star-1:9443"));
        let local = [&ALL[..], &["--cluster-listen=127.0.0.1:0"]].concat();
        let told = settings(&local).expect("good").expect("a node");
        assert_eq!((told.advertised, told.replicas), (None, 1));
    }

    #[test]
    fn what_is_missing_is_said() {
        for (left_out, name) in [
            (1, "--node-id"),
            (2, "--cluster-cert"),
            (3, "--cluster-key"),
            (4, "--cluster-ca"),
        ] {
            let mut flags = ALL.to_vec();
            flags.remove(left_out);
            flags.push("--cluster-advertise=a:1");
            let error = settings(&flags)
                .expect_err("something is missing")
                .to_string();
            assert!(error.contains(&format!("add {name} ")), "{error}");
        }
        let error = settings(&ALL).expect_err("nobody finds it").to_string();
        assert!(error.contains("--cluster-advertise"), "{error}");
        let alone = settings(&["--node-id=a"]).expect_err("alone").to_string();
        assert_eq!(
            alone,
            "--node-id needs a cluster: add --cluster URL (or CLUSTER)"
        );
        for bad in ["--node-id=A", "--cluster-listen=9443"] {
            let flags = [&ALL[..1], &[bad], &ALL[2..], &["--cluster-advertise=a:1"]].concat();
            assert!(settings(&flags).is_err(), "{bad}");
        }
    }
}
