//! Who may use the rendezvous, as the operator says it: lists and tokens in files, and a service that is asked.
//!
//! Who is on a deny list stays out. Otherwise one of the things that are given must let a peer in: the list of peers, that of
//! networks, a token, or the service, which is asked last. If none is given, everybody is let in. A tenant may have lists of its
//! own beside those for all.

mod admin;
mod ban_file;
mod callout;
mod changes;
mod counts;
mod file;
mod lists;
mod networks;
mod peers;
mod policy;
mod rules;
mod tokens;
mod watch;

pub use self::{
    admin::{AdminFileError, AdminSettings, TokenSource},
    callout::{CalloutSettings, EndpointError},
    lists::ListFiles,
    rules::RuleFiles,
    watch::{AccessError, AccessWatch},
};
