//! The transport at a rendezvous that is broken or hostile. Nothing may panic, errors must have a type, memory must
//! be bounded, and the node must work again as soon as the rendezvous does.
//!
//! If a task has panicked, that shows when the [`Raw`] node is dropped.

mod closing;
mod credits;
mod floods;
mod frames;
mod heartbeat;
mod memory;
mod pressure;
mod socket;
mod streams;
mod words;

use libp2p::core::transport::TransportEvent;
use libp2p_websocket_star::{
    Config, Connection,
    error::{Error, LinkError},
};

use crate::support::{
    ed25519,
    raw::Raw,
    scripted::{Link, Scripted},
};

/// Starts a server, and a node that tries to listen there again and again.
async fn listening(config: Config) -> (Scripted, Raw) {
    let server = Scripted::start().await;
    let node = Raw::with(&ed25519(), config);
    node.listen_on(&server.addr()).expect("a good address");
    (server, node)
}

/// Starts a server and a node that listens there. Returns both with the link.
async fn linked(config: Config) -> (Scripted, Raw, Link) {
    let (server, mut node) = listening(config).await;
    let (link, _) = futures::future::join(server.joined(), node.joined()).await;
    (server, node, link)
}

/// Dials the node like a peer that does not know credits.
async fn connection(link: &mut Link, node: &mut Raw, id: &str) -> Connection {
    let (_, (connection, _)) = futures::future::join(link.dial(id), node.accept()).await;
    connection
}

/// Returns the error with which the node loses the link after `spoil` has run.
async fn lost(server: &Scripted, node: &mut Raw, spoil: impl AsyncFnOnce(&mut Link)) -> LinkError {
    let (mut link, _) = futures::future::join(server.joined(), node.joined()).await;
    spoil(&mut link).await;
    loss(server, node).await
}

/// Returns the error with which the node loses a link that had joined.
async fn loss(server: &Scripted, node: &mut Raw) -> LinkError {
    match node.event().await {
        TransportEvent::AddressExpired { .. } => link_error(server, node).await,
        other => panic!("the address has not expired: {other:?}"),
    }
}

/// Returns the error of a link, which must be the next event of the node.
async fn link_error(server: &Scripted, node: &mut Raw) -> LinkError {
    let error = node.listener_error().await;
    assert!(error.to_string().starts_with(&server.url()), "{error}");
    match error {
        Error::Link { error, .. } => error,
        other => panic!("{other}"),
    }
}
