//! The flags for access control.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use libp2p_websocket_star::rendezvous::{Config, Tenant};

use super::values::{count, positive_duration};
use crate::{
    access::{CalloutSettings, EndpointError, ListFiles, RuleFiles},
    arguments::ArgumentError,
};

/// The longest time that a join may wait for its verdict, in multiples of the timeout for the service: a join may first
/// have to wait for its turn.
const TURNS: u32 = 2;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Access control")]
pub(super) struct AccessArguments {
    /// Let in the peers in this file: one id a line, in base58 or as a CID; # begins a comment. With any of
    /// --allow-peers, --allow-networks, --token-file and --access-url, a peer needs one of them to let it in. Each of
    /// the five files can be given once for everyone and once for each --tenant, such as blue=FILE; both then apply to
    /// the tenant's peers
    #[arg(long, value_name = "[TENANT=]FILE")]
    allow_peers: Vec<PathBuf>,
    /// Refuse the peers in this file, even if another rule lets them in
    #[arg(long, value_name = "[TENANT=]FILE")]
    deny_peers: Vec<PathBuf>,
    /// Let in clients from the networks in this file: one a line, such as 10.0.0.0/8 or 2001:db8::1
    #[arg(long, value_name = "[TENANT=]FILE")]
    allow_networks: Vec<PathBuf>,
    /// Refuse clients from the networks in this file, even if another rule lets them in
    #[arg(long, value_name = "[TENANT=]FILE")]
    deny_networks: Vec<PathBuf>,
    /// Let in clients that show one of the tokens in this file: one a line; lines that begin with # are comments
    #[arg(long, value_name = "[TENANT=]FILE")]
    token_file: Vec<PathBuf>,
    /// Ask this service, over http or https, about peers that none of the files lets in; the documentation describes
    /// its requests and answers. Over http, tokens are sent only to a loopback IP address, not to a name
    // Kept as text: clap would repeat a value that it cannot parse in its error message, and a password may be in it.
    #[arg(long, value_name = "URL")]
    access_url: Option<String>,
    /// The root certificates to trust for the service, in PEM, instead of the web's authorities
    #[arg(long, value_name = "FILE", requires = "access_url")]
    access_ca: Option<PathBuf>,
    /// Time limit for an answer of the service; a join waits at most twice as long, for its turn and for the answer
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "3s")]
    access_timeout: Duration,
    /// Requests to the service at one time; other joins wait for their turn, which goes round among client addresses
    #[arg(long, value_name = "N", value_parser = count, default_value = "64")]
    access_in_flight: usize,
    /// While the service cannot be reached, fails the TLS handshake, takes too long, or answers with a status of 500 or
    /// more, let in everyone who is not on a deny list. Without this flag, no one is let in then
    #[arg(long, requires = "access_url")]
    access_fail_open: bool,
}

impl AccessArguments {
    /// Returns whether there is a list of peers.
    pub(super) fn has_peers(&self) -> bool {
        !self.allow_peers.is_empty() || !self.deny_peers.is_empty()
    }

    /// Returns the files, for everyone and for each of the tenants with these names.
    pub(super) fn files(&self, tenants: &[&str]) -> Result<RuleFiles, ArgumentError> {
        type Place = fn(&mut ListFiles) -> &mut Option<PathBuf>;
        let kinds: [(&str, &Vec<PathBuf>, Place); 5] = [
            ("--allow-peers", &self.allow_peers, |files| {
                &mut files.allow_peers
            }),
            ("--deny-peers", &self.deny_peers, |files| {
                &mut files.deny_peers
            }),
            ("--allow-networks", &self.allow_networks, |files| {
                &mut files.allow_networks
            }),
            ("--deny-networks", &self.deny_networks, |files| {
                &mut files.deny_networks
            }),
            ("--token-file", &self.token_file, |files| &mut files.tokens),
        ];
        let mut rules = RuleFiles::default();
        if !tenants.is_empty() {
            let names = tenants.iter().copied().chain([Tenant::DEFAULT]);
            let none = names.map(|name| (name.to_owned(), ListFiles::default()));
            rules.tenants.extend(none);
        }
        for (flag, paths, place) in kinds {
            for path in paths {
                let (files, path) = match of_tenant(path, tenants) {
                    None => (&mut rules.all, path.clone()),
                    Some((tenant, path)) => {
                        let files = rules.tenants.entry(tenant.to_owned());
                        (files.or_default(), path.into())
                    }
                };
                if place(files).replace(path).is_some() {
                    return Err(ArgumentError::ListTwice(flag));
                }
            }
        }
        Ok(rules)
    }

    pub(super) fn callout(&self) -> Result<Option<CalloutSettings>, EndpointError> {
        let Some(url) = &self.access_url else {
            return Ok(None);
        };
        Ok(Some(CalloutSettings {
            endpoint: url.parse()?,
            roots: self.access_ca.clone(),
            timeout: self.access_timeout,
            fail_open: self.access_fail_open,
            in_flight: self.access_in_flight,
        }))
    }

    pub(super) fn config(&self, config: Config) -> Config {
        config
            .with_access_in_flight(self.access_in_flight)
            .with_access_timeout(self.access_timeout * TURNS)
    }
}

/// Splits `TENANT=FILE` into the tenant and the file; `None` if the file is for everyone. Any other name that contains
/// an equals sign is the name of a file.
fn of_tenant<'a>(path: &'a Path, tenants: &[&str]) -> Option<(&'a str, &'a str)> {
    let (name, path) = path.to_str()?.split_once('=')?;
    let is_tenant = name == Tenant::DEFAULT || tenants.contains(&name);
    (is_tenant && !tenants.is_empty()).then_some((name, path))
}
