//! The application's own counters, which `/metrics` shows beside those of the server.

use std::collections::BTreeMap;

/// The number of an application's counters that are looked at. Further ones are not shown.
const MOST: usize = 64;

/// A counter of an [`Access`](super::Access), as `/metrics` shows it: `rendezvous_access_<name>_total{by="<by>"}`.
///
/// The name and [`by`](Self::by) consist of lower-case letters, digits and underscores. Other counters are not shown,
/// nor are counters after the first 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessCount {
    /// The name of the counter, such as `refused`.
    pub name: &'static str,
    /// The help text, for people.
    pub help: &'static str,
    /// The value of the label `by`, such as the list that decides; empty if the counter has no label.
    pub by: &'static str,
    /// The number of events so far.
    pub count: u64,
}

impl AccessCount {
    /// Creates a counter.
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

/// Returns the counters that can be shown, by name and then by label. If two have the same name and the same `by`, the
/// last one counts.
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
