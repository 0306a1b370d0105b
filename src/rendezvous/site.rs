//! All that a server serves: its tenants, and the operator's page, which is about all of them.

use std::{ops::Deref, sync::Arc};

use tokio::task::JoinSet;

#[cfg(feature = "rendezvous")]
use super::{admin::Panel, supervised::again_after_panics};
use super::{config::Config, tenants::Tenants};

/// The tenants of a server, with the operator's page.
#[derive(Debug)]
pub(super) struct Site {
    tenants: Arc<Tenants>,
    /// The operator's page, if there is one.
    #[cfg(feature = "rendezvous")]
    panel: Option<Arc<Panel>>,
}

impl Deref for Site {
    type Target = Tenants;

    fn deref(&self) -> &Tenants {
        &self.tenants
    }
}

impl Site {
    pub(super) fn new(config: Config) -> Self {
        #[cfg(feature = "rendezvous")]
        let panel = config.admin().map(|admin| Panel::new(admin, &config));
        Self {
            #[cfg(feature = "rendezvous")]
            panel: panel.map(Arc::new),
            tenants: Arc::new(Tenants::new(config)),
        }
    }

    pub(super) fn tenants(&self) -> &Arc<Tenants> {
        &self.tenants
    }

    /// Returns the operator's page, if there is one.
    #[cfg(feature = "rendezvous")]
    pub(super) fn panel(&self) -> Option<&Arc<Panel>> {
        self.panel.as_ref()
    }

    /// Keeps the operator's page up to date, if there is one, in a task of its own.
    pub(super) fn spawn_panel(&self, tasks: &mut JoinSet<()>) {
        #[cfg(feature = "rendezvous")]
        if let Some(panel) = self.panel.clone() {
            let tenants = self.tenants.clone();
            tasks.spawn(async move {
                let watch = || panel.watch(&tenants);
                again_after_panics(tenants.house(), watch).await;
            });
        }
        #[cfg(not(feature = "rendezvous"))]
        let _ = tasks;
    }

    /// Waits until nothing is being written for the next start. Cancel safe.
    pub(super) async fn rested(&self) {
        #[cfg(feature = "rendezvous")]
        if let Some(panel) = &self.panel {
            panel.rested().await;
        }
    }
}
