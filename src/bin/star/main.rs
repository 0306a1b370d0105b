//! A node for the command line; `star --help` describes its commands.

#![forbid(unsafe_code)]

mod address;
mod arguments;
mod doctor;
#[path = "../common/errors.rs"]
mod errors;
mod failure;
mod identity;
mod node;
mod output;
mod peers;
mod ping;
mod pipe;
mod settings;
#[path = "../common/stop.rs"]
mod stop;

use std::{io::IsTerminal as _, path::Path, process::ExitCode};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use tracing_subscriber::EnvFilter;

use self::{
    arguments::{Arguments, Command},
    errors::one_line,
    failure::{Failure, StartError, UNUSABLE},
    stop::Stop,
};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(wrong) => return unusable(&wrong),
    };
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.told(),
    }
}

/// Prints clap's answer to a command line that cannot be run, and returns the exit status.
fn unusable(wrong: &clap::Error) -> ExitCode {
    match wrong.kind() {
        // clap returns the help and the version as errors. Printing may fail if no one reads the output.
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = wrong.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = wrong.print();
            ExitCode::from(UNUSABLE)
        }
        _ => {
            output::note(&format!("star: {}", one_line(&wrong.to_string())));
            ExitCode::from(UNUSABLE)
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Completions { shell } => completions(shell),
        Command::Id(arguments) => id(&arguments.identity),
        command => {
            log()?;
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.enable_all().build().map_err(StartError::Threads)?;
            // The command runs on a thread of the runtime, where waking a task does not have to wake another thread.
            let done = runtime.block_on(runtime.spawn(online(command)));
            // Does not wait for a name lookup that is still running.
            runtime.shutdown_background();
            // The panic has already been reported.
            done.unwrap_or(Err(Failure::Told))
        }
    }
}

/// Runs a command that needs the network.
async fn online(command: Command) -> Result<(), Failure> {
    let mut stop = Stop::new().map_err(StartError::Signals)?;
    match command {
        Command::Peers(arguments) => peers::run(arguments, &mut stop).await,
        Command::Ping(arguments) => ping::run(arguments, &mut stop).await,
        Command::Pipe(arguments) => pipe::run(arguments, &mut stop).await,
        Command::Doctor(arguments) => doctor::run(arguments, &mut stop).await,
        Command::Id(_) | Command::Completions { .. } => Ok(()),
    }
}

fn id(identity: &Path) -> Result<(), Failure> {
    let key = identity::load(identity).map_err(StartError::from)?;
    output::say(&key.public().to_peer_id().to_string())
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "star", &mut script);
    output::say(String::from_utf8_lossy(&script).trim_end())
}

fn has_no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty())
}

/// Writes logs to standard error, if the environment asks for them.
fn log() -> Result<(), StartError> {
    let Some(filter) = std::env::var("RUST_LOG").ok().filter(|set| !set.is_empty()) else {
        return Ok(());
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_ansi(std::io::stderr().is_terminal() && !has_no_color())
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
