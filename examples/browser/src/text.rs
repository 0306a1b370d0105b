//! Texts for the page.

use std::time::Duration;

use libp2p::PeerId;

/// Returns the end of a peer id. Most peer ids begin alike.
pub fn short(peer: &PeerId) -> String {
    let peer = peer.to_string();
    let cut = peer.len().saturating_sub(8);
    format!("…{}", peer.get(cut..).unwrap_or(&peer))
}

pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, f64); 3] = [
        ("GiB", (1u64 << 30) as f64),
        ("MiB", (1u64 << 20) as f64),
        ("KiB", (1u64 << 10) as f64),
    ];
    let many = bytes as f64;
    match UNITS.iter().find(|(_, unit)| many >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", many / unit),
        None => format!("{bytes} bytes"),
    }
}

pub fn milliseconds(time: Duration) -> String {
    let time = time.as_secs_f64() * 1e3;
    match time < 10.0 {
        true => format!("{time:.1} ms"),
        false => format!("{time:.0} ms"),
    }
}

/// Cuts a text to at most `most` characters.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
