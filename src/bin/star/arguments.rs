//! The command line and the environment.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use libp2p_identity::PeerId;

use crate::address::Place;

const ABOUT: &str = "A node at a websocket-star rendezvous: shows who is there, reaches peers, and finds out what is wrong.";

const AFTER_HELP: &str = "\
RENDEZVOUS is an address such as /dns4/star.example/tcp/443/wss/p2p-websocket-star, or a URL such as wss://star.example.

Environment (a flag overrides its variable; an empty variable counts as unset):
  STAR_RENDEZVOUS                                the rendezvous, if none is given
  STAR_TOKEN                                     the token that the rendezvous asks for, instead of --token-file
  STAR_CODE                                      the code of `star pipe`, instead of --code
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY   the proxies, instead of --proxy
  NO_COLOR                                       no colours
  RUST_LOG                                       what to log on standard error, such as `libp2p_websocket_star=debug`

All connections are encrypted and authenticated with noise.
Exit status: 0 if the command succeeded, 1 if it failed, 2 if it could not start as asked.";

const PEERS_HELP: &str = "\
On a terminal, the peers are shown in a table that is redrawn. In a pipe, each event is one line:
  + PEER          the peer is here
  = PEER TIME     a round trip to the peer takes this long
  ! PEER REASON   the peer cannot be reached
  - PEER          the peer has not been announced lately
At most 16 peers are dialled at once, and each at most once a minute.";

const PIPE_HELP: &str = "\
One end runs `star pipe --listen RENDEZVOUS`, which prints the command for the other end on standard error. The code in that
command lets in one peer, once. With --allow, there is no code, and one of the peers that --allow names may connect.

The end of one input ends only its own direction. The exit status is 0 if both ends have written out everything, and 1 if
either of them ended in another way; then both say why. With --json, standard error has one JSON object a line, and the last
one is the end.";

#[derive(Debug, Parser)]
#[command(name = "star", version, about = ABOUT, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show who is at a rendezvous, and how long a round trip to each peer takes
    #[command(after_help = PEERS_HELP)]
    Peers(PeersArguments),
    /// Measure round trips to a peer
    Ping(PingArguments),
    /// Send standard input to a peer, and write what the peer sends to standard output
    #[command(after_help = PIPE_HELP)]
    Pipe(PipeArguments),
    /// Find out what is wrong between here and a rendezvous
    Doctor(DoctorArguments),
    /// Print the peer id of an identity
    Id(IdArguments),
    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The arguments that all nodes take.
#[derive(Debug, Args)]
pub struct NodeArguments {
    /// The file with the key, created if it does not exist; without it, each run has a new key
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The file with the token that the rendezvous asks for [env: STAR_TOKEN, the token itself]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Trust the root certificates in this file too (PEM or DER); may be given several times
    #[arg(long, value_name = "FILE")]
    pub root_certificate: Vec<PathBuf>,
    /// The proxy to use: http://, https:// or socks5://. Others on this machine can see the command line: put a
    /// password into a variable [default: from HTTPS_PROXY and the like]
    #[arg(long, value_name = "URL", conflicts_with = "no_proxy")]
    pub proxy: Option<String>,
    /// Use no proxy, even if the environment names one
    #[arg(long)]
    pub no_proxy: bool,
    /// Join a rendezvous that does not ask for proof of the key, where anyone can take this node's address
    #[arg(long)]
    pub allow_disabled_challenge: bool,
    /// Time limit for each of connecting, joining and dialling: seconds, or 500ms, 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// Print one JSON object a line, for scripts
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PeersArguments {
    /// The rendezvous [env: STAR_RENDEZVOUS]
    pub rendezvous: Option<Place>,
    /// End as soon as every peer that is there has answered or failed
    #[arg(long, conflicts_with = "for")]
    pub once: bool,
    /// End after this time [default: at Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub r#for: Option<Duration>,
    /// Only list the peers, without dialling them
    #[arg(long)]
    pub no_ping: bool,
    #[command(flatten)]
    pub node: NodeArguments,
}

#[derive(Debug, Args)]
pub struct PingArguments {
    #[command(flatten)]
    pub to: To,
    /// End after this number of pings [default: at Ctrl-C]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// The time between two pings, at least 100ms
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    #[command(flatten)]
    pub node: NodeArguments,
}

#[derive(Debug, Args)]
pub struct PipeArguments {
    #[command(flatten)]
    pub to: To,
    /// Wait for a peer at the rendezvous, and print the command for the other end
    #[arg(long)]
    pub listen: bool,
    /// With --listen, let this peer connect, without a code; may be given several times
    #[arg(long, value_name = "PEER", requires = "listen")]
    pub allow: Vec<PeerId>,
    /// The code that the listening end has printed. Others on this machine can read it on the command line, but not in
    /// the variable [env: STAR_CODE]
    #[arg(long, value_name = "CODE", conflicts_with = "listen")]
    pub code: Option<String>,
    #[command(flatten)]
    pub node: NodeArguments,
}

#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// The rendezvous [env: STAR_RENDEZVOUS]
    pub rendezvous: Option<String>,
    /// Leave out the test that sends 8 MiB through the rendezvous
    #[arg(long)]
    pub no_bulk: bool,
    #[command(flatten)]
    pub node: NodeArguments,
}

#[derive(Debug, Args)]
pub struct IdArguments {
    /// The file with the key, created if it does not exist
    pub identity: PathBuf,
}

/// The address of a peer.
#[derive(Debug, Args)]
pub struct To {
    /// The rendezvous and the peer id, or the address that has both; with STAR_RENDEZVOUS, the peer id is enough
    #[arg(value_name = "RENDEZVOUS|PEER", num_args = 0..=2, action = ArgAction::Append)]
    pub to: Vec<String>,
}

/// The longest time that is accepted: more makes no sense anywhere, and no clock overflows with it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Parses a time: a number of seconds, or with a unit: ms, s or m.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a time such as 500ms, 10s or 5m".to_owned();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let time = match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    };
    let time = time.ok_or_else(wrong)?;
    if time.is_zero() {
        return Err("must be more than 0".to_owned());
    }
    if time > LONGEST {
        return Err("must be one day at most".to_owned());
    }
    Ok(time)
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    match interval >= Duration::from_millis(100) {
        true => Ok(interval),
        false => Err("must be at least 100ms, to spare the peer that answers".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in [
            "",
            "s",
            "-1",
            "1h",
            "1.5s",
            "ü",
            "0",
            "99999999999999999999",
            "18446744073709551615m",
            "18446744073709551615",
            "86401",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(interval("50ms").is_err());
    }
}
