//! The operator's actions: to disconnect, ban and unban peers.

use std::{fmt, net::IpAddr, sync::Arc};

use libp2p_identity::PeerId;

use super::{Panel, units};
use crate::rendezvous::{
    operator::{Holds, TooMany},
    tenants::Tenants,
};

/// The reasons that peers get when they are disconnected or banned.
const DISCONNECTED: &str = "by the operator";
const BANNED: &str = "banned by the operator";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Disconnect,
    Ban,
    Unban,
}

/// Why nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ActionError {
    #[error(
        "That is not a peer id. A peer id looks like 12D3KooW…, 16Uiu2HA… or Qm…. Nothing was done."
    )]
    NoId,
    #[error("Nothing was done: {0}.")]
    TooMany(#[from] TooMany),
}

/// What was done, to be shown as text.
#[derive(Debug)]
pub(super) enum Done {
    Disconnected {
        peer: PeerId,
        links: usize,
    },
    Banned {
        peer: PeerId,
        links: usize,
        holds: Holds,
    },
    Unbanned {
        peer: PeerId,
        holds: Holds,
    },
    WasNotBanned(PeerId),
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |links: usize| units::counted(links as u64, "link was", "links were");
        match self {
            Self::Disconnected { peer, links } => write!(
                f,
                "Disconnected {peer}: {} closed. The peer may come back.",
                counted(*links)
            ),
            Self::Banned { peer, links, holds } => {
                write!(f, "Banned {peer}: {} closed. {holds}", counted(*links))
            }
            Self::Unbanned { peer, holds } => write!(f, "Unbanned {peer}. {holds}"),
            Self::WasNotBanned(peer) => write!(f, "{peer} was not banned."),
        }
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AfterRestart => f.write_str("This also holds after a restart."),
            Self::NotYetKept => f.write_str(
                "This holds until the server stops. It is still being saved for the next start, which takes long.",
            ),
            Self::UntilTheEnd => f.write_str("This holds until the server stops."),
            Self::NotKept(error) => write!(
                f,
                "This holds until the server stops, because it could not be saved: {error}."
            ),
        }
    }
}

impl Action {
    /// Carries out the action in a task of its own. So it is completed whether or not the client waits for the answer.
    pub(super) async fn start(
        self,
        peer: &str,
        client: IpAddr,
        panel: &Arc<Panel>,
        tenants: &Arc<Tenants>,
    ) -> Result<Done, ActionError> {
        let peer: PeerId = peer.trim().parse().map_err(|_| ActionError::NoId)?;
        let (panel, tenants) = (panel.clone(), tenants.clone());
        let doing = tokio::spawn(async move { self.run(peer, client, &panel, &tenants).await });
        match doing.await {
            Ok(done) => done,
            Err(panic) => match panic.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    async fn run(
        self,
        peer: PeerId,
        client: IpAddr,
        panel: &Panel,
        tenants: &Tenants,
    ) -> Result<Done, ActionError> {
        match self {
            Self::Disconnect => {
                let links = tenants.disconnect(&peer, DISCONNECTED).await;
                tracing::info!(%peer, links, %client, "the operator has disconnected a peer");
                Ok(Done::Disconnected { peer, links })
            }
            Self::Ban => {
                // The ban comes first, so that the peer cannot come back in between. It does not matter here how long
                // the write takes.
                let change = panel.bans.add(peer)?;
                let links = tenants.disconnect(&peer, BANNED).await;
                tracing::info!(%peer, links, %client, "the operator has banned a peer");
                let holds = change.holds().await;
                Ok(Done::Banned { peer, links, holds })
            }
            Self::Unban => match panel.bans.remove(&peer) {
                None => Ok(Done::WasNotBanned(peer)),
                Some(change) => {
                    tracing::info!(%peer, %client, "the operator has unbanned a peer");
                    let holds = change.holds().await;
                    Ok(Done::Unbanned { peer, holds })
                }
            },
        }
    }
}
