//! What a join was allowed, for as long as it lasts.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
};

use super::Join;

/// Something of the application's that is dropped when a join is over.
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
        // Whose task this is has nothing to do with it.
        if catch_unwind(AssertUnwindSafe(|| drop(guard))).is_err() {
            tracing::error!("the guard of a join has panicked");
        }
    }
}

/// What a join was allowed. The last of its owners must not hold a lock when it is dropped: the guard is the
/// application's.
#[derive(Debug)]
pub(crate) struct Grant {
    join: Join,
    max_dials: Option<usize>,
    /// Never locked: it makes what is [`Send`] alone fit to be shared.
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

    /// The join that it was given for.
    pub(crate) fn join(&self) -> &Join {
        &self.join
    }

    /// How many dials may be open from there, if so many may at most.
    pub(crate) fn max_dials(&self, most: usize) -> usize {
        self.max_dials.map_or(most, |dials| dials.min(most))
    }
}
