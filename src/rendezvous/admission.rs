//! Lets connections and links in, and ends those that have to make room for others.

use std::{net::IpAddr, sync::Arc, time::Instant};

use tokio::task::AbortHandle;

use super::{
    config::Config,
    outbox::{CloseReason, Outbox},
    places::{Evicted, NoLink, PlaceId, Places},
    rates::Rates,
    refusals::{Refusals, Refused},
    shared::{Guard, Name, Shared},
    shares::Full,
};
#[cfg(feature = "rendezvous")]
use crate::limited::Limited;

/// What it takes to end a connection.
#[derive(Debug, Clone, Default)]
struct Handle {
    /// None until the connection has one.
    task: Option<AbortHandle>,
    /// Of a link.
    outbox: Option<Arc<Outbox>>,
}

#[derive(Debug)]
struct State {
    places: Places<Handle>,
    rates: Rates,
    requests: Rates,
    refusals: Refusals,
}

impl State {
    fn refuse(&mut self, reason: Refused) -> Refused {
        self.refusals.count(reason);
        reason
    }
}

/// Who may come in.
#[derive(Debug)]
pub(super) struct Admission {
    config: Config,
    state: Shared<State>,
    #[cfg(feature = "rendezvous")]
    not_introduced: Limited,
}

impl Admission {
    pub(super) fn new(config: Config) -> Self {
        let limits = config.limits();
        let mut places = Places::new(limits.links, limits.links_per_ip);
        if let Some(most) = config.few_connections() {
            places = places.with_most(most, !config.trusted_proxies().is_empty());
        }
        let state = State {
            places,
            rates: Rates::new(limits.connection_rate),
            requests: Rates::new(limits.http_rate),
            refusals: Refusals::default(),
        };
        Self {
            state: Shared::new(Name::Admission, state),
            config,
            #[cfg(feature = "rendezvous")]
            not_introduced: Limited::default(),
        }
    }

    fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    /// What was refused here, and ended to make room.
    pub(super) fn refusals(&self) -> Refusals {
        self.lock().refusals
    }

    /// Counts what was refused elsewhere, before it was known for which tenant.
    pub(super) fn count_refused(&self, reason: Refused) {
        self.lock().refuse(reason);
    }

    /// How many connections there are, links included.
    pub(super) fn connections(&self) -> usize {
        self.lock().places.connections()
    }

    /// Gives a new connection a place. `is_proxy` is whether it comes from a trusted proxy, which is yet to say for whom.
    pub(super) fn enter(
        self: &Arc<Self>,
        remote: IpAddr,
        is_proxy: bool,
        now: Instant,
    ) -> Result<Place, Refused> {
        let mut state = self.lock();
        let (id, evicted) = match is_proxy {
            true => state.places.enter_unnamed(),
            false => {
                let claimant = self.config.origin_weights().claimant(remote);
                if !state.rates.try_spend(&claimant, now) {
                    return Err(state.refuse(Refused::ConnectionRate));
                }
                match state.places.enter(claimant) {
                    Ok(entered) => entered,
                    Err(Full) => return Err(state.refuse(Refused::TooManyConnections)),
                }
            }
        };
        self.end(state, evicted);
        Ok(Place {
            admission: self.clone(),
            id,
            is_proxy,
        })
    }

    /// Whether a client may send an HTTP request; then it counts.
    pub(super) fn may_ask(&self, client: IpAddr, now: Instant) -> bool {
        let claimant = self.config.origin_weights().claimant(client);
        let mut state = self.lock();
        let may_ask = state.requests.try_spend(&claimant, now);
        if !may_ask {
            state.refuse(Refused::RequestRate);
        }
        may_ask
    }

    /// Ends a connection of whoever has most, because no other can be accepted; whether there is one.
    pub(super) fn make_room(&self) -> bool {
        let mut state = self.lock();
        let Some(handle) = state.places.make_room() else {
            return false;
        };
        self.end(state, Some(Evicted::Connection(handle)));
        true
    }

    /// Ends a connection whose place is another's now.
    fn end(&self, mut state: Guard<'_, State>, evicted: Option<Evicted<Handle>>) {
        match evicted {
            None => {}
            Some(Evicted::Link(Handle {
                outbox: Some(outbox),
                ..
            })) => {
                drop(state);
                // Its task counts it.
                outbox.close(CloseReason::GaveWay);
            }
            Some(Evicted::Link(handle) | Evicted::Connection(handle)) => {
                state.refuse(Refused::ConnectionGaveWay);
                drop(state);
                // Whoever gives it a task later finds that its place is gone.
                if let Some(task) = handle.task {
                    task.abort();
                }
            }
        }
    }
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    id: PlaceId,
    /// Whether it comes from a trusted proxy, whose own rate is nobody's, and which says in each request for whom it asks.
    is_proxy: bool,
}

impl Place {
    /// What is to be told which task serves the connection, so that it can be ended.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket {
            admission: self.admission.clone(),
            id: self.id,
        }
    }

    /// Whether the connection is for whom its requests say.
    pub(super) fn is_proxy(&self) -> bool {
        self.is_proxy
    }

    /// The proxy has said for whom all of the connection is, before anything else: from now on it is one that this client
    /// has made itself, and not a proxy's.
    #[cfg(feature = "rendezvous")]
    pub(super) fn introduce(&mut self, client: IpAddr, now: Instant) -> Result<(), Refused> {
        let claimant = self.admission.config.origin_weights().claimant(client);
        let mut state = self.admission.lock();
        if !state.rates.try_spend(&claimant, now) {
            return Err(state.refuse(Refused::ConnectionRate));
        }
        drop(state);
        if !self.name(client) {
            return Err(Refused::TooManyConnections);
        }
        self.is_proxy = false;
        Ok(())
    }

    /// The connection is refused because its proxy does not say for whom it is. If that is to be logged: how many such
    /// lines were left out.
    #[cfg(feature = "rendezvous")]
    pub(super) fn refuse_header(&self, now: Instant) -> Option<u64> {
        self.admission.lock().refuse(Refused::ProxyHeader);
        self.admission.not_introduced.admit(now)
    }

    /// The client for whom a request comes is known. `false` if there is no place for it: the connection is
    /// to be closed.
    pub(super) fn name(&self, client: IpAddr) -> bool {
        let claimant = self.admission.config.origin_weights().claimant(client);
        let mut state = self.admission.lock();
        match state.places.name(self.id, claimant) {
            Ok(evicted) => {
                self.admission.end(state, evicted);
                true
            }
            Err(Full) => {
                state.refuse(Refused::TooManyConnections);
                false
            }
        }
    }

    /// Has the connection become a link of a client.
    pub(super) fn begin_link(
        &self,
        client: IpAddr,
        outbox: &Arc<Outbox>,
        now: Instant,
    ) -> Result<LinkPlace, NoLink> {
        let claimant = self.admission.config.origin_weights().claimant(client);
        let mut state = self.admission.lock();
        if self.is_proxy && !state.rates.try_spend(&claimant, now) {
            return Err(NoLink::TooOften);
        }
        let evicted = state.places.begin_link(self.id)?;
        if let Some(handle) = state.places.handle_mut(self.id) {
            handle.outbox = Some(outbox.clone());
        }
        self.admission.end(state, evicted);
        Ok(LinkPlace {
            admission: self.admission.clone(),
            id: self.id,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.lock().places.leave(self.id);
    }
}

/// What tells the admission which task a connection has.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    id: PlaceId,
}

impl Ticket {
    /// The connection is served by this task, which is ended if the connection has had to make room
    /// already.
    pub(super) fn served_by(self, task: AbortHandle) {
        let mut state = self.admission.lock();
        match state.places.handle_mut(self.id) {
            Some(handle) => handle.task = Some(task),
            None => {
                drop(state);
                task.abort();
            }
        }
    }
}

/// A link's place, beside that of its connection, until it is dropped.
#[derive(Debug)]
pub(super) struct LinkPlace {
    admission: Arc<Admission>,
    id: PlaceId,
}

impl LinkPlace {
    /// Whether an address is joined on the link.
    pub(super) fn set_joined(&self, joined: bool) {
        self.admission.lock().places.set_joined(self.id, joined);
    }
}

impl Drop for LinkPlace {
    fn drop(&mut self) {
        self.admission.lock().places.end_link(self.id);
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
