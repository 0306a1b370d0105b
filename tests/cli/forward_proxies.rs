//! Forward proxies, shared with the tests of the transport.

#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../it/forward_proxies/process.rs"]
pub mod process;

pub const USER: &str = "user";
pub const PASSWORD: &str = "secret";
