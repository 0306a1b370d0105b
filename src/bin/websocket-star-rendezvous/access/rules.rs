//! The lists for everyone, and the lists of tenants, which apply to the peers of a tenant in addition.

use std::{collections::BTreeMap, fmt, path::Path};

use libp2p_websocket_star::rendezvous::{Join, Tenant};

use super::{
    file::FileError,
    lists::{ListFiles, Lists, Opinion},
};

/// The paths of the list files.
#[derive(Debug, Clone, Default)]
pub struct RuleFiles {
    pub all: ListFiles,
    /// The files of each tenant, by the tenant's name; empty if there are no tenants.
    pub tenants: BTreeMap<String, ListFiles>,
}

impl RuleFiles {
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let tenants = self.tenants.values();
        self.all.paths().chain(tenants.flat_map(ListFiles::paths))
    }

    /// Returns whether there are no files.
    pub fn are_none(&self) -> bool {
        self.paths().next().is_none()
    }

    /// Reads all the files.
    ///
    /// # Errors
    /// If a file cannot be read or has an invalid line.
    pub fn load(&self) -> Result<Rules, FileError> {
        let tenants = self.tenants.iter();
        let tenants = tenants.map(|(name, files)| Ok((name.clone(), files.load()?)));
        Ok(Rules {
            all: self.all.load()?,
            tenants: tenants.collect::<Result<_, FileError>>()?,
        })
    }
}

/// The lists for everyone, and those of tenants.
#[derive(Default)]
pub struct Rules {
    all: Lists,
    tenants: BTreeMap<String, Lists>,
}

impl Rules {
    fn of_tenant(&self, join: &Join) -> Option<&Lists> {
        if self.tenants.is_empty() {
            return None;
        }
        self.tenants.get(join.tenant().unwrap_or(Tenant::DEFAULT))
    }

    /// Returns the result for a join. A deny list always wins; otherwise one allow list is enough.
    pub fn opinion(&self, join: &Join) -> Opinion {
        let for_all = self.all.opinion(join);
        let Some(lists) = self.of_tenant(join) else {
            return for_all;
        };
        let own = lists.opinion(join);
        match (for_all, own) {
            (Opinion::No(_), _) => for_all,
            (_, Opinion::No(_)) => own,
            (Opinion::Yes(_), _) => for_all,
            (_, Opinion::Yes(_)) => own,
            // If there is a list of tokens for everyone, the reason says that a token would help.
            (Opinion::Unlisted(_), Opinion::Unlisted(_)) => match self.all.take_tokens() {
                true => for_all,
                false => own,
            },
        }
    }

    /// Returns the tenants that let in everyone who is not denied; empty if all tenants do.
    pub fn open_tenants(&self) -> Vec<&str> {
        let is_open = |lists: &Lists| self.all.are_open() && lists.are_open();
        let open = self.tenants.iter().filter(|(_, lists)| is_open(lists));
        let open: Vec<_> = open.map(|(name, _)| &**name).collect();
        match open.len() == self.tenants.len() {
            true => Vec::new(),
            false => open,
        }
    }

    /// Returns whether the tenant of this join lets in everyone who is not on a deny list.
    pub fn are_open_for(&self, join: &Join) -> bool {
        self.all.are_open() && self.of_tenant(join).is_none_or(Lists::are_open)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.all.fmt(f)?;
        self.tenants
            .iter()
            .try_for_each(|(name, lists)| write!(f, ", {name}: {lists:?}"))
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::{
        super::lists::{AllowList, DenyList},
        *,
    };

    /// A folder with list files.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn list(&self, name: &str, line: &str) -> Option<std::path::PathBuf> {
            let path = self.0.path().join(name);
            std::fs::write(&path, line).expect("written");
            Some(path)
        }
    }

    fn join(tenant: Option<&str>, token: Option<&str>) -> Join {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let join = Join::new(peer, [192, 0, 2, 1].into());
        let join = match tenant {
            Some(tenant) => join.with_tenant(tenant),
            None => join,
        };
        match token {
            Some(token) => join.with_token(token.parse().expect("a token")),
            None => join,
        }
    }

    #[test]
    fn lists_of_a_tenant_hold_there_beside_those_for_all() {
        let folder = Folder(tempfile::tempdir().expect("a folder"));
        let blue = ListFiles {
            tokens: folder.list("blue", "azure"),
            ..ListFiles::default()
        };
        let default = ListFiles {
            deny_networks: folder.list("default", "192.0.2.0/24"),
            ..ListFiles::default()
        };
        let mut files = RuleFiles {
            all: ListFiles::default(),
            tenants: [
                ("blue".to_owned(), blue),
                ("default".to_owned(), default),
                ("red".to_owned(), ListFiles::default()),
            ]
            .into(),
        };
        let rules = files.load().expect("good lists");
        let yes = Opinion::Yes(AllowList::Tokens);
        let no = Opinion::No(DenyList::Networks);
        let opinion = |rules: &Rules, tenant, token| rules.opinion(&join(tenant, token));
        assert_eq!(opinion(&rules, Some("blue"), Some("azure")), yes);
        let unlisted = Opinion::Unlisted("you are not on an allow list, and show no token");
        assert_eq!(opinion(&rules, Some("blue"), None), unlisted);
        assert_eq!(rules.open_tenants(), ["default", "red"]);
        assert!(!rules.are_open_for(&join(Some("blue"), None)));
        // The lists of blue do not apply to red, and those of the default tenant apply to no other tenant.
        let unlisted = Opinion::Unlisted("you are not on an allow list");
        assert_eq!(opinion(&rules, Some("red"), Some("azure")), unlisted);
        assert!(rules.are_open_for(&join(Some("red"), None)));
        assert_eq!(opinion(&rules, None, Some("azure")), no);

        files.all = ListFiles {
            tokens: folder.list("all", "master"),
            deny_networks: folder.list("none", "203.0.113.0/24"),
            ..ListFiles::default()
        };
        let rules = files.load().expect("good lists");
        assert!(rules.open_tenants().is_empty());
        for tenant in ["blue", "red"] {
            assert_eq!(
                opinion(&rules, Some(tenant), Some("master")),
                yes,
                "{tenant}"
            );
            assert!(!rules.are_open_for(&join(Some(tenant), None)));
        }
        assert_eq!(opinion(&rules, Some("blue"), Some("azure")), yes);
        let wrong = Opinion::Unlisted("your token is not valid");
        assert_eq!(opinion(&rules, Some("red"), Some("azure")), wrong);
        assert_eq!(opinion(&rules, None, Some("master")), no);
        assert_eq!(files.paths().count(), 4);
    }
}
