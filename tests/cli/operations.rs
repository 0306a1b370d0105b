//! Certificates and folders, as the tests of the stand-alone rendezvous have them.

#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../it/operations/certificates.rs"]
pub mod certificates;
