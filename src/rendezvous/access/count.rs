//! What an application counts, and has shown beside what the server counts.

use std::collections::BTreeMap;

/// How many counters of an application are shown.
const MOST: usize = 64;

/// A counter of an [`Access`](super::Access), as `/metrics` shows it: `rendezvous_access_<name>_total{by="<by>"}`.
///
/// Names are made of lower-case letters, digits and underscores. A counter with another name, and all beyond 64 of them, are
/// not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessCount {
    /// What is counted, such as `refused`.
    pub name: &'static str,
    /// The same, for people.
    pub help: &'static str,
    /// By which of several it is counted, such as the list that decides; empty if there is only one.
    pub by: &'static str,
    /// How often it has happened so far.
    pub count: u64,
}

impl AccessCount {
    /// A counter.
    pub const fn new(name: &'static str, help: &'static str, by: &'static str, count: u64) -> Self {
        Self {
            name,
            help,
            by,
            count,
        }
    }

    fn can_be_shown(&self) -> bool {
        let is_plain = |text: &str| {
            let mut bytes = text.bytes();
            bytes.all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        !self.name.is_empty() && is_plain(self.name) && is_plain(self.by)
    }
}

/// Those that can be shown, by name; of two with one name and one `by` the last.
pub(crate) fn by_name(
    counts: &[AccessCount],
) -> BTreeMap<&'static str, BTreeMap<&'static str, AccessCount>> {
    let mut names = BTreeMap::<_, BTreeMap<_, _>>::new();
    for count in counts.iter().take(MOST) {
        if count.can_be_shown() {
            names
                .entry(count.name)
                .or_default()
                .insert(count.by, *count);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_break_the_text_is_shown_and_not_without_end() {
        let count = |name, by| AccessCount::new(name, "", by, 1);
        let shown = by_name(&[
            count("allowed", "list"),
            count("refused", ""),
            count("allowed", "token_2"),
            count("", "list"),
            count("a b", "list"),
            count("allowed", "\"} 1\n"),
            count("Allowed", "list"),
        ]);
        let of = |name| shown[name].keys().copied().collect::<Vec<_>>();
        assert_eq!(shown.len(), 2);
        assert_eq!(of("allowed"), ["list", "token_2"]);
        assert_eq!(of("refused"), [""]);
        let many = vec![count("a", ""); MOST]
            .into_iter()
            .chain([count("b", "")]);
        assert_eq!(by_name(&many.collect::<Vec<_>>()).len(), 1);
    }
}
