//! A stand-alone websocket-star rendezvous server; `--help` describes its options.

#![forbid(unsafe_code)]

mod access;
mod arguments;
mod certificate;
#[cfg(feature = "cluster")]
mod cluster;
mod descriptors;
#[path = "../common/errors.rs"]
mod errors;
mod output;
mod signals;
#[path = "../common/stop.rs"]
mod stop;

use std::{
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use libp2p_websocket_star::rendezvous::{BindError, Server};
use tokio::sync::Notify;
use tracing_subscriber::{EnvFilter, filter::ParseError};

use self::{
    access::{AccessError, AccessWatch, AdminFileError},
    arguments::{ArgumentError, Arguments, LogFormat},
    certificate::{CertificateError, Watch},
    errors::{one_line, with_sources},
    output::Output,
    signals::{Signal, Signals},
};

/// The exit status if the server cannot start as asked; the npm server uses the same.
const UNUSABLE: u8 = 2;
/// The longest time that the process waits at its end, for each output, until the remaining lines are written.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The reason why the server cannot start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    #[error("RUST_LOG cannot be understood")]
    Log(#[from] ParseError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Admin(#[from] AdminFileError),
    #[error("cannot resolve the host {host:?} to listen on")]
    Host {
        host: String,
        source: std::io::Error,
    },
    #[error("the host {0:?} to listen on has no address")]
    NoAddress(String),
    #[cfg(feature = "cluster")]
    #[error(transparent)]
    Cluster(#[from] cluster::ClusterError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot handle signals")]
    Signals(#[source] std::io::Error),
    #[error("cannot start the worker threads")]
    Runtime(#[source] std::io::Error),
}

/// The standard output and the standard error of the process.
struct Console {
    stdout: Output,
    stderr: Output,
}

impl Console {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            stdout: Output::stdout()?,
            stderr: Output::stderr()?,
        })
    }

    fn say(&self, line: &str) {
        self.stdout.line(line);
    }

    fn fail(&self, line: &str) -> ExitCode {
        self.stderr.line(&failure(line));
        ExitCode::from(UNUSABLE)
    }

    fn drain(&self) {
        self.stdout.drain(LAST_WORDS);
        self.stderr.drain(LAST_WORDS);
    }
}

fn main() -> ExitCode {
    let console = match Console::new() {
        Ok(console) => console,
        Err(error) => {
            let line = failure(&format!(
                "cannot start the threads that write the output: {error}"
            ));
            let _ = writeln!(std::io::stderr(), "{line}");
            return ExitCode::from(UNUSABLE);
        }
    };
    // The panic hook has already reported the panic.
    let code = catch_unwind(AssertUnwindSafe(|| run(&console)));
    console.drain();
    code.unwrap_or(ExitCode::FAILURE)
}

fn run(console: &Console) -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return console.fail(&one_line(&error.to_string())),
        // clap returns `--help` and `--version` as errors.
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return console.fail(&with_sources(&StartError::Runtime(error))),
    };
    let code = runtime.block_on(async {
        match start(arguments, console).await {
            Ok(running) => running.run(console).await,
            Err(error) => console.fail(&with_sources(&error)),
        }
    });
    // Does not wait for a name lookup that is still running.
    runtime.shutdown_background();
    code
}

struct Running {
    server: Server,
    watch: Watch,
    access: AccessWatch,
    signals: Signals,
}

async fn start(arguments: Arguments, console: &Console) -> Result<Running, StartError> {
    let arguments = arguments.with_environment()?;
    log_as(arguments.log, &console.stderr)?;
    let files = arguments.certificate_files()?;
    let access = AccessWatch::new(arguments.access_files()?, arguments.callout()?.as_ref())?;
    let addr = resolve(arguments.host(), arguments.port()?).await?;
    let config = access.apply(arguments.config()?.with_listen_addr(addr));
    let mut config = descriptors::prepare(config);
    let admin = arguments.admin()?;
    if let Some(admin) = &admin {
        config = config.with_admin(admin.load()?);
    }
    let watch = Watch::new(files.clone(), arguments.cert_check_interval);
    if let Some(files) = &files {
        config = config.with_tls(files.load()?);
    }
    #[cfg(feature = "cluster")]
    if let Some(settings) = arguments.cluster()? {
        config = config.with_cluster(settings.load().await?);
    }
    // The handlers are installed before the server is visible to others, who might then stop it at once.
    let signals = Signals::new().map_err(StartError::Signals)?;
    let server = Server::bind(config).await?;
    let scheme = if files.is_some() { "https" } else { "http" };
    console.say(&format!("Listening on: {scheme}://{}", server.local_addr()));
    // Without a public name, the first address is the IP address that the server listens on, or the loopback address if
    // it listens on all interfaces. That is not so if only the hosts of tenants are served.
    let ip = server.local_addr().ip();
    let is_local = (ip.is_loopback() || ip.is_unspecified())
        && arguments.public_name.is_empty()
        && !arguments.tenants.are_known_only();
    let mut peers = match is_local {
        true => "peers on this machine",
        false => "peers",
    };
    for address in server.addresses() {
        console.say(&format!("Address for {peers}: {address}"));
        peers = "peers";
    }
    if admin.is_some() {
        let addr = server.local_addr();
        console.say(&format!("Operator's page: {scheme}://{addr}/admin"));
    }
    Ok(Running {
        server,
        watch,
        access,
        signals,
    })
}

impl Running {
    async fn run(self, console: &Console) -> ExitCode {
        let Self {
            server,
            mut watch,
            mut access,
            mut signals,
        } = self;
        let ended = {
            let reload = Notify::new();
            let mut lists = pin!(access.run(&server, &reload));
            loop {
                tokio::select! {
                    signal = signals.next() => match signal {
                        Signal::Reload => {
                            watch.reload(&server);
                            reload.notify_one();
                        }
                        Signal::Stop => break None,
                    },
                    () = watch.changed() => watch.reload(&server),
                    never = &mut lists => match never {},
                    error = server.ended() => break Some(error),
                }
            }
        };
        if let Some(error) = ended {
            console.stderr.line(&failure(&error.to_string()));
            return ExitCode::FAILURE;
        }
        tokio::select! {
            () = server.shutdown() => {
                console.say("Rendezvous server stopped");
                ExitCode::SUCCESS
            }
            () = signals.stop() => {
                tracing::warn!("a second signal stops the server at once");
                ExitCode::FAILURE
            }
        }
    }
}

/// Writes the log and the messages of panics to `output`.
fn log_as(format: LogFormat, output: &Output) -> Result<(), ParseError> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(filter)?,
        // async_nats is silenced, because the server logs the state of its NATS connections itself.
        _ => EnvFilter::new("info,async_nats=off"),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // The subscriber would write its own errors directly to standard error, and panic if that fails.
        .log_internal_errors(false)
        .with_writer(output.clone());
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Logs a panic. The hook of the standard library would block on standard error.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let location = panic.location().map(ToString::to_string);
    tracing::error!(message = "a thread panicked", panic = ?text, location);
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, StartError> {
    // An IPv6 address may be in brackets, as in a URL.
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let mut found = tokio::net::lookup_host((bare.unwrap_or(host), port))
        .await
        .map_err(|source| StartError::Host {
            host: host.to_owned(),
            source,
        })?;
    found
        .next()
        .ok_or_else(|| StartError::NoAddress(host.to_owned()))
}

fn failure(line: &str) -> String {
    format!("websocket-star-rendezvous: {line}")
}

#[cfg(test)]
mod tests {
    use libp2p_websocket_star::rendezvous::Config;

    use super::{access::RuleFiles, *};

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    }

    #[test]
    fn a_server_that_has_ended_by_itself_ends_the_process_with_an_error() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let console = Console {
            stdout: Output::stdout().expect("a thread"),
            stderr: Output::to("test", writer).expect("a thread"),
        };
        // The tasks of the server end with this first runtime.
        let server = runtime().block_on(Server::bind(Config::default()));
        let code = runtime().block_on(async {
            let running = Running {
                server: server.expect("a free port"),
                watch: Watch::new(None, Duration::ZERO),
                access: AccessWatch::new(RuleFiles::default(), None).expect("no files"),
                signals: Signals::new().expect("signals"),
            };
            running.run(&console).await
        });
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(reader), &mut line)
            .expect("UTF-8");
        assert_eq!(
            line,
            "websocket-star-rendezvous: the Tokio runtime of the rendezvous was shut down\n"
        );
    }
}
