//! A token, and an access rule of a rendezvous that allows every peer with this token.

use libp2p_websocket_star::rendezvous::{Access, Join, Judgement, Verdict};

pub const SECRET: &str = "a+very/secret~token==";

/// An access rule that knows one token, [`SECRET`].
#[derive(Debug)]
pub struct OneToken;

impl Access for OneToken {
    fn judge(&self, join: &Join) -> Judgement {
        tracing::info!(?join, "somebody wants to join");
        let verdict = match join.token().map(|token| token.reveal()) {
            Some(SECRET) => Verdict::allow(),
            Some(_) => Verdict::refuse("another token: not with that"),
            None => Verdict::refuse("no token"),
        };
        verdict.into()
    }

    fn still_allows(&self, join: &Join) -> bool {
        join.token().is_some_and(|token| token.reveal() == SECRET)
    }
}
