//! The command line and the environment: what may be said, and what is meant by it.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use libp2p_websocket_star::rendezvous::{Config, Limits};

const ABOUT: &str =
    "A websocket-star rendezvous: libp2p peers find and reach each other through it.";

const AFTER_HELP: &str = "\
Environment (a flag wins over its variable; an empty variable counts as unset):
  HOST, PORT, KEY, CERT, PFX                     as the flags of these names
  PFX_PASSPHRASE                                 as --passphrase
  DISABLE_CRYPTO_CHALLENGE, DISABLE_STRICT_MULTIADDR, DISABLE_METRICS
                                                 any value that is not empty, even 0, means yes
  RUST_LOG                                       what to log, such as `debug` or `libp2p_websocket_star=trace`

Sizes are in bytes, or with a unit: 64KiB, 1MiB. Durations are in seconds, or with a unit: 500ms, 30s, 5m.

Signals: SIGHUP reads the certificate anew; SIGTERM and SIGINT end all streams and stop.
Exit status: 0 after SIGTERM or SIGINT, 2 if the server cannot be started as it was asked to, 1 otherwise.";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Parser)]
#[command(name = "websocket-star-rendezvous", version, about = ABOUT, after_help = AFTER_HELP)]
pub struct Arguments {
    /// The interface to listen on: an IP address or a name [env: HOST] [default: 0.0.0.0]
    #[arg(short = 'H', long, help_heading = "Listening")]
    pub host: Option<String>,
    /// The port to listen on; 0 takes any free one [env: PORT] [default: 9090]
    #[arg(short, long, help_heading = "Listening")]
    port: Option<String>,

    /// The certificate chain in PEM, the server's own first; needs --key [env: CERT]
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    cert: Option<PathBuf>,
    /// Its private key in PEM (PKCS#8, PKCS#1 or SEC1); needs --cert [env: KEY]
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    key: Option<PathBuf>,
    /// Both in one PFX (PKCS#12) file, instead of --cert and --key [env: PFX]
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pfx: Option<PathBuf>,
    /// What the PFX file or the key is encrypted with. Every user of the machine can see it here: better
    /// use the variable [env: PFX_PASSPHRASE]
    #[arg(long, value_name = "TEXT", help_heading = "TLS")]
    passphrase: Option<String>,
    /// How often to look whether these files have changed, and to read them anew; 0 for never
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s", help_heading = "TLS")]
    pub cert_check_interval: Duration,

    /// Let peers join without proof of their key: anybody can take any address
    /// [env: DISABLE_CRYPTO_CHALLENGE]
    #[arg(long, alias = "disableCryptoChallenge", help_heading = "Protocol")]
    disable_crypto_challenge: bool,
    /// Take any multiaddr, not only those of websocket-star [env: DISABLE_STRICT_MULTIADDR]
    #[arg(long, alias = "disableStrictMultiaddr", help_heading = "Protocol")]
    disable_strict_multiaddr: bool,
    /// How often each peer is announced to the others
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "10s", help_heading = "Protocol")]
    announce_interval: Duration,

    /// Answer /metrics with 404 [env: DISABLE_METRICS]
    #[arg(long, alias = "disableMetrics", help_heading = "Watching")]
    disable_metrics: bool,
    /// How the log on standard error looks: text, or json with one object a line
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true,
        help_heading = "Watching"
    )]
    pub log: LogFormat,

    #[command(flatten)]
    limits: LimitArguments,
}

/// A default is the library's if nothing is said.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArguments {
    /// Links in all; further ones get 503 [default: 10000]
    #[arg(long, value_name = "N", value_parser = count)]
    max_links: Option<usize>,
    /// Addresses that one link may join [default: 16]
    #[arg(long, value_name = "N", value_parser = count)]
    max_joins: Option<usize>,
    /// Dials from a link, and as many to it, that wait for their answer [default: 256]
    #[arg(long, value_name = "N", value_parser = count)]
    max_pending_dials: Option<usize>,
    /// Dials of a link with an open stream [default: 4096]
    #[arg(long, value_name = "N", value_parser = count)]
    max_open_dials: Option<usize>,
    /// A WebSocket message must be shorter than this [default: 1000000]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_message: Option<usize>,
    /// What may wait for one link until its senders have to wait [default: 1MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_queue: Option<usize>,
    /// What all repeated announcements together may take per second [default: 8MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    announce_rate: Option<usize>,
    /// For a TLS handshake, and for an HTTP request [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    handshake_timeout: Option<Duration>,
    /// From the start of a link to its first join [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    join_timeout: Option<Duration>,
    /// For the answer of a dialled peer [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    dial_timeout: Option<Duration>,
    /// A link that takes none of what is queued for it for so long is closed [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    stall_timeout: Option<Duration>,
    /// To hand over what is queued when the server stops [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    shutdown_timeout: Option<Duration>,
}

/// Where the certificate is.
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

/// What is said makes no sense.
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
        "both a PFX file and --cert or --key are given: leave one of them out (look at PFX, CERT and KEY in the environment, too)"
    )]
    TwoCertificates,
    #[error("there is a passphrase but nothing to use it for: add --pfx FILE, or --cert and --key")]
    PassphraseAlone,
}

/// A variable, unless it is empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn text_variable(name: &'static str) -> Result<Option<String>, ArgumentError> {
    let text = variable(name).map(OsString::into_string).transpose();
    text.map_err(|_| ArgumentError::NotText(name))
}

impl Arguments {
    /// Fills in from the environment what the command line does not say.
    pub fn with_environment(mut self) -> Result<Self, ArgumentError> {
        let path = |name| variable(name).map(PathBuf::from);
        self.host = self.host.or(text_variable("HOST")?);
        self.port = self.port.or(text_variable("PORT")?);
        // One kind of certificate on the command line rules out the other in the environment.
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

    /// All but where to listen, and the certificate.
    pub fn config(&self) -> Config {
        Config::default()
            .with_challenge(!self.disable_crypto_challenge)
            .with_strict_multiaddr(!self.disable_strict_multiaddr)
            .with_metrics(!self.disable_metrics)
            .with_announce_interval(self.announce_interval)
            .with_limits(self.limits.limits())
    }
}

impl LimitArguments {
    fn limits(&self) -> Limits {
        fn set<T>(limits: Limits, value: Option<T>, with: fn(Limits, T) -> Limits) -> Limits {
            match value {
                Some(value) => with(limits, value),
                None => limits,
            }
        }
        let limits = Limits::default();
        let limits = set(limits, self.max_links, Limits::with_max_links);
        let limits = set(limits, self.max_joins, Limits::with_max_joins);
        let limits = set(
            limits,
            self.max_pending_dials,
            Limits::with_max_pending_dials,
        );
        let limits = set(limits, self.max_open_dials, Limits::with_max_open_dials);
        let limits = set(limits, self.max_message, Limits::with_message_limit);
        let limits = set(limits, self.max_queue, Limits::with_queue_limit);
        let limits = set(limits, self.announce_rate, Limits::with_announce_rate);
        let limits = set(
            limits,
            self.handshake_timeout,
            Limits::with_handshake_timeout,
        );
        let limits = set(limits, self.join_timeout, Limits::with_join_timeout);
        let limits = set(limits, self.dial_timeout, Limits::with_dial_timeout);
        let limits = set(limits, self.stall_timeout, Limits::with_stall_timeout);
        set(limits, self.shutdown_timeout, Limits::with_shutdown_timeout)
    }
}

/// Why a number is not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum NumberError {
    #[error("must be a whole number, at least 1")]
    Count,
    #[error("must be a whole number of bytes, at least 1, or one with KiB or MiB")]
    Size,
    #[error("must be a whole number of seconds, or one with ms, s, m or h; a day at most")]
    Duration,
    #[error("must be longer than 0")]
    Zero,
}

fn count(text: &str) -> Result<usize, NumberError> {
    let count = text.parse().map_err(|_| NumberError::Count)?;
    if count == 0 {
        return Err(NumberError::Count);
    }
    Ok(count)
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

fn size(text: &str) -> Result<usize, NumberError> {
    let (number, unit) = split_unit(text);
    let unit = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => return Err(NumberError::Size),
    };
    let number: usize = number.parse().map_err(|_| NumberError::Size)?;
    let size = number.checked_mul(unit).filter(|size| *size > 0);
    size.ok_or(NumberError::Size)
}

fn duration(text: &str) -> Result<Duration, NumberError> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let (number, unit) = split_unit(text);
    let millis = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return Err(NumberError::Duration),
    };
    let number: u64 = number.parse().map_err(|_| NumberError::Duration)?;
    let duration = number.checked_mul(millis).map(Duration::from_millis);
    duration
        .filter(|duration| *duration <= DAY)
        .ok_or(NumberError::Duration)
}

fn positive_duration(text: &str) -> Result<Duration, NumberError> {
    match duration(text)? {
        Duration::ZERO => Err(NumberError::Zero),
        duration => Ok(duration),
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
    fn sizes_and_durations_have_units() {
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1 MiB"), Ok(1 << 20));
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for bad in ["", "-1", "1.5", "x", "1MB", "99999999999999999999", "0"] {
            assert_eq!(size(bad), Err(NumberError::Size), "{bad}");
        }
        for bad in ["", "-1", "1.5", "x", "1d", "25h", "18446744073709551615h"] {
            assert_eq!(duration(bad), Err(NumberError::Duration), "{bad}");
        }
        assert_eq!(positive_duration("0"), Err(NumberError::Zero));
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
