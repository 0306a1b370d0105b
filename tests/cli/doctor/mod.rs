//! `star doctor` with set-ups that work and with set-ups that are broken.

mod broken;
mod proxied;
mod served;
mod well;

use serde_json::Value;

use crate::star::{Said, run};

/// All checks in their order.
const CHECKS: [&str; 12] = [
    "address",
    "proxy",
    "dns",
    "tcp",
    "tls",
    "upgrade",
    "open",
    "join",
    "dial",
    "round trip",
    "bulk",
    "clock",
];

/// The result of a run of the doctor.
pub struct Found {
    pub code: Option<i32>,
    checks: Vec<Value>,
}

impl Found {
    /// Runs the doctor with these arguments.
    pub async fn run(arguments: &[&str]) -> Self {
        let arguments = [&["doctor", "--json"], arguments].concat();
        Self::of(run(&arguments).await)
    }

    pub fn of(said: Said) -> Self {
        assert_eq!(said.stderr, "");
        Self {
            code: said.code,
            checks: said.json(),
        }
    }

    fn check(&self, name: &str) -> &Value {
        let mut checks = self.checks.iter();
        let found = checks.find(|check| check["check"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {:?}", self.checks))
    }

    pub fn status(&self, name: &str) -> &str {
        self.check(name)["status"].as_str().expect("text")
    }

    pub fn seen(&self, name: &str) -> &str {
        self.check(name)["seen"].as_str().expect("text")
    }

    /// Checks that this check has failed with these words and this advice, and that no other check has failed.
    pub fn only_failure(&self, name: &str, seen: &str, advice: &str) {
        let failed: Vec<_> = self
            .checks
            .iter()
            .filter(|check| check["status"] == "failed")
            .collect();
        let [check] = &failed[..] else {
            panic!("{:#?}", self.checks);
        };
        assert_eq!(check["check"], name, "{check}");
        for (field, words) in [("seen", seen), ("advice", advice)] {
            let text = check[field].as_str().expect("text");
            assert!(text.contains(words), "no {words:?} in {check}");
        }
        assert_eq!(self.code, Some(1));
    }

    /// Checks that this check warns with these words and this advice, and that the exit code is 0.
    pub fn only_warning(&self, name: &str, seen: &str, advice: &str) {
        let check = self.check(name);
        assert_eq!(
            (check["status"].as_str(), self.code),
            (Some("warning"), Some(0)),
            "{:#?}",
            self.checks
        );
        for (field, words) in [("seen", seen), ("advice", advice)] {
            let text = check[field].as_str().expect("text");
            assert!(text.contains(words), "no {words:?} in {check}");
        }
    }

    /// Checks that every check was made in its order and is right, except that these were skipped.
    pub fn all_right(&self, skipped: &[&str]) {
        let names: Vec<_> = self
            .checks
            .iter()
            .map(|check| check["check"].as_str().expect("text"))
            .collect();
        assert_eq!(names, CHECKS);
        for name in CHECKS {
            let expected = if skipped.contains(&name) {
                "skipped"
            } else {
                "ok"
            };
            assert_eq!(self.status(name), expected, "{:#?}", self.checks);
        }
        assert_eq!(self.code, Some(0));
    }
}
