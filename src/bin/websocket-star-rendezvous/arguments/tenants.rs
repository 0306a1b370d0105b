//! The flags for tenants: several networks on one server.

use libp2p_websocket_star::rendezvous::{Config, Network, Tenant, TenantError};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Tenants: several networks on one server")]
pub struct TenantArguments {
    /// Run a separate network for clients that ask for one of these hosts; may be repeated. All other clients belong to
    /// the tenant `default`. A host separates networks, it does not authorise: to restrict who may join, use the flags
    /// for access control
    #[arg(long, value_name = "NAME=HOST[,HOST…]")]
    tenant: Vec<Tenant>,
    /// Answer 421 to requests for a link, the page or /admin at a host that no --tenant has
    #[arg(long, requires = "tenant")]
    known_hosts_only: bool,
    /// The clients to which /metrics shows all tenants, at a host that no tenant has: IP addresses and networks,
    /// separated by commas
    #[arg(
        long,
        value_name = "IP",
        value_delimiter = ',',
        requires = "tenant",
        default_value = "127.0.0.0/8,::1"
    )]
    operators: Vec<Network>,
}

impl TenantArguments {
    /// Returns the names of the tenants, except for the default one.
    pub fn names(&self) -> Vec<&str> {
        self.tenant.iter().map(Tenant::name).collect()
    }

    /// Returns whether only the hosts of tenants are served, so that there is no default tenant.
    pub fn are_known_only(&self) -> bool {
        self.known_hosts_only
    }

    pub(super) fn config(&self, config: Config) -> Result<Config, TenantError> {
        let config = config
            .with_known_hosts_only(self.known_hosts_only)
            .with_operators(self.operators.iter().copied());
        config.with_tenants(self.tenant.iter().cloned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{
        super::{ArgumentError, Arguments},
        *,
    };

    #[test]
    fn tenants_have_hosts_and_lists() {
        let parse = |flags: &[&str]| {
            let flags = ["rendezvous"].iter().chain(flags);
            Arguments::try_parse_from(flags).map_err(|error| error.to_string())
        };
        let flags = [
            "--tenant=blue=a.example,b.example",
            "--tenant=red=c.example",
            "--known-hosts-only",
            "--allow-peers=all",
            "--allow-peers=blue=b",
            "--token-file=default=d",
            "--token-file=red=r=1",
            "--deny-peers=green=g",
        ];
        let arguments = parse(&flags).expect("valid");
        let tenant = |text: &str| text.parse::<Tenant>().expect("a tenant");
        let tenants = [tenant("blue=a.example,b.example"), tenant("red=c.example")];
        let expected = Config::default().with_tenants(tenants).expect("good");
        let expected = expected.with_known_hosts_only(true);
        let config = arguments.config().expect("good");
        assert_eq!(format!("{config:?}"), format!("{expected:?}"));
        let files = arguments.access_files().expect("good");
        let paths: Vec<_> = files.paths().map(|path| path.to_str()).collect();
        assert_eq!(paths, ["all", "green=g", "b", "d", "r=1"].map(Some));
        assert_eq!(
            files.tenants.keys().collect::<Vec<_>>(),
            ["blue", "default", "red"]
        );

        let twice = ["--tenant=blue=a.example", "--tenant=red=A.example:80"];
        let error = parse(&twice)
            .expect("valid")
            .config()
            .expect_err("one host");
        assert_eq!(
            error.to_string(),
            "--tenant: two tenants have the host a.example"
        );
        for list in [
            "--allow-peers=a",
            "--tenant=blue=a.example --allow-peers=blue=a",
        ] {
            let flags: Vec<_> = list.split(' ').collect();
            let last = flags.last().copied().into_iter();
            let flags: Vec<_> = flags.iter().copied().chain(last).collect();
            let error = parse(&flags).expect("valid").access_files().err();
            assert_eq!(error, Some(ArgumentError::ListTwice("--allow-peers")));
        }
        // Without tenants, the whole value is the name of a file.
        let files = parse(&["--allow-peers=default=a"])
            .expect("valid")
            .access_files();
        assert!(files.expect("good").tenants.is_empty());
        for bad in ["--tenant=blue", "--tenant=default=a", "--known-hosts-only"] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }
}
