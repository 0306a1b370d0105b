//! The state of a rendezvous at one moment, as the page shows it.

use std::time::Duration;

use bytes::Bytes;
use maud::Markup;

use super::{
    history::{COLUMNS, History, Sample},
    page,
};
use crate::rendezvous::{hub::Figures, usage::PeerUsage};

/// What is shown anew each second.
pub(super) struct Now {
    pub(super) figures: Figures,
    pub(super) sample: Sample,
    pub(super) runs_for: Duration,
}

/// Everything that is shown beside the lists of peers and bans.
pub(super) struct Look {
    pub(super) now: Now,
    /// The history of the bytes a second, the peers, the links and the dials, in this order.
    pub(super) columns: [[Option<u64>; COLUMNS]; 4],
    pub(super) users: Vec<PeerUsage>,
}

impl Look {
    pub(super) fn new(now: Now, history: &History, users: Vec<PeerUsage>) -> Self {
        Self {
            now,
            columns: [
                history.columns(|sample| sample.rate),
                history.columns(|sample| sample.peers),
                history.columns(|sample| sample.links),
                history.columns(|sample| sample.dials),
            ],
            users,
        }
    }
}

/// The parts of the page that change by themselves, as events of the stream. They are made once for all listeners.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) figures: Bytes,
    /// The number of the current `others`. They are made less often than the figures, and get a new number each time.
    pub(super) number: u64,
    pub(super) others: Bytes,
}

impl Live {
    pub(super) fn new(look: &Look, number: u64) -> Self {
        let others = [
            event("pictures", page::pictures(look)),
            event("users", page::users(&look.users)),
            event("refusals", page::refusals(&look.now)),
            #[cfg(feature = "cluster")]
            event("cluster", page::cluster(&look.now)),
        ];
        Self {
            figures: event("figures", page::figures(&look.now)).into(),
            number,
            others: others.concat().into(),
        }
    }

    /// Returns the same parts with new figures.
    pub(super) fn with_figures(&self, now: &Now) -> Self {
        Self {
            figures: event("figures", page::figures(now)).into(),
            number: self.number,
            others: self.others.clone(),
        }
    }
}

/// Formats an event for `text/event-stream`. Line breaks in the HTML become spaces, because they would end the data.
fn event(name: &str, html: Markup) -> String {
    let html = html.into_string().replace(['\r', '\n'], " ");
    format!("event: {name}\ndata: {html}\n\n")
}
