//! Percent-encoding of text in URLs.

#[cfg(any(test, feature = "rendezvous", target_arch = "wasm32"))]
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Encodes all characters except the unreserved ones of RFC 3986, section 2.3.
#[cfg(any(test, feature = "rendezvous", target_arch = "wasm32"))]
pub(crate) fn percent_encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            _ => {
                let digits = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
                text.extend(['%'].into_iter().chain(digits.map(char::from)));
            }
        }
    }
    text
}

/// Decodes percent-encoded text. Returns `None` for an incomplete or invalid escape, or if the result is not UTF-8.
#[cfg(feature = "cluster")]
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = match first {
            b'%' => {
                let (digits, behind) = behind.split_at_checked(2)?;
                bytes.extend(hex::decode(digits).ok()?);
                behind
            }
            byte => {
                bytes.push(*byte);
                behind
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in ".*") {
            prop_assert_eq!(percent_decoded(&percent_encoded(&text)), Some(text));
        }
    }

    #[test]
    fn half_an_escape_is_none() {
        for bad in ["%", "%4", "a%zz", "%ff"] {
            assert_eq!(percent_decoded(bad), None, "{bad}");
        }
    }
}
