//! The command line and the environment.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use libp2p_identity::PeerId;

use crate::address::Place;

const ABOUT: &str = "A node at a websocket-star rendezvous: sees who is there, reaches them, and finds what is wrong.";

const AFTER_HELP: &str = "\
RENDEZVOUS is an address such as /dns4/star.example/tcp/443/wss/p2p-websocket-star, or a URL such as wss://star.example.

Environment (a flag wins over its variable; an empty variable counts as unset):
  STAR_RENDEZVOUS                                the rendezvous, where none is given
  STAR_TOKEN                                     the token that the rendezvous asks for, in place of --token-file
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY   the proxies, in place of --proxy
  NO_COLOR                                       no colours
  RUST_LOG                                       logs on standard error, such as `libp2p_websocket_star=debug`

Connections are encrypted and authenticated with noise, always.
Exit status: 0 if all went well, 1 if what was asked for failed, 2 if it could not be begun.";

const PEERS_HELP: &str = "\
On a terminal, a table that is drawn anew. In a pipe, a line for each event:
  + PEER          it is here
  = PEER TIME     how long a round trip to it takes
  ! PEER REASON   it cannot be reached
  - PEER          it has not been heard of lately
At most 16 peers are dialled at once, and each at most once a minute.";

const PIPE_HELP: &str = "\
One end runs `star pipe --listen RENDEZVOUS`, and prints the command for the other on standard error. Whoever knows the code in
that, once, or is one of the peers that --allow names, is the other end.

Each input ends its own direction only. The status is 0 if both ends have written out all that came, and 1 if anything else
has ended one of them; then both say why. With --json, standard error has one JSON object a line, the last of which is the end.";

#[derive(Debug, Parser)]
#[command(name = "star", version, about = ABOUT, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows who is at a rendezvous, and how long a round trip to each takes
    #[command(after_help = PEERS_HELP)]
    Peers(PeersArguments),
    /// Measures round trips to a peer
    Ping(PingArguments),
    /// Carries standard input to a peer, and what comes from it to standard output
    #[command(after_help = PIPE_HELP)]
    Pipe(PipeArguments),
    /// Looks for what is wrong between here and a rendezvous
    Doctor(DoctorArguments),
    /// Prints the peer id of an identity
    Id(IdArguments),
    /// Prints a script that completes commands in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What all nodes take.
#[derive(Debug, Args)]
pub struct NodeArguments {
    /// The file with the key, which is made if there is none; without it, each run has a key of its own
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The file with the token that the rendezvous asks for [env: STAR_TOKEN, the token itself]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Trusts these root certificates too (PEM or DER); may be given several times
    #[arg(long, value_name = "FILE")]
    pub root_certificate: Vec<PathBuf>,
    /// The proxy: http://, https:// or socks5://. Others on this machine see the command line: put a password into a
    /// variable [default: as HTTPS_PROXY and the like have it]
    #[arg(long, value_name = "URL", conflicts_with = "no_proxy")]
    pub proxy: Option<String>,
    /// Uses no proxy, whatever the environment says
    #[arg(long)]
    pub no_proxy: bool,
    /// Joins a rendezvous that asks for no proof of the key: anybody can take this node's address there
    #[arg(long)]
    pub allow_disabled_challenge: bool,
    /// How long connecting, joining and dialling may take each: seconds, or 500ms, 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// Prints one JSON object a line, for scripts
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PeersArguments {
    /// The rendezvous [env: STAR_RENDEZVOUS]
    pub rendezvous: Option<Place>,
    /// Ends as soon as everybody who is there has answered or failed
    #[arg(long, conflicts_with = "for")]
    pub once: bool,
    /// Ends after so long [default: at Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub r#for: Option<Duration>,
    /// Dials nobody: only lists
    #[arg(long)]
    pub no_ping: bool,
    #[command(flatten)]
    pub node: NodeArguments,
}

#[derive(Debug, Args)]
pub struct PingArguments {
    #[command(flatten)]
    pub to: To,
    /// Ends after so many pings [default: at Ctrl-C]
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
    /// Waits for a peer at the rendezvous, and prints the command for the other end
    #[arg(long)]
    pub listen: bool,
    /// With --listen: the peer that may connect, without a code; may be given several times
    #[arg(long, value_name = "PEER", requires = "listen")]
    pub allow: Vec<PeerId>,
    /// The code that the listening end has printed; others on this machine can read it here, but not in STAR_CODE [env: STAR_CODE]
    #[arg(long, value_name = "CODE", conflicts_with = "listen")]
    pub code: Option<String>,
    #[command(flatten)]
    pub node: NodeArguments,
}

#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// The rendezvous [env: STAR_RENDEZVOUS]
    pub rendezvous: Option<String>,
    /// Sends no bulk through the rendezvous: 8 MiB otherwise
    #[arg(long)]
    pub no_bulk: bool,
    #[command(flatten)]
    pub node: NodeArguments,
}

#[derive(Debug, Args)]
pub struct IdArguments {
    /// The file with the key, which is made if there is none
    pub identity: PathBuf,
}

/// Where a peer is.
#[derive(Debug, Args)]
pub struct To {
    /// The rendezvous and the peer id, or the address that has both; with STAR_RENDEZVOUS, the peer id is enough
    #[arg(value_name = "RENDEZVOUS|PEER", num_args = 0..=2, action = ArgAction::Append)]
    pub to: Vec<String>,
}

/// The longest time that makes sense anywhere, and that no clock overflows with.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A number of seconds, or with a unit: ms, s or m.
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
        return Err("must be more than nothing".to_owned());
    }
    if time > LONGEST {
        return Err("must be a day at most".to_owned());
    }
    Ok(time)
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    match interval >= Duration::from_millis(100) {
        true => Ok(interval),
        false => Err("must be at least 100ms: a stranger answers".to_owned()),
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
