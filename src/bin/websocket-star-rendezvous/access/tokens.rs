//! Shared tokens, of which only hashes are kept.

use std::collections::HashSet;

use libp2p_websocket_star::rendezvous::Token;
use sha2::{Digest as _, Sha256};

/// The hashes of the tokens. A lookup takes as long for a nearly correct token as for any other, because similar tokens
/// do not have similar hashes. So its duration reveals nothing.
#[derive(Debug, Default)]
pub struct Tokens(HashSet<[u8; 32]>);

impl FromIterator<Token> for Tokens {
    fn from_iter<I: IntoIterator<Item = Token>>(tokens: I) -> Self {
        Self(tokens.into_iter().map(|token| hash(&token)).collect())
    }
}

impl Tokens {
    pub fn contain(&self, token: &Token) -> bool {
        self.0.contains(&hash(token))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn hash(token: &Token) -> [u8; 32] {
    Sha256::digest(token.reveal()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_right() {
        let token = |text: &str| text.parse::<Token>().expect("a token");
        let tokens: Tokens = [token("first"), token("second")].into_iter().collect();
        assert!(tokens.contain(&token("first")) && tokens.contain(&token("second")));
        for wrong in ["firs", "first2", "First", "x"] {
            assert!(!tokens.contain(&token(wrong)), "{wrong}");
        }
        assert!(!format!("{tokens:?}").contains("first"));
    }
}
