//! One dial, from the first poll of its future.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use futures::channel::oneshot;
use libp2p_identity::PeerId;

use crate::{
    address::{Rendezvous, StarAddr},
    connection::Connection,
    error::{DialError, Error, LinkError},
    hints::{Claim, Hints},
    link::{Command, Links},
    protocol::event::DialId,
    runtime::Handle,
};

/// Dials `peer` at `to`. Dropping the future cancels the dial.
pub(super) async fn dial(
    links: Arc<Links>,
    hints: Arc<Hints>,
    peer: PeerId,
    to: StarAddr,
) -> Result<Connection, Error> {
    let result = dial_uncounted(&links, &hints, peer, to).await;
    let counts = links.counts();
    let counted = match &result {
        Ok(_) => &counts.dials,
        Err(_) => &counts.dials_failed,
    };
    counted.fetch_add(1, Relaxed);
    result
}

async fn dial_uncounted(
    links: &Arc<Links>,
    hints: &Arc<Hints>,
    peer: PeerId,
    to: StarAddr,
) -> Result<Connection, Error> {
    if Handle::try_current().is_err() {
        return Err(Error::NoRuntime);
    }
    let names = || hints.names(&peer);
    let rendezvous = links.rendezvous_meant(&to, names).await;
    let claim = claim(hints, peer, &rendezvous).await?;
    let result = ask(links.clone(), rendezvous, to).await;
    match (result, claim) {
        (Ok(mut connection), Some(claim)) => {
            claim.connected();
            connection.hold(claim);
            Ok(connection)
        }
        (Err(error), Some(claim)) => {
            claim.failed(&error);
            Err(error)
        }
        (result, None) => result,
    }
}

/// Waits until no other dial of the same attempt to the same peer at the same rendezvous is in progress. The swarm may
/// know one address in several forms.
async fn claim(
    hints: &Arc<Hints>,
    peer: PeerId,
    rendezvous: &Rendezvous,
) -> Result<Option<Claim>, Error> {
    loop {
        match hints.claim(peer, rendezvous) {
            Ok(claim) => return Ok(claim),
            Err(over) => match over.await {
                // The peer may be known under another spelling.
                Ok(Error::Dial {
                    error: DialError::PeerNotFound,
                    ..
                })
                | Err(oneshot::Canceled) => {}
                Ok(error) => return Err(error),
            },
        }
    }
}

async fn ask(links: Arc<Links>, rendezvous: Rendezvous, to: StarAddr) -> Result<Connection, Error> {
    let dial_id = DialId::random();
    let (reply, answer) = oneshot::channel();
    let command = Command::Dial {
        dial_id: dial_id.clone(),
        to,
        reply,
    };
    links.dial(&rendezvous, command).await?;
    let mut cancel = CancelOnDrop {
        links,
        rendezvous,
        dial_id: Some(dial_id),
    };
    let result = answer.await;
    cancel.dial_id = None;
    // The link answers every dial before it ends, unless its task was aborted.
    result.unwrap_or_else(|_| {
        Err(Error::Link {
            rendezvous: cancel.rendezvous.to_string().into(),
            error: LinkError::TaskEnded,
        })
    })
}

struct CancelOnDrop {
    links: Arc<Links>,
    rendezvous: Rendezvous,
    dial_id: Option<DialId>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(dial_id) = self.dial_id.take() {
            self.links
                .tell(&self.rendezvous, Command::CancelDial(dial_id));
        }
    }
}
