//! Name resolution with the system's resolver.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use crate::{address::Rendezvous, link::socket};

/// The maximum time of all lookups for one dial.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of lookups at the same time, for all dials. Each takes a thread, and strangers choose the names.
const MAX_RUNNING: usize = 4;

/// Resolves names for dials.
#[derive(Debug)]
pub(in crate::link) struct Lookups(Arc<Semaphore>);

impl Default for Lookups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_RUNNING)))
    }
}

impl Lookups {
    /// Returns the first of the rendezvous whose name has the address `ip`.
    pub(in crate::link) async fn first_at(
        &self,
        ip: IpAddr,
        rendezvous: Vec<Rendezvous>,
    ) -> Option<Rendezvous> {
        let resolve = |rendezvous: Rendezvous| async move {
            let found = socket::resolve(&rendezvous).await.unwrap_or_default();
            found.iter().map(SocketAddr::ip).collect()
        };
        self.first_by(ip, rendezvous, resolve).await
    }

    /// Resolves the names in separate tasks. In a runtime without timers or IO, these tasks panic instead of the
    /// swarm's.
    async fn first_by<R: Future<Output = Vec<IpAddr>> + Send + 'static>(
        &self,
        ip: IpAddr,
        rendezvous: Vec<Rendezvous>,
        resolve: impl Fn(Rendezvous) -> R + Send + 'static,
    ) -> Option<Rendezvous> {
        if rendezvous.is_empty() {
            return None;
        }
        let running = self.0.clone();
        // The search is dropped with the dial, and then ends.
        let mut search = JoinSet::new();
        search.spawn(timeout(LOOKUP_TIMEOUT, async move {
            for rendezvous in rendezvous {
                let permit = running.clone().acquire_owned().await.ok()?;
                let lookup = resolve(rendezvous.clone());
                // The system's resolver goes on after the dial is dropped. The lookup counts against the limit until it
                // ends.
                let lookup = tokio::spawn(async move {
                    let found = lookup.await;
                    drop(permit);
                    found
                });
                if lookup.await.ok()?.contains(&ip) {
                    return Some(rendezvous);
                }
            }
            None
        }));
        search.join_next().await?.ok()?.ok()?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::link::tests::rendezvous;

    #[tokio::test(start_paused = true)]
    async fn four_lookups_run_at_one_time_though_nobody_waits_for_them_any_more() {
        let (lookups, begun) = (Lookups::default(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..10 {
            let begun = begun.clone();
            let never = move |_| {
                begun.fetch_add(1, Ordering::Relaxed);
                std::future::pending()
            };
            let names = vec![
                rendezvous("dns4/a.example/tcp/443/wss"),
                rendezvous("dns4/b.example/tcp/443/wss"),
            ];
            let found = lookups.first_by([192, 0, 2, 1].into(), names, never).await;
            assert_eq!(found, None, "the time is over");
        }
        assert_eq!(begun.load(Ordering::Relaxed), 4);
    }
}
