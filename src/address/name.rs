//! What a name of a host is.

/// The longest name and the longest label, in bytes: RFC 1035, section 2.3.4.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Whether `name` may be that of a host: labels of letters, digits, hyphens and underscores with dots between them, and
/// perhaps one at the end.
///
/// More than host names of RFC 1123: underscores are in use, and letters of any script are, where
/// the resolver translates them. Whoever has a name with other characters writes it as `xn--…`.
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
