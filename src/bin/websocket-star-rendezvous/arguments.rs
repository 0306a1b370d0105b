//! The command line and the environment, and the settings that follow from them.

mod access;
mod admin;
#[cfg(feature = "cluster")]
mod cluster;
mod limits;
mod quotas;
mod tenants;
mod values;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
#[cfg(feature = "cluster")]
use libp2p_websocket_star::rendezvous::cluster::NodeIdError;
use libp2p_websocket_star::rendezvous::{Config, Network, PublicName, TenantError, TokenError};

#[cfg(feature = "cluster")]
use self::cluster::ClusterArguments;
use self::{
    access::AccessArguments,
    admin::{AdminArguments, BansAlone},
    limits::LimitArguments,
    quotas::QuotaArguments,
    tenants::TenantArguments,
    values::{duration, positive_duration, weight},
};
use crate::access::{AdminSettings, CalloutSettings, EndpointError, RuleFiles};
#[cfg(feature = "cluster")]
use crate::cluster::ClusterSettings;

const ABOUT: &str =
    "A websocket-star rendezvous: libp2p peers find and reach each other through it.";

const AFTER_HELP: &str = "\
Environment (a flag overrides its variable; an empty variable counts as unset):
  HOST, PORT, KEY, CERT, PFX                     same as the flags of these names
  PFX_PASSPHRASE                                 same as --passphrase
  DISABLE_CRYPTO_CHALLENGE, DISABLE_STRICT_MULTIADDR, DISABLE_METRICS
                                                 any non-empty value, even 0, means yes
  ADMIN_TOKEN                                    the token for the operator's page, instead of --admin-token-file
  RUST_LOG                                       what to log, such as `debug` or `libp2p_websocket_star=trace`

Sizes are in bytes, or with a unit: 64KiB, 1MiB. Durations are in seconds, or with a unit: 500ms, 30s, 5m.

Signals: SIGHUP reloads the certificate and the access lists, and clears the cached answers of the access service; SIGTERM and SIGINT end all streams and stop the server.
Exit status: 0 after SIGTERM or SIGINT, 2 if the server cannot start as asked, 1 otherwise, also after a second signal.";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Parser)]
#[command(name = "websocket-star-rendezvous", version, about = ABOUT, after_help = AFTER_HELP)]
pub struct Arguments {
    /// The IP address or host name to listen on [env: HOST] [default: 0.0.0.0]
    #[arg(short = 'H', long, help_heading = "Listening")]
    pub host: Option<String>,
    /// The port to listen on; 0 chooses a free one [env: PORT] [default: 9090]
    #[arg(short, long, help_heading = "Listening")]
    port: Option<String>,
    /// The reverse proxies in front, each an IP address or a network such as 10.0.0.0/8, separated by commas. Only
    /// their X-Forwarded-For headers are used to find the origin of a link
    #[arg(
        long,
        value_name = "IP",
        value_delimiter = ',',
        help_heading = "Listening"
    )]
    trusted_proxy: Vec<Network>,
    /// Expect a PROXY protocol header, version 1 or 2, at the start of each connection from a trusted proxy, as
    /// haproxy's send-proxy writes it. It gives the client's address, in place of X-Forwarded-For. A connection from
    /// such a proxy without a valid header is refused
    #[arg(long, requires = "trusted_proxy", help_heading = "Listening")]
    proxy_protocol: bool,
    /// Give each address of a network N shares when something is scarce, instead of 1, as for a company or a carrier
    /// with many peers behind one address; may be repeated, and the longest prefix counts
    #[arg(long, value_name = "NETWORK=N", value_parser = weight, help_heading = "Listening")]
    origin_weight: Vec<(Network, u32)>,
    /// A DNS name or an IP address of this server: peers may join under these names only. May be repeated or separated
    /// by commas; without it, any name is accepted
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        help_heading = "Protocol"
    )]
    pub public_name: Vec<PublicName>,

    /// The certificate chain in PEM, the server's own certificate first; needs --key [env: CERT]
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    cert: Option<PathBuf>,
    /// The private key of the certificate in PEM (PKCS#8, PKCS#1 or SEC1); needs --cert [env: KEY]
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    key: Option<PathBuf>,
    /// Certificate and key in one PFX (PKCS#12) file, instead of --cert and --key [env: PFX]
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pfx: Option<PathBuf>,
    /// The passphrase of the PFX file or of the key. Every user of the machine can see it on the command line: better
    /// use the variable [env: PFX_PASSPHRASE]
    #[arg(long, value_name = "TEXT", help_heading = "TLS")]
    passphrase: Option<String>,
    /// How often to check these files for changes and reload them; 0 for never
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s", help_heading = "TLS")]
    pub cert_check_interval: Duration,

    /// Let peers join without proof of their key, so that anyone can take any address [env: DISABLE_CRYPTO_CHALLENGE]
    #[arg(long, alias = "disableCryptoChallenge", help_heading = "Protocol")]
    disable_crypto_challenge: bool,
    /// Accept any multiaddr, not only those of websocket-star [env: DISABLE_STRICT_MULTIADDR]
    #[arg(long, alias = "disableStrictMultiaddr", help_heading = "Protocol")]
    disable_strict_multiaddr: bool,
    /// How often to announce each peer to the others
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "10s", help_heading = "Protocol")]
    announce_interval: Duration,
    /// The heartbeat interval: how often an Engine.IO 3 client is told to send a ping, and an Engine.IO 4 client is
    /// sent one
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "25s", help_heading = "Protocol")]
    ping_interval: Duration,
    /// How long a client may be silent beyond --ping-interval
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "20s", help_heading = "Protocol")]
    ping_timeout: Duration,

    /// Answer /metrics with 404 [env: DISABLE_METRICS]
    #[arg(long, alias = "disableMetrics", help_heading = "Monitoring")]
    disable_metrics: bool,
    /// The number of heaviest senders that /metrics names, each with the bytes that it has sent today; at most 100
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=100), default_value = "0", help_heading = "Monitoring")]
    metrics_top_peers: u64,
    /// The format of the log on standard error: text, or json with one object a line
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true,
        help_heading = "Monitoring"
    )]
    pub log: LogFormat,

    #[command(flatten)]
    pub tenants: TenantArguments,

    #[cfg(feature = "cluster")]
    #[command(flatten)]
    cluster: ClusterArguments,

    #[command(flatten)]
    admin: AdminArguments,

    #[command(flatten)]
    access: AccessArguments,

    #[command(flatten)]
    quotas: QuotaArguments,

    #[command(flatten)]
    limits: LimitArguments,
}

/// The files that hold the certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFiles {
    Pem {
        cert: PathBuf,
        key: PathBuf,
        passphrase: Option<String>,
    },
    Pfx {
        pfx: PathBuf,
        passphrase: Option<String>,
    },
}

/// An error in the command line or the environment.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArgumentError {
    #[error("the port {0:?} is not a number from 0 to 65535 (--port or PORT)")]
    Port(String),
    #[error("the {0} is not UTF-8")]
    NotText(&'static str),
    #[error("there is a key but no certificate: add --cert FILE (or CERT)")]
    KeyWithoutCertificate,
    #[error("there is a certificate but no key: add --key FILE (or KEY)")]
    CertificateWithoutKey,
    #[error(
        "both a PFX file and --cert or --key are given: leave one of them out (check PFX, CERT and KEY in the environment, too)"
    )]
    TwoCertificates,
    #[error(
        "--allow-peers and --deny-peers need proof of the keys: leave out --disable-crypto-challenge \
         (check DISABLE_CRYPTO_CHALLENGE in the environment, too)"
    )]
    PeersWithoutProof,
    #[error("--tenant: {0}")]
    Tenants(#[from] TenantError),
    #[error("{0} is given twice for the same tenant, or twice for all tenants")]
    ListTwice(&'static str),
    /// The message leaves out the URL, which may contain a password.
    #[error("--access-url {0}")]
    AccessUrl(#[from] EndpointError),
    /// The message leaves out the token, which is a secret.
    #[error("ADMIN_TOKEN cannot be used: {0}")]
    AdminToken(#[from] TokenError),
    #[error(
        "--admin-ban-file needs the operator's page: add --admin-token-file FILE (or ADMIN_TOKEN)"
    )]
    BansWithoutPage,
    #[cfg(feature = "cluster")]
    #[error("{0} needs a cluster: add --cluster URL (or CLUSTER)")]
    NoCluster(&'static str),
    #[cfg(feature = "cluster")]
    #[error("a setting of the cluster is missing: add {0}")]
    ClusterNeeds(&'static str),
    #[cfg(feature = "cluster")]
    #[error("{0:?} is not a valid --node-id (or NODE_ID): {1}")]
    NodeId(String, NodeIdError),
    #[cfg(feature = "cluster")]
    #[error("{0:?} is not an IP address and a port (--cluster-listen or CLUSTER_LISTEN)")]
    ClusterListen(String),
    #[error("there is a passphrase but nothing to use it for: add --pfx FILE, or --cert and --key")]
    PassphraseAlone,
}

/// Returns the value of an environment variable; `None` if it is unset or empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn text_variable(name: &'static str) -> Result<Option<String>, ArgumentError> {
    let text = variable(name).map(OsString::into_string).transpose();
    text.map_err(|_| ArgumentError::NotText(name))
}

impl Arguments {
    /// Takes from the environment what the command line leaves out.
    pub fn with_environment(mut self) -> Result<Self, ArgumentError> {
        let path = |name| variable(name).map(PathBuf::from);
        self.host = self.host.or(text_variable("HOST")?);
        self.port = self.port.or(text_variable("PORT")?);
        // A certificate on the command line, as PEM or as PFX, rules out one of the other kind in the environment.
        let (said_pem, said_pfx) = (
            self.key.is_some() || self.cert.is_some(),
            self.pfx.is_some(),
        );
        if !said_pfx {
            self.key = self.key.or_else(|| path("KEY"));
            self.cert = self.cert.or_else(|| path("CERT"));
        }
        if !said_pem {
            self.pfx = self.pfx.or_else(|| path("PFX"));
        }
        if self.passphrase.is_none() && (self.pfx.is_some() || self.key.is_some()) {
            self.passphrase = text_variable("PFX_PASSPHRASE")?;
        }
        self.disable_crypto_challenge |= variable("DISABLE_CRYPTO_CHALLENGE").is_some();
        self.disable_strict_multiaddr |= variable("DISABLE_STRICT_MULTIADDR").is_some();
        self.disable_metrics |= variable("DISABLE_METRICS").is_some();
        if !self.admin.has_file() {
            let token = text_variable("ADMIN_TOKEN")?;
            self.admin.token = token.map(|token| token.parse()).transpose()?;
        }
        #[cfg(feature = "cluster")]
        {
            self.cluster = self.cluster.with_environment()?;
        }
        Ok(self)
    }

    pub fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("0.0.0.0")
    }

    pub fn port(&self) -> Result<u16, ArgumentError> {
        let Some(port) = &self.port else {
            return Ok(9090);
        };
        let bad = |_| ArgumentError::Port(port.clone());
        port.parse().map_err(bad)
    }

    pub fn certificate_files(&self) -> Result<Option<CertificateFiles>, ArgumentError> {
        let passphrase = self.passphrase.clone();
        match (self.cert.clone(), self.key.clone(), self.pfx.clone()) {
            (None, None, None) if passphrase.is_some() => Err(ArgumentError::PassphraseAlone),
            (None, None, None) => Ok(None),
            (Some(cert), Some(key), None) => Ok(Some(CertificateFiles::Pem {
                cert,
                key,
                passphrase,
            })),
            (None, None, Some(pfx)) => Ok(Some(CertificateFiles::Pfx { pfx, passphrase })),
            (Some(_), None, None) => Err(ArgumentError::CertificateWithoutKey),
            (None, Some(_), None) => Err(ArgumentError::KeyWithoutCertificate),
            (_, _, Some(_)) => Err(ArgumentError::TwoCertificates),
        }
    }

    /// Returns the files with the access lists and tokens.
    pub fn access_files(&self) -> Result<RuleFiles, ArgumentError> {
        let files = self.access.files(&self.tenants.names())?;
        if self.access.has_peers() && self.disable_crypto_challenge {
            return Err(ArgumentError::PeersWithoutProof);
        }
        Ok(files)
    }

    /// Returns the settings of the access service, if one is given.
    pub fn callout(&self) -> Result<Option<CalloutSettings>, ArgumentError> {
        Ok(self.access.callout()?)
    }

    /// Returns the settings of the operator's page, if it is enabled.
    pub fn admin(&self) -> Result<Option<AdminSettings>, ArgumentError> {
        let settings = self.admin.settings();
        settings.map_err(|BansAlone| ArgumentError::BansWithoutPage)
    }

    /// Returns the settings of the cluster, if this server is to be a node of one.
    #[cfg(feature = "cluster")]
    pub fn cluster(&self) -> Result<Option<ClusterSettings>, ArgumentError> {
        self.cluster.settings()
    }

    /// Returns the configuration of the server, except for the address to listen on, the certificate, the operator's
    /// page, the cluster, and the access rules.
    ///
    /// # Errors
    /// If there are too many tenants, or two of them share a name or a host.
    pub fn config(&self) -> Result<Config, ArgumentError> {
        let weights = self.origin_weight.iter();
        let config = weights.fold(Config::default(), |config, (network, weight)| {
            config.with_origin_weight(*network, *weight)
        });
        let config = self.quotas.config(self.access.config(config));
        let config = self.tenants.config(config)?;
        let config = config
            .with_challenge(!self.disable_crypto_challenge)
            .with_strict_multiaddr(!self.disable_strict_multiaddr)
            .with_metrics(!self.disable_metrics)
            .with_metrics_top_peers(self.metrics_top_peers as usize)
            .with_trusted_proxies(self.trusted_proxy.iter().copied())
            .with_proxy_protocol(self.proxy_protocol)
            .with_public_names(self.public_name.iter().cloned())
            .with_announce_interval(self.announce_interval)
            .with_ping_interval(self.ping_interval)
            .with_ping_timeout(self.ping_timeout)
            .with_limits(self.limits.limits());
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_in_itself() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_defaults_that_the_help_shows_are_the_librarys() {
        let arguments = Arguments::try_parse_from(["rendezvous"]).expect("nothing is needed");
        let (ours, librarys) = (arguments.config().expect("none"), Config::default());
        assert_eq!(format!("{ours:#?}"), format!("{librarys:#?}"));
        // The help names these defaults by hand, because clap does not know the environment; clap adds the other
        // defaults itself.
        let port = arguments.port().expect("a port").to_string();
        for argument in Arguments::command().get_arguments() {
            let help = argument.get_help().map(ToString::to_string);
            let told = help.as_deref().unwrap_or_default().split_once("[default: ");
            let expected = match argument.get_id().as_str() {
                "host" => Some(arguments.host()),
                "port" => Some(port.as_str()),
                #[cfg(feature = "cluster")]
                "cluster_listen" => Some(cluster::LISTEN),
                _ => None,
            };
            let told = told.map(|(_, default)| default.trim_end_matches(']'));
            assert_eq!(told, expected, "{argument}");
        }
    }

    #[test]
    fn trusted_proxies_are_given_one_by_one_or_separated_by_commas() {
        let flags = [
            "--trusted-proxy=127.0.0.1,::1",
            "--trusted-proxy",
            "10.0.0.0/8",
        ];
        let arguments = Arguments::try_parse_from(["rendezvous"].into_iter().chain(flags));
        let told = arguments.expect("valid").trusted_proxy;
        let told: Vec<_> = told.iter().map(Network::to_string).collect();
        assert_eq!(told, ["127.0.0.1/32", "::1/128", "10.0.0.0/8"]);
        for bad in ["localhost", "10.0.0.0/33", ""] {
            let flags = ["rendezvous", "--trusted-proxy", bad];
            assert!(Arguments::try_parse_from(flags).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_proxy_protocol_is_spoken_by_trusted_proxies_only() {
        let parse = |flags: &[&str]| {
            let flags = ["rendezvous"].iter().chain(flags);
            Arguments::try_parse_from(flags)
                .map(|arguments| arguments.config().expect("no tenants"))
        };
        let trusted = "--trusted-proxy=::1";
        let expected = parse(&[trusted]).expect("valid").with_proxy_protocol(true);
        let told = parse(&[trusted, "--proxy-protocol"]).expect("valid");
        assert_eq!(format!("{told:?}"), format!("{expected:?}"));
        assert!(parse(&["--proxy-protocol"]).is_err());
    }

    #[test]
    fn weights_of_networks_come_to_the_config() {
        let flags = [
            "rendezvous",
            "--origin-weight",
            "10.0.0.0/8=5",
            "--origin-weight=::1=2",
        ];
        let arguments = Arguments::try_parse_from(flags).expect("valid");
        let network = |text: &str| text.parse().expect("a network");
        let expected = Config::default()
            .with_origin_weight(network("10.0.0.0/8"), 5)
            .with_origin_weight(network("::1"), 2);
        let config = arguments.config().expect("no tenants");
        assert_eq!(format!("{config:?}"), format!("{expected:?}"));
        assert!(Arguments::try_parse_from(["rendezvous", "--origin-weight", "::1"]).is_err());
    }

    #[test]
    fn public_names_are_given_one_by_one_or_separated_by_commas() {
        let flags = ["--public-name=star.example,::1", "--public-name", "a.test"];
        let arguments = Arguments::try_parse_from(["rendezvous"].into_iter().chain(flags));
        let told = arguments.expect("valid").public_name;
        let told: Vec<_> = told.iter().map(PublicName::to_string).collect();
        assert_eq!(told, ["star.example", "::1", "a.test"]);
        for bad in ["wss://star.example", "star.example:443", ""] {
            let flags = ["rendezvous", "--public-name", bad];
            assert!(Arguments::try_parse_from(flags).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_may_use_the_server_is_said_by_files_and_a_service() {
        let parse = |flags: &[&str]| {
            let flags = ["rendezvous"].iter().chain(flags);
            Arguments::try_parse_from(flags).map_err(|error| error.to_string())
        };
        let none = parse(&[]).expect("valid");
        assert!(none.access_files().expect("none").are_none());
        assert!(none.callout().expect("none").is_none());
        let flags = [
            "--allow-peers=a",
            "--deny-peers=b",
            "--allow-networks=c",
            "--deny-networks=d",
            "--token-file=e",
            "--access-url=https://access.example/?key=secret",
            "--access-ca=f",
            "--access-timeout=500ms",
            "--access-in-flight=7",
            "--access-fail-open",
        ];
        let all = parse(&flags).expect("valid");
        let files = all.access_files().expect("the challenge is on");
        let paths: Vec<_> = files.paths().map(|path| path.to_str()).collect();
        assert_eq!(paths, ["a", "b", "c", "d", "e"].map(Some));
        let callout = format!("{:?}", all.callout());
        assert!(!callout.contains("secret"), "{callout}");
        let expected = Config::default()
            .with_access_in_flight(7)
            .with_access_timeout(Duration::from_secs(1));
        let config = all.config().expect("no tenants");
        assert_eq!(format!("{config:?}"), format!("{expected:?}"));

        for flag in ["--allow-peers=a", "--deny-peers=a"] {
            let unproved = parse(&[flag, "--disable-crypto-challenge"]);
            let refused = unproved.expect("valid").access_files().err();
            assert_eq!(refused, Some(ArgumentError::PeersWithoutProof));
        }
        for bad in ["access.example", "https://user:secret@access.example"] {
            let flag = format!("--access-url={bad}");
            let refused = parse(&[&flag]).expect("clap looks at none").callout();
            let refused = refused.expect_err(bad).to_string();
            assert!(refused.starts_with("--access-url must "), "{refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
        for bad in [
            "--access-fail-open",
            "--access-ca=f",
            "--access-timeout=0",
            "--access-in-flight=0",
        ] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_operators_page_is_asked_for_by_a_file_or_the_environment() {
        let parse = |flags: &[&str]| {
            let flags = ["rendezvous"].iter().chain(flags);
            Arguments::try_parse_from(flags).expect("valid")
        };
        assert!(parse(&[]).admin().expect("none").is_none());
        let file = parse(&["--admin-token-file=a", "--admin-ban-file=b"]);
        let shown = format!("{:?}", file.admin());
        let expected = r#"Ok(Some(AdminSettings { token: File("a"), bans: Some("b") }))"#;
        assert_eq!(shown, expected);
        let mut given = parse(&[]);
        given.admin.token = Some("a-secret".parse().expect("a token"));
        let shown = format!("{given:?} {:?}", given.admin());
        assert!(shown.contains("Given(Token(…))") && !shown.contains("a-secret"));
        let alone = parse(&["--admin-ban-file=b"]).admin().err();
        assert_eq!(alone, Some(ArgumentError::BansWithoutPage));
    }

    #[test]
    fn the_npm_servers_spelling_is_understood() {
        let flags = [
            "--disableCryptoChallenge",
            "--disableStrictMultiaddr",
            "--disableMetrics",
        ];
        let arguments =
            Arguments::try_parse_from(["rendezvous", "-p", "1"].into_iter().chain(flags));
        let arguments = arguments.expect("valid");
        assert!(arguments.disable_crypto_challenge);
        assert!(arguments.disable_strict_multiaddr);
        assert!(arguments.disable_metrics);
        assert_eq!(arguments.port(), Ok(1));
    }
}
