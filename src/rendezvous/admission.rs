//! Lets connections and links in, and ends those that must make room for others.

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
use crate::log_limit::LogLimit;

/// What is needed to end a connection.
#[derive(Debug, Clone, Default)]
struct Handle {
    /// The task that serves the connection; `None` until it is known.
    task: Option<AbortHandle>,
    /// The outbox, if the connection is a link.
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

/// Decides which connections, requests and links are let in.
#[derive(Debug)]
pub(super) struct Admission {
    config: Config,
    state: Shared<State>,
    #[cfg(feature = "rendezvous")]
    without_header: LogLimit,
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
            without_header: LogLimit::default(),
        }
    }

    fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    /// Returns the counts of what was refused here, or ended to make room.
    pub(super) fn refusals(&self) -> Refusals {
        self.lock().refusals
    }

    /// Counts a refusal that was made elsewhere, before the tenant was known.
    pub(super) fn count_refused(&self, reason: Refused) {
        self.lock().refuse(reason);
    }

    /// Returns the number of connections, links included.
    pub(super) fn connections(&self) -> usize {
        self.lock().places.connections()
    }

    /// Gives a new connection a place. `is_proxy` tells whether it comes from a trusted proxy that has yet to name the
    /// client.
    pub(super) fn enter(
        self: &Arc<Self>,
        remote: IpAddr,
        is_proxy: bool,
        now: Instant,
    ) -> Result<Place, Refused> {
        let mut state = self.lock();
        let (id, evicted) = match is_proxy {
            true => state.places.enter_unidentified(),
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

    /// Returns whether a client may send an HTTP request. If so, the request counts.
    pub(super) fn may_ask(&self, client: IpAddr, now: Instant) -> bool {
        let claimant = self.config.origin_weights().claimant(client);
        let mut state = self.lock();
        let may_ask = state.requests.try_spend(&claimant, now);
        if !may_ask {
            state.refuse(Refused::RequestRate);
        }
        may_ask
    }

    /// Ends a connection because no descriptor is left for another one. It is one of the origin that holds the most for
    /// its weight, or the oldest one through a proxy whose client is not known yet. Returns false if no connection is
    /// to go.
    pub(super) fn make_room(&self) -> bool {
        let mut state = self.lock();
        let Some(handle) = state.places.make_room() else {
            return false;
        };
        self.end(state, Some(Evicted::Connection(handle)));
        true
    }

    /// Ends a connection whose place now belongs to another one.
    fn end(&self, mut state: Guard<'_, State>, evicted: Option<Evicted<Handle>>) {
        match evicted {
            None => {}
            Some(Evicted::Link(Handle {
                outbox: Some(outbox),
                ..
            })) => {
                drop(state);
                // The link's task counts the refusal.
                outbox.close(CloseReason::GaveWay);
            }
            Some(Evicted::Link(handle) | Evicted::Connection(handle)) => {
                state.refuse(Refused::ConnectionGaveWay);
                drop(state);
                // If the task is not known yet, [`Ticket::served_by`] finds later that the place is gone.
                if let Some(task) = handle.task {
                    task.abort();
                }
            }
        }
    }
}

/// A connection's place, held until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    id: PlaceId,
    /// Whether the connection comes from a trusted proxy. The proxy itself has no rate limit, and each of its requests
    /// names the client that it is for.
    is_proxy: bool,
}

impl Place {
    /// Returns the ticket with which the task of the connection is made known, so that the connection can be ended.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket {
            admission: self.admission.clone(),
            id: self.id,
        }
    }

    /// Returns whether each request on the connection names its own client.
    pub(super) fn is_proxy(&self) -> bool {
        self.is_proxy
    }

    /// Sets the client of the whole connection, which the proxy has named before anything else. From now on the
    /// connection counts as one that this client has made itself, and not as a proxy's.
    #[cfg(feature = "rendezvous")]
    pub(super) fn set_source(&mut self, client: IpAddr, now: Instant) -> Result<(), Refused> {
        let claimant = self.admission.config.origin_weights().claimant(client);
        let mut state = self.admission.lock();
        if !state.rates.try_spend(&claimant, now) {
            return Err(state.refuse(Refused::ConnectionRate));
        }
        drop(state);
        if !self.set_client(client) {
            return Err(Refused::TooManyConnections);
        }
        self.is_proxy = false;
        Ok(())
    }

    /// Counts the refusal of a connection whose proxy did not name the client properly. If the refusal is to be logged,
    /// returns the number of log lines that were left out before it.
    #[cfg(feature = "rendezvous")]
    pub(super) fn refuse_header(&self, now: Instant) -> Option<u64> {
        self.admission.lock().refuse(Refused::ProxyHeader);
        self.admission.without_header.admit(now)
    }

    /// Sets the client of the current request. Returns `false` if there is no place for it; the connection must then be
    /// closed.
    pub(super) fn set_client(&self, client: IpAddr) -> bool {
        let claimant = self.admission.config.origin_weights().claimant(client);
        let mut state = self.admission.lock();
        match state.places.set_client(self.id, claimant) {
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

    /// Turns the connection into a link of a client.
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

/// Makes the task of a connection known to the admission.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    id: PlaceId,
}

impl Ticket {
    /// Sets the task that serves the connection. If the connection has already had to make room, the task is ended.
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

/// A link's place, beside the place of its connection, held until this is dropped.
#[derive(Debug)]
pub(super) struct LinkPlace {
    admission: Arc<Admission>,
    id: PlaceId,
}

impl LinkPlace {
    /// Sets whether an address is joined on the link.
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
