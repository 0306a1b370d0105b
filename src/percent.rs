//! Text as it is written in a URL.

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Encodes all but what is never special: RFC 3986, section 2.3.
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
