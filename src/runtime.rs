//! The clock, timers and tasks: Tokio's, or the browser's.
//!
//! Both have the same functions and types, so that nothing above has to know where it runs.

#[cfg(target_arch = "wasm32")]
mod browser;
#[cfg(not(target_arch = "wasm32"))]
mod native;

#[cfg(target_arch = "wasm32")]
pub(crate) use self::browser::{Handle, Timer, now, sleep_apart, timeout_at};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::native::{Handle, Timer, now, sleep_apart, timeout_at};

/// Something took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;
