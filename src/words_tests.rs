use std::{io, sync::Arc};

use super::*;
use crate::{
    address::AddressError,
    error::{
        Cause, DialError, Error, JoinError, LinkError, ProtocolError, StreamError, UpgradeError,
    },
};

/// Text that ends its line, forges a log line, moves the cursor, rings the bell, reverses the text direction and hides
/// characters.
const ROGUE: &str = "no\r\n2031-01-01 INFO forged\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\0\u{8}\u{7f}\
    \u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{200b}\u{feff}\u{e000}\\n\"'é";

fn shown(words: impl Display) -> String {
    Words(words).to_string()
}

#[test]
fn what_is_printable_stays_and_the_rest_is_escaped() {
    for (said, shows) in [
        ("", ""),
        ("Too many links", "Too many links"),
        ("it's \"fine\"", "it's \"fine\""),
        ("zu früh, 太早了, рано", "zu früh, 太早了, рано"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u{1b}[31m\0", "\\u{1b}[31m\\0"),
        ("a\\nb", "a\\\\nb"),
        (
            "\u{202e}\u{200b}\u{85}\u{2028}",
            "\\u{202e}\\u{200b}\\u{85}\\u{2028}",
        ),
    ] {
        assert_eq!(shown(said), shows);
    }
}

#[test]
fn what_is_long_is_cut_where_a_character_or_an_escape_ends() {
    assert_eq!(shown("a".repeat(MAX)), "a".repeat(MAX));
    assert_eq!(shown("a".repeat(MAX + 1)), format!("{}…", "a".repeat(MAX)));
    let escapes = shown("\u{1b}".repeat(10_000));
    assert_eq!(escapes, format!("{}…", "\\u{1b}".repeat(MAX / 6)));
    assert_eq!(shown("é".repeat(MAX)), format!("{}…", "é".repeat(MAX / 2)));
}

fn is_tame(text: &str) -> bool {
    let hidden = "\u{2028}\u{2029}\u{202e}\u{2066}\u{200b}\u{feff}\u{e000}";
    text.chars().all(|c| !c.is_control() && !hidden.contains(c))
}

/// One error of each kind that contains text from others.
fn errors(said: &str) -> Vec<Error> {
    let text = || said.to_owned();
    let io = || Arc::new(io::Error::other(text()));
    let tls = || {
        let error = tokio_rustls::rustls::Error::General(text());
        Cause::new(error)
    };
    let upgrade = |error| LinkError::Upgrade(Arc::new(error));
    let links = [
        LinkError::Resolve {
            host: text(),
            error: io(),
        },
        LinkError::NoAddress(text()),
        LinkError::Tls(tls()),
        LinkError::TlsWithoutName(tls()),
        LinkError::NotTls(tls()),
        LinkError::TlsHandshake(io()),
        LinkError::Io(io()),
        LinkError::Closed(Some(text())),
        upgrade(UpgradeError::Status {
            status: 503,
            story: text(),
        }),
        upgrade(UpgradeError::NotHttp(text())),
        upgrade(UpgradeError::Io(io::Error::other(text()))),
        LinkError::Protocol(ProtocolError::EngineIo(text())),
        LinkError::Protocol(ProtocolError::Open(text())),
        LinkError::Protocol(ProtocolError::Start {
            expected: "something else",
            received: text(),
        }),
    ];
    let rendezvous: Arc<str> = "ws://star.example".into();
    let join = JoinError::Refused(text());
    let dials = [
        DialError::Refused(text()),
        DialError::Join(join.clone()),
        DialError::Malformed(ProtocolError::Open(text())),
    ];
    let addresses = [
        AddressError::Host(text()),
        AddressError::Name(text()),
        AddressError::Port(text()),
        AddressError::WebSocket(text()),
        AddressError::Star(text()),
        AddressError::Trailing(text()),
        AddressError::Syntax(text()),
    ];
    let multiaddr = multiaddr::Multiaddr::empty().with(multiaddr::Protocol::Dns(said.into()));
    let mut errors = vec![
        Error::AlreadyListening(multiaddr.clone()),
        Error::MissingPeerId(multiaddr),
        Error::Join {
            rendezvous: rendezvous.clone(),
            error: join,
        },
    ];
    errors.extend(addresses.map(Error::Address));
    errors.extend(links.map(|error| Error::Link {
        rendezvous: rendezvous.clone(),
        error,
    }));
    errors.extend(dials.map(|error| Error::Dial {
        rendezvous: rendezvous.clone(),
        error,
    }));
    errors
}

#[test]
fn every_error_shows_what_others_said_in_one_line_escaped_and_cut() {
    let long = ROGUE.repeat(1000);
    for said in [ROGUE, &long] {
        for error in errors(said) {
            let shows = error.to_string();
            assert!(is_tame(&shows), "{shows:?}");
            assert!(
                !matches!(said, ROGUE) || shows.contains("forged"),
                "{shows}"
            );
        }
        let reset = StreamError::ResetByPeer(said.to_owned()).to_string();
        assert!(is_tame(&reset) && reset.len() < 2 * MAX, "{reset:?}");
    }
}
