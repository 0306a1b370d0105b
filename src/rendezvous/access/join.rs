//! What is known of a peer that wants to join.

use std::{iter, net::IpAddr, sync::Arc};

use libp2p_identity::PeerId;

use crate::{rendezvous::ids, token::Token};

/// What the HTTP request said from which a link began.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visit {
    pub(crate) host: Option<String>,
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) token: Option<Token>,
}

/// A peer that wants to join. Copies of it are cheap.
#[derive(Debug, Clone)]
pub struct Join {
    peer: Option<PeerId>,
    is_proved: bool,
    address: Arc<str>,
    client: IpAddr,
    visit: Arc<Visit>,
}

impl Join {
    /// A peer that has proved its key, as a test of an [`Access`](super::Access) makes it up. It has no address, no host
    /// and no token.
    pub fn new(peer: PeerId, client: IpAddr) -> Self {
        let visit = Arc::default();
        Self::proved(peer, "".into(), client, visit)
    }

    /// The same at this address.
    #[must_use]
    pub fn with_address(mut self, address: &str) -> Self {
        self.address = address.into();
        self
    }

    /// The same, having asked for this host.
    #[must_use]
    pub fn with_host(mut self, host: &str) -> Self {
        Arc::make_mut(&mut self.visit).host = Some(host.to_owned());
        self
    }

    /// The same in this tenant.
    #[must_use]
    pub fn with_tenant(mut self, tenant: &str) -> Self {
        Arc::make_mut(&mut self.visit).tenant = Some(tenant.into());
        self
    }

    /// The same with a token.
    #[must_use]
    pub fn with_token(mut self, token: Token) -> Self {
        Arc::make_mut(&mut self.visit).token = Some(token);
        self
    }

    /// The same without a proof.
    #[must_use]
    pub fn without_proof(mut self) -> Self {
        self.is_proved = false;
        self
    }

    pub(crate) fn proved(
        peer: PeerId,
        address: Arc<str>,
        client: IpAddr,
        visit: Arc<Visit>,
    ) -> Self {
        Self {
            peer: Some(peer),
            is_proved: true,
            address,
            client,
            visit,
        }
    }

    /// One that says who it is, and does not prove it.
    pub(crate) fn claimed(address: Arc<str>, client: IpAddr, visit: Arc<Visit>) -> Self {
        Self {
            peer: ids::peer_in(&address),
            is_proved: false,
            address,
            client,
            visit,
        }
    }

    /// The peer, by the id that libp2p gives to its key today. `None` only if nothing is proved, and its address has no
    /// peer id.
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// All ids that the peer may go by. Ed25519 and secp256k1 keys have two: old JavaScript clients hash them, too.
    ///
    /// A list of peers is to be looked through for each of them. Otherwise a peer could choose the one that is not on it.
    pub fn peer_ids(&self) -> impl Iterator<Item = PeerId> + use<> {
        let peer = self.peer;
        let hashed = iter::once_with(move || ids::hashed_form(&peer?));
        peer.into_iter().chain(hashed.flatten())
    }

    /// Whether the peer has proved that it has the key of its id. If
    /// [the challenge is off](crate::rendezvous::Config::with_challenge) it has not, and may be anybody.
    pub fn is_proved(&self) -> bool {
        self.is_proved
    }

    /// The address that it wants to join, as it spells it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From where it comes: not a proxy in front, if that is one of the
    /// [trusted ones](crate::rendezvous::Config::with_trusted_proxies).
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// The `Host` that it has asked for, with the port if it has named one. Any client may write there what it likes.
    pub fn host(&self) -> Option<&str> {
        self.visit.host.as_deref()
    }

    /// The [tenant](crate::rendezvous::Config::with_tenants) that it wants to join in; `None` is the default one.
    pub fn tenant(&self) -> Option<&str> {
        self.visit.tenant.as_deref()
    }

    /// The token that it has shown: `Authorization: Bearer <token>` of its request, or `?token=` in its query.
    pub fn token(&self) -> Option<&Token> {
        self.visit.token.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_peer_with_a_short_key_goes_by_two_ids() {
        let short = Keypair::generate_ed25519().public();
        let join = Join::new(short.to_peer_id(), HOME);
        let ids: Vec<_> = join.peer_ids().map(PeerId::to_base58).collect();
        assert_eq!(ids.len(), 2);
        assert!(ids[0].starts_with("12D3Koo") && ids[1].starts_with("Qm"));
        let hashed: PeerId = ids[1].parse().expect("an id");
        let join = Join::new(hashed, HOME);
        assert_eq!(join.peer_ids().collect::<Vec<_>>(), [hashed]);
    }

    #[test]
    fn without_a_proof_the_id_is_the_one_in_the_address() {
        let id = Keypair::generate_ed25519().public().to_peer_id();
        let visit = Arc::<Visit>::default();
        let claim = |address: &str| Join::claimed(address.into(), HOME, visit.clone());
        let join = claim(&format!(
            "/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star/ipfs/{id}"
        ));
        assert_eq!((join.peer(), join.is_proved()), (Some(id), false));
        let join = claim("/ip4/127.0.0.1/tcp/1");
        assert_eq!((join.peer(), join.peer_ids().count()), (None, 0));
    }

    #[test]
    fn the_token_of_a_join_is_not_shown() {
        let id = Keypair::generate_ed25519().public().to_peer_id();
        let join = Join::new(id, HOME)
            .with_host("star.example")
            .with_token("secret".parse().expect("a token"));
        assert_eq!(join.token().map(Token::reveal), Some("secret"));
        let shown = format!("{join:?}");
        assert!(
            shown.contains("star.example") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
