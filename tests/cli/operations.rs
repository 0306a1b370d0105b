//! Certificates and folders, shared with the tests of the stand-alone rendezvous.

#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../it/operations/certificates.rs"]
pub mod certificates;
