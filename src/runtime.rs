//! The clock, timers and tasks: Tokio's, or the browser's.
//!
//! Both have the same functions and types, so that nothing above has to know where it runs.

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

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    expect(dead_code, reason = "only a browser tells")
)]
pub(crate) enum Changed {
    /// The network, or what runs at all: a link that was there may be gone.
    Network,
    /// The page is seen again.
    Shown,
}

/// Something took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;
