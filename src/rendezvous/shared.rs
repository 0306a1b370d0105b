//! The locks that all links share: those of the hub, of the feed, of the rates of origins, and of the admission.
//!
//! Such a lock is held for well below a millisecond, however many links there are. With the feature `_lock-times`,
//! which the benchmark `rendezvous` asks for, the time for which it is held is measured. Otherwise this is a [`Mutex`]
//! and nothing else.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The name of a lock.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(all(feature = "_lock-times", target_os = "linux")),
    allow(
        dead_code,
        reason = "the names are used only when lock times are measured"
    )
)]
pub(super) enum Name {
    Hub,
    Feed,
    Admission,
    Rates,
}

#[derive(Debug)]
pub(super) struct Shared<T> {
    inner: Mutex<T>,
    #[cfg(all(feature = "_lock-times", target_os = "linux"))]
    name: Name,
}

#[cfg(not(all(feature = "_lock-times", target_os = "linux")))]
pub(super) type Guard<'a, T> = MutexGuard<'a, T>;
#[cfg(all(feature = "_lock-times", target_os = "linux"))]
pub(super) use self::times::Guard;

impl<T> Shared<T> {
    #[cfg_attr(
        not(all(feature = "_lock-times", target_os = "linux")),
        allow(unused_variables)
    )]
    pub(super) fn new(name: Name, value: T) -> Self {
        Self {
            inner: Mutex::new(value),
            #[cfg(all(feature = "_lock-times", target_os = "linux"))]
            name,
        }
    }

    // Nothing panics halfway through a change with one of these locks held.
    fn lock_inner(&self) -> MutexGuard<'_, T> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(not(all(feature = "_lock-times", target_os = "linux")))]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        self.lock_inner()
    }

    #[cfg(all(feature = "_lock-times", target_os = "linux"))]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        Guard::new(self.lock_inner(), self.name)
    }
}

/// Measures for how long the shared locks are held, in processor time of the thread that holds them. For the benchmark
/// only.
#[cfg(all(feature = "_lock-times", target_os = "linux"))]
pub mod times {
    use std::{
        ops::{Deref, DerefMut},
        sync::{
            MutexGuard,
            atomic::{AtomicBool, AtomicU64, Ordering},
        },
        time::Duration,
    };

    use rustix::time::{ClockId, clock_gettime};

    use super::Name;

    struct Times {
        held: AtomicU64,
        nanos: AtomicU64,
        longest: AtomicU64,
        long: AtomicU64,
    }

    impl Times {
        fn add(&self, nanos: u64) {
            self.held.fetch_add(1, Ordering::Relaxed);
            self.nanos.fetch_add(nanos, Ordering::Relaxed);
            self.longest.fetch_max(nanos, Ordering::Relaxed);
            if nanos > LONG {
                self.long.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The time in nanoseconds beyond which a lock counts as held for long.
    const LONG: u64 = 1_000_000;
    const NAMES: [&str; 5] = ["hub", "feed", "admission", "rates", "nothing"];
    /// The index of an empty measurement, which takes no time except for what the system does meanwhile.
    const NOTHING: usize = 4;

    static TIMES: [Times; NAMES.len()] = [const {
        Times {
            held: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            long: AtomicU64::new(0),
        }
    }; NAMES.len()];

    /// Measuring takes a tenth of the processor time, so it is off at first.
    static IS_ON: AtomicBool = AtomicBool::new(false);

    /// Starts to measure.
    pub fn start() {
        IS_ON.store(true, Ordering::Relaxed);
    }

    /// For how long one lock was held.
    #[derive(Debug, Clone, Copy)]
    pub struct Held {
        /// The name of the lock.
        pub lock: &'static str,
        /// The number of times that it was held.
        pub times: u64,
        /// The total time.
        pub total: Duration,
        /// The longest time.
        pub longest: Duration,
        /// The number of times that it was held for more than a millisecond.
        pub long: u64,
    }

    /// Returns for how long the server's locks in this process were held since the last call. The entry `nothing` is an
    /// empty measurement: it shows how much of the time is due to the system.
    pub fn take() -> Vec<Held> {
        let all = TIMES.iter().zip(NAMES);
        let held = all.map(|(times, lock)| {
            let take = |of: &AtomicU64| of.swap(0, Ordering::Relaxed);
            Held {
                lock,
                times: take(&times.held),
                total: Duration::from_nanos(take(&times.nanos)),
                longest: Duration::from_nanos(take(&times.longest)),
                long: take(&times.long),
            }
        });
        held.collect()
    }

    fn thread_nanos() -> u64 {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let nanos = time.tv_sec * 1_000_000_000 + time.tv_nsec;
        nanos.unsigned_abs()
    }

    /// A lock that is held.
    #[derive(Debug)]
    pub(in crate::rendezvous) struct Guard<'a, T> {
        inner: MutexGuard<'a, T>,
        name: Name,
        /// The time at which it was locked, if it is measured, in nanoseconds of the thread's processor time.
        since: Option<u64>,
    }

    impl<'a, T> Guard<'a, T> {
        pub(super) fn new(inner: MutexGuard<'a, T>, name: Name) -> Self {
            let since = IS_ON.load(Ordering::Relaxed).then(|| {
                let before = thread_nanos();
                let since = thread_nanos();
                TIMES[NOTHING].add(since.saturating_sub(before));
                since
            });
            Self { inner, name, since }
        }
    }

    impl<T> Deref for Guard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.inner
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.inner
        }
    }

    impl<T> Drop for Guard<'_, T> {
        fn drop(&mut self) {
            let Some(since) = self.since else {
                return;
            };
            let nanos = thread_nanos().saturating_sub(since);
            TIMES[self.name as usize].add(nanos);
        }
    }
}
