//! What is known of a peer that wants to join.

use std::{iter, net::IpAddr, sync::Arc};

use libp2p_identity::PeerId;

use crate::{rendezvous::ids, token::Token};

/// Data of the HTTP request that opened the link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visit {
    pub(crate) host: Option<String>,
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) token: Option<Token>,
}

/// A peer that wants to join. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Join {
    peer: Option<PeerId>,
    is_proved: bool,
    address: Arc<str>,
    client: IpAddr,
    visit: Arc<Visit>,
}

impl Join {
    /// Creates the join of a peer that has proved its key, for tests of an [`Access`](super::Access). It has no
    /// address, no host and no token.
    pub fn new(peer: PeerId, client: IpAddr) -> Self {
        let visit = Arc::default();
        Self::proved(peer, "".into(), client, visit)
    }

    /// Sets the address that the peer wants to join.
    #[must_use]
    pub fn with_address(mut self, address: &str) -> Self {
        self.address = address.into();
        self
    }

    /// Sets the host that the peer has asked for.
    #[must_use]
    pub fn with_host(mut self, host: &str) -> Self {
        Arc::make_mut(&mut self.visit).host = Some(host.to_owned());
        self
    }

    /// Sets the tenant that the peer wants to join in.
    #[must_use]
    pub fn with_tenant(mut self, tenant: &str) -> Self {
        Arc::make_mut(&mut self.visit).tenant = Some(tenant.into());
        self
    }

    /// Sets the token that the peer has shown.
    #[must_use]
    pub fn with_token(mut self, token: Token) -> Self {
        Arc::make_mut(&mut self.visit).token = Some(token);
        self
    }

    /// Marks the key as not proved.
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

    /// Creates the join of a peer that claims an address and does not prove its key.
    pub(crate) fn claimed(address: Arc<str>, client: IpAddr, visit: Arc<Visit>) -> Self {
        Self {
            peer: ids::peer_in(&address),
            is_proved: false,
            address,
            client,
            visit,
        }
    }

    /// Returns the peer, by the id that libp2p gives to its key today. Without a proof, this is the id in the address,
    /// or `None` if the address has no peer id.
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// Returns all ids of the peer. Ed25519 and secp256k1 keys have two, because old JavaScript clients hash these keys
    /// as well.
    ///
    /// Look up every id in a list of peers. Otherwise a peer could choose the id that is not on the list.
    pub fn peer_ids(&self) -> impl Iterator<Item = PeerId> + use<> {
        let peer = self.peer;
        let hashed = iter::once_with(move || ids::hashed_form(&peer?));
        peer.into_iter().chain(hashed.flatten())
    }

    /// Returns whether the peer has proved that it has the key of its id. If [the challenge is
    /// off](crate::rendezvous::Config::with_challenge), it has not, and may be anybody.
    pub fn is_proved(&self) -> bool {
        self.is_proved
    }

    /// Returns the address that the peer wants to join, as the peer spells it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the IP address that the peer comes from. If it comes through one of the [trusted
    /// proxies](crate::rendezvous::Config::with_trusted_proxies), this is the address of the client, not of the proxy.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// Returns the `Host` of the request, with the port if the request names one. Any client may write there what it
    /// likes.
    pub fn host(&self) -> Option<&str> {
        self.visit.host.as_deref()
    }

    /// Returns the [tenant](crate::rendezvous::Config::with_tenants) that the peer wants to join in; `None` for the
    /// default one.
    pub fn tenant(&self) -> Option<&str> {
        self.visit.tenant.as_deref()
    }

    /// Returns the token that the peer has shown: `Authorization: Bearer <token>` in its request, or `?token=` in the
    /// query.
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
