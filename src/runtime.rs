//! The clock, timers and tasks of Tokio, or of the browser.
//!
//! Both have the same functions and types, so that the code above does not depend on the platform.

#[cfg(target_arch = "wasm32")]
mod browser;
#[cfg(not(target_arch = "wasm32"))]
mod native;

#[cfg(target_arch = "wasm32")]
pub(crate) use self::browser::{
    Changes, Handle, Timer, is_hidden, now, sleep_apart, soon, timeout_at,
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::native::{Changes, Handle, Timer, now, sleep_apart, timeout_at};

/// What has changed in the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    expect(dead_code, reason = "only a browser reports changes")
)]
pub(crate) enum Changed {
    /// The network, or a freeze of the program: an open link may be lost.
    Network,
    /// The page is visible again.
    Shown,
}

/// The deadline passed before the future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;
