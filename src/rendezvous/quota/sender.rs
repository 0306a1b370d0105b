//! Who sends what waits for a quota.

use std::sync::Arc;

use super::lane::{Flow, Peer};
use crate::rendezvous::{origin::Claimant, usage::Meter};

/// The number of a tenant.
pub(super) type Tenant = usize;

/// The sender of an item: a peer on a link.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    tenant: Tenant,
    claimant: Claimant,
    meter: Arc<Meter>,
}

impl Sender {
    pub(super) fn new(tenant: Tenant, claimant: &Claimant, meter: Arc<Meter>) -> Self {
        Self {
            tenant,
            claimant: *claimant,
            meter,
        }
    }

    pub(super) fn tenant(&self) -> Tenant {
        self.tenant
    }

    pub(super) fn claimant(&self) -> &Claimant {
        &self.claimant
    }

    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Returns the number of the sender's meter.
    pub(super) fn peer(&self) -> Peer {
        self.meter.number()
    }

    pub(super) fn flow(&self) -> Flow {
        (self.claimant.origin, self.peer())
    }
}
