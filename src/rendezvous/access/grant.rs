//! What a join is allowed, for as long as it lasts.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
};

use super::Join;

/// A value of the application that is dropped when a join is over.
pub(super) struct Guard(Option<Box<dyn Any + Send>>);

impl Guard {
    pub(super) fn new(guard: impl Send + 'static) -> Self {
        Self(Some(Box::new(guard)))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let guard = self.0.take();
        // A panic in the application's code must not end the task that happens to drop the guard.
        if catch_unwind(AssertUnwindSafe(|| drop(guard))).is_err() {
            tracing::error!("the guard of a join has panicked");
        }
    }
}

/// What a join is allowed. The last reference must not be dropped with a lock held, because that drops the application's
/// guard.
#[derive(Debug)]
pub(crate) struct Grant {
    join: Join,
    max_dials: Option<usize>,
    /// Never locked. The mutex allows a value that is only [`Send`] to be shared.
    _guard: Mutex<Option<Guard>>,
}

impl Grant {
    pub(super) fn new(join: Join, max_dials: Option<usize>, guard: Option<Guard>) -> Self {
        Self {
            join,
            max_dials,
            _guard: Mutex::new(guard),
        }
    }

    /// Returns the join that the grant was given for.
    pub(crate) fn join(&self) -> &Join {
        &self.join
    }

    /// Returns how many dials may be open from the link: at most `most`, and no more than the grant allows.
    pub(crate) fn max_dials(&self, most: usize) -> usize {
        self.max_dials.map_or(most, |dials| dials.min(most))
    }
}
