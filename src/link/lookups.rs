//! Looks up the addresses of names, for dials that name an address.

#[cfg(target_arch = "wasm32")]
mod browser;
#[cfg(not(target_arch = "wasm32"))]
mod native;

#[cfg(target_arch = "wasm32")]
pub(super) use self::browser::Lookups;
#[cfg(not(target_arch = "wasm32"))]
pub(super) use self::native::Lookups;
