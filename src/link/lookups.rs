//! Name resolution for dials whose address contains an IP address.

#[cfg(target_arch = "wasm32")]
mod browser;
#[cfg(not(target_arch = "wasm32"))]
mod native;

#[cfg(target_arch = "wasm32")]
pub(super) use self::browser::Lookups;
#[cfg(not(target_arch = "wasm32"))]
pub(super) use self::native::Lookups;
