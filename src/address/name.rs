//! The check for valid host names.

/// The longest name and the longest label, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Returns whether `name` is a valid host name: labels of letters, digits, hyphens and underscores, separated by dots,
/// with an optional dot at the end.
///
/// This allows more than the host names of RFC 1123. Underscores are in use, and so are letters of any script, where
/// the resolver translates them. A name with other characters has to be written as `xn--…`.
pub(crate) fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let is_fine = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    (1..=MAX_LABEL).contains(&label.len()) && label.chars().all(is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_resolvers_know_are_names() {
        let label = "a".repeat(MAX_LABEL);
        let longest = format!("{label}.{label}.{label}.{}", &label[..61]);
        assert_eq!(longest.len(), MAX_NAME);
        for name in [
            "localhost",
            "a",
            "star.example",
            "star.example.",
            "STAR.Example",
            "_ws._tcp.star.example",
            "a--b-.example",
            "127.0.0.1",
            "xn--bcher-kva.example",
            "bücher.example",
            "звезда.example",
            "星.example",
            &format!("{longest}."),
            &longest,
        ] {
            assert!(is_name(name), "{name}");
        }
    }

    #[test]
    fn what_is_not_of_letters_digits_hyphens_and_underscores_is_no_name() {
        let label = "a".repeat(MAX_LABEL);
        for name in [
            "",
            ".",
            "..",
            ".a",
            "a..b",
            "a..",
            " a",
            "a b",
            "a\r\nb",
            "a\u{1b}[31mb",
            "a\0",
            "a\u{202e}b",
            "a\u{200b}b",
            "a\u{a0}b",
            "a\u{2028}b",
            "a:80",
            "[::1]",
            "a%2fb",
            "a\\b",
            "a@b",
            "a?b",
            "a#b",
            "a*",
            "<b>",
            "a\"b",
            "a,b",
            &format!("{label}a"),
            &format!("{label}.{label}.{label}.{}", &label[..62]),
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
