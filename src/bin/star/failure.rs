//! The errors with which a command ends.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    process::ExitCode,
};

use libp2p_websocket_star::{Error as StarError, preset::NoTransport};

use crate::{
    address::PlaceError, errors::with_sources, identity::IdentityError, output::note,
    pipe::PipeError,
};

/// The exit status of a command that cannot start as asked.
pub const UNUSABLE: u8 = 2;

/// The exit status of a command that has failed.
const FAILED: u8 = 1;

/// The reason why a command cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("cannot read {}: {error}", .path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{} is too long", .0.display())]
    TooLong(PathBuf),
    #[error("STAR_TOKEN is not valid Unicode")]
    Token,
    #[error("STAR_CODE is not valid Unicode")]
    Code,
    #[error(transparent)]
    Config(#[from] StarError),
    #[error(transparent)]
    Transport(#[from] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    NoTransport(#[from] NoTransport),
    #[error("cannot start the worker threads: {0}")]
    Threads(#[source] io::Error),
    #[error("cannot handle signals: {0}")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Stream(#[from] libp2p_stream::AlreadyRegistered),
    #[error("cannot use the standard streams: {0}")]
    Streams(#[source] io::Error),
    #[error("RUST_LOG cannot be understood: {0}")]
    Log(#[from] tracing_subscriber::filter::ParseError),
}

/// The reason why a command has failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The rendezvous failed; the text is the transport's message.
    #[error("{0}")]
    Rendezvous(String),
    /// A peer cannot be reached.
    #[error("the peer cannot be reached: {0}")]
    Unreachable(String),
    /// The connection to a peer was lost.
    #[error("the connection to the peer is lost{}{}", if .0.is_empty() { "" } else { ": " }, .0)]
    Lost(String),
    #[error("the peer does not answer pings")]
    NoPings,
    #[error("no answer")]
    NoAnswer,
    #[error("interrupted before the rendezvous was joined")]
    NotJoined,
    #[error(transparent)]
    Pipe(#[from] PipeError),
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// Standard output was closed. This is not reported, because the program that closed it knows.
    #[error("standard output is closed")]
    Closed,
    /// The failure has already been reported.
    #[error("it has failed")]
    Told,
    /// This failure has already been reported. It only decides the exit status.
    #[error(transparent)]
    Reported(Box<Failure>),
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        Self::Start(error.into())
    }
}

impl Failure {
    /// Converts an error of standard output.
    pub fn from_output(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Output(error),
        }
    }

    /// Prints the failure on standard error, unless that is not needed, and returns the exit status.
    pub fn told(&self) -> ExitCode {
        if !matches!(self, Self::Closed | Self::Told | Self::Reported(_)) {
            note(&format!("star: {}", with_sources(self)));
        }
        ExitCode::from(self.status())
    }

    fn status(&self) -> u8 {
        match self {
            Self::Start(_) => UNUSABLE,
            Self::Reported(failure) => failure.status(),
            _ => FAILED,
        }
    }
}
