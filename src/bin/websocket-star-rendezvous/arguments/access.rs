//! The flags for who may use the rendezvous.

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

/// How many times as long as the service may take a join may wait in all: it may have to wait for its turn.
const TURNS: u32 = 2;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Who may use it")]
pub(super) struct AccessArguments {
    /// Let in the peers in this file: one id a line, in base58 or as a CID; # begins a comment. With any of --allow-peers,
    /// --allow-networks, --token-file and --access-url, only those are let in whom one of them lets in. All five files can be
    /// given once for everybody and once for each --tenant, such as blue=FILE; those hold for its peers as well
    #[arg(long, value_name = "[TENANT=]FILE")]
    allow_peers: Vec<PathBuf>,
    /// Keep out the peers in this file, whatever else lets them in
    #[arg(long, value_name = "[TENANT=]FILE")]
    deny_peers: Vec<PathBuf>,
    /// Let in whoever comes from the networks in this file: one a line, such as 10.0.0.0/8 or 2001:db8::1
    #[arg(long, value_name = "[TENANT=]FILE")]
    allow_networks: Vec<PathBuf>,
    /// Keep out whoever comes from the networks in this file, whatever else lets them in
    #[arg(long, value_name = "[TENANT=]FILE")]
    deny_networks: Vec<PathBuf>,
    /// Let in whoever shows one of the tokens in this file: one a line; lines that begin with # are comments
    #[arg(long, value_name = "[TENANT=]FILE")]
    token_file: Vec<PathBuf>,
    /// Ask this service, http or https, about peers that none of the files lets in; the README says how. Over http to another
    /// machine it is told no tokens
    // As it is written: clap repeats what it cannot read, and a password may be in there.
    #[arg(long, value_name = "URL")]
    access_url: Option<String>,
    /// Who vouches for the certificate of the service, in PEM, instead of the web's authorities
    #[arg(long, value_name = "FILE", requires = "access_url")]
    access_ca: Option<PathBuf>,
    /// For an answer of the service; a join waits twice as long at most, for its turn and for the answer
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "3s")]
    access_timeout: Duration,
    /// Requests to the service at one time; the other joins wait for their turn, which goes round among addresses
    #[arg(long, value_name = "N", value_parser = count, default_value = "64")]
    access_in_flight: usize,
    /// Let everybody in, but those on deny lists, while the service cannot be reached, takes too long, or answers with a
    /// status of 500 or more. Without it, nobody is
    #[arg(long, requires = "access_url")]
    access_fail_open: bool,
}

impl AccessArguments {
    /// Whether there is a list of peers.
    pub(super) fn has_peers(&self) -> bool {
        !self.allow_peers.is_empty() || !self.deny_peers.is_empty()
    }

    /// The files, where these are the names of the tenants.
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

/// The tenant that a file is for, if it is for one, and the file. Any other name with an equals sign in it is a file's.
fn of_tenant<'a>(path: &'a Path, tenants: &[&str]) -> Option<(&'a str, &'a str)> {
    let (name, path) = path.to_str()?.split_once('=')?;
    let is_tenant = name == Tenant::DEFAULT || tenants.contains(&name);
    (is_tenant && !tenants.is_empty()).then_some((name, path))
}
