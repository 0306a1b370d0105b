//! Access control as the operator configures it: lists and tokens in files, and an external service.
//!
//! A peer on a deny list is refused. Otherwise, one of the configured rules must let the peer in: the list of peers,
//! the list of networks, a token, or the service, which is asked last. If none of these is configured, everyone is let
//! in. A tenant may have its own lists in addition to those for all.

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
