//! Locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. State left by a panicking thread is still consistent, because nothing here panics halfway through a
/// change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
