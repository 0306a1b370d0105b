//! Tokens: a shared secret that a rendezvous may require, instead of a known peer id.

use std::{fmt, str::FromStr, sync::Arc};

use crate::address::Rendezvous;

/// The maximum number of characters in a token.
const MAX: usize = 512;

/// The number of consecutive characters that count as a leaked part of a token.
#[cfg(not(target_arch = "wasm32"))]
const PIECE: usize = 4;

/// A secret that admits its holders to a rendezvous: 1 to 512 visible ASCII characters.
///
/// `Debug` does not show it, and there is no `Display`.
///
/// Tokens cannot be compared. A comparison takes longer the more leading characters are equal, which would tell a
/// stranger how much of a guess is right. Compare hashes instead.
#[derive(Clone)]
pub struct Token(Arc<str>);

/// Why a token cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token is empty, too long, or contains characters other than visible ASCII ones.
    #[error("a token must have 1 to 512 visible ASCII characters and no space")]
    Form,
    /// The token is for a rendezvous that is reached without encryption and is not at a loopback address. Anyone on the
    /// path could read it.
    #[error(
        "a token is sent to another machine only over wss, because others on the path could read it \
         (without TLS, the host must be 127.0.0.1 or ::1, not a name)"
    )]
    Unencrypted,
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        match (1..=MAX).contains(&text.len()) && is_visible {
            true => Ok(Self(text.into())),
            false => Err(TokenError::Form),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Returns the secret itself. It must not be shown to anyone.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns whether `text` contains a revealing part of the token, even if the rest is encoded or cut off.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let piece = PIECE.min(self.0.len());
        let mut pieces = self.0.as_bytes().windows(piece);
        pieces.any(|piece| {
            text.as_bytes()
                .windows(piece.len())
                .any(|other| other == piece)
        })
    }

    /// Returns the token as it is written in a URL.
    #[cfg(any(test, target_arch = "wasm32"))]
    pub(crate) fn percent_encoded(&self) -> String {
        crate::percent::percent_encoded(&self.0)
    }
}

/// The tokens of a node, each for one rendezvous.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens(Vec<(Rendezvous, Token)>);

impl Tokens {
    /// Sets the token for this rendezvous. It replaces an earlier one, and is sent to no other rendezvous.
    ///
    /// # Errors
    /// [`TokenError::Unencrypted`] if others could read the token on the path.
    pub(crate) fn insert(
        &mut self,
        rendezvous: &Rendezvous,
        token: Token,
    ) -> Result<(), TokenError> {
        if !rendezvous.is_secure() && !rendezvous.is_loopback() {
            return Err(TokenError::Unencrypted);
        }
        self.0.retain(|(known, _)| !known.is_same(rendezvous));
        self.0.push((rendezvous.clone(), token));
        Ok(())
    }

    /// Returns the token for this rendezvous.
    pub(crate) fn of(&self, rendezvous: &Rendezvous) -> Option<&Token> {
        let mut known = self.0.iter();
        let found = known.find(|(known, _)| known.is_same(rendezvous));
        found.map(|(_, token)| token)
    }

    /// Returns the number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StarAddr;

    fn rendezvous(base: &str) -> Rendezvous {
        let addr = StarAddr::from_wire(&format!("{base}/p2p-websocket-star")).expect(base);
        addr.rendezvous().clone()
    }

    fn token(text: &str) -> Token {
        text.parse().expect("a token")
    }

    fn sni(base: &str) -> Rendezvous {
        let addr = format!("{base}/p2p-websocket-star");
        let addr: multiaddr::Multiaddr = addr.parse().expect(base);
        let addr = StarAddr::try_from(&addr).expect(base);
        addr.rendezvous().clone()
    }

    #[test]
    fn a_piece_of_a_token_gives_it_away() {
        let token = token("se+cret/token==");
        for text in [
            "Bearer se+cret/token==",
            "Bearer se%2Bcret%2Ftoken%3D%3D",
            "&quot;se&#43;cret",
            "cut at se+c",
        ] {
            assert!(token.is_in(text), "{text}");
        }
        for text in ["", "Too many links", "Service Unavailable", "se+"] {
            assert!(!token.is_in(text), "{text}");
        }
        assert!(super::Token("ab".into()).is_in("cabin"));
        assert!(!super::Token("ab".into()).is_in("a b"));
    }

    #[test]
    fn a_token_is_visible_and_short_and_is_not_shown() {
        assert_eq!(format!("{:?}", token("secret")), "Token(…)");
        assert_eq!(token("!\"#~").reveal(), "!\"#~");
        let longest = "a".repeat(MAX);
        assert_eq!(token(&longest).reveal(), longest);
        let long = "a".repeat(MAX + 1);
        for bad in ["", " ", "a b", "a\r\nb", "a\tb", "ü", "a\u{7f}", &long] {
            assert_eq!(bad.parse::<Token>().err(), Some(TokenError::Form), "{bad}");
        }
    }

    #[test]
    fn in_a_url_everything_is_encoded_that_might_mean_something() {
        assert_eq!(token("aZ0-._~").percent_encoded(), "aZ0-._~");
        assert_eq!(token("a+b/c=&%").percent_encoded(), "a%2Bb%2Fc%3D%26%25");
    }

    #[test]
    fn a_token_goes_to_its_own_rendezvous_only() {
        let mut tokens = Tokens::default();
        let star = rendezvous("/dns4/Star.example./tcp/443/wss");
        tokens.insert(&star, token("old")).expect("wss");
        tokens.insert(&star, token("secret")).expect("wss");
        assert_eq!(tokens.len(), 1);
        for same in [
            rendezvous("/dns4/star.example/tcp/443/wss"),
            rendezvous("/dns6/STAR.example/tcp/443/wss"),
            rendezvous("/dnsaddr/star.example/tcp/443/wss"),
            // TLS makes the server prove its name.
            sni("/ip4/192.0.2.1/tcp/443/tls/sni/star.example/ws"),
        ] {
            let found = tokens.of(&same).map(Token::reveal);
            assert_eq!(found, Some("secret"), "{same}");
        }
        for other in [
            rendezvous("/dns4/star.example/tcp/443/ws"),
            rendezvous("/dns4/star.example/tcp/444/wss"),
            rendezvous("/dns4/a.star.example/tcp/443/wss"),
            rendezvous("/dns4/star.example.evil/tcp/443/wss"),
            rendezvous("/ip4/192.0.2.1/tcp/443/wss"),
            sni("/dns4/star.example/tcp/443/tls/sni/evil.example/ws"),
        ] {
            assert!(tokens.of(&other).is_none(), "{other}");
        }
    }

    #[test]
    fn without_encryption_a_token_stays_on_this_machine() {
        let mut tokens = Tokens::default();
        for base in [
            "/dns4/star.example/tcp/80/ws",
            "/dns4/localhost/tcp/9090/ws",
            "/ip4/192.0.2.1/tcp/9090/ws",
            "/ip4/0.0.0.0/tcp/9090/ws",
            "/ip6/2001:db8::1/tcp/9090/ws",
            "/ip6/::/tcp/9090/ws",
        ] {
            let refused = tokens.insert(&rendezvous(base), token("secret"));
            assert_eq!(refused, Err(TokenError::Unencrypted), "{base}");
        }
        for base in [
            "/ip4/127.0.0.1/tcp/9090/ws",
            "/ip6/::1/tcp/9090/ws",
            "/ip4/192.0.2.1/tcp/443/wss",
        ] {
            let star = rendezvous(base);
            tokens.insert(&star, token("secret")).expect(base);
            assert!(tokens.of(&star).is_some());
        }
        let other = rendezvous("/ip4/127.0.0.2/tcp/9090/ws");
        assert!(tokens.of(&other).is_none());
    }
}
