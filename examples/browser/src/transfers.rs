//! The list of files: offered, in transfer, and finished.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use futures::{channel::oneshot, future::AbortHandle};
use libp2p::PeerId;
use web_sys::Element;
use web_time::Instant;

use crate::{
    dom::{Row, by_id, focus, set, show, tell},
    store::Kept,
    text::{short, size},
    transfer::{self, Name},
};

/// The most transfers in the list, including those that have ended.
const LISTED: usize = 64;
/// The most offers and transfers from other peers at once: in total, and from one peer.
const OFFERS: (usize, usize) = (8, 2);
/// The time after which a transfer that makes no progress is cancelled.
const STALLED: Duration = Duration::from_secs(120);
/// The number of looks over which the rate is measured. Looks are a quarter of a second apart.
const LOOKS: usize = 12;

/// The progress that the task of a transfer reports.
#[derive(Default)]
pub struct Progress {
    accepted: Cell<bool>,
    bytes: Cell<u64>,
}

impl Progress {
    pub fn accept(&self) {
        self.accepted.set(true);
    }

    pub fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }
}

/// The reason why a transfer ended before it was complete.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Transfer(#[from] transfer::Error),
    #[error("The connection was lost.")]
    Lost,
    #[error("You have cancelled.")]
    Cancelled,
    #[error("You have declined.")]
    Declined,
    #[error("There was no answer.")]
    NoAnswer,
    #[error("No data has moved for {} s.", STALLED.as_secs())]
    Stalled,
    #[error("The peer cannot be reached: {0}")]
    NotReached(String),
    #[error("This browser cannot store it: {0}")]
    NoPlace(String),
}

/// The result of a transfer, with the file if one was received.
pub type Ended = Result<Option<Kept>, Failure>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    To,
    From,
}

/// The state of a transfer that is offered or in progress.
struct Live {
    progress: Rc<Progress>,
    stop: AbortHandle,
    /// The sender for the answer to an offer.
    decision: Option<oneshot::Sender<bool>>,
    /// The time at which it was accepted, as first seen by a look.
    since: Option<Instant>,
    looks: VecDeque<(Instant, u64)>,
    moved: Instant,
    stalled: bool,
}

struct Transfer {
    row: Row,
    way: Way,
    peer: PeerId,
    name: Name,
    size: u64,
    live: Option<Live>,
    /// The received file.
    kept: Option<Kept>,
}

pub struct Transfers {
    list: Element,
    all: BTreeMap<u64, Transfer>,
    last: u64,
}

/// What the task of a transfer needs.
pub struct Started {
    pub id: u64,
    pub progress: Rc<Progress>,
}

impl Transfers {
    pub fn new() -> Self {
        Self {
            list: by_id("files"),
            all: BTreeMap::new(),
            last: 0,
        }
    }

    /// Returns whether a transfer is offered or in progress.
    pub fn are_live(&self) -> bool {
        self.all.values().any(|transfer| transfer.live.is_some())
    }

    /// Returns whether a further offer of a peer must be refused. Offers that were not read yet count too.
    pub fn are_too_many(&self, peer: &PeerId, unread: &[PeerId]) -> bool {
        let listed = self.all.values();
        let listed = listed.filter(|transfer| transfer.way == Way::From && transfer.live.is_some());
        let offers = listed.map(|transfer| &transfer.peer).chain(unread);
        let (all, own) = offers.fold((0, 0), |(all, own), who| {
            (all + 1, own + usize::from(who == peer))
        });
        all >= OFFERS.0 || own >= OFFERS.1
    }

    /// Adds a file to send, or an offered file with the sender for its answer. Returns `None` if the list is full.
    pub fn add(
        &mut self,
        peer: PeerId,
        name: Name,
        bytes: u64,
        stop: AbortHandle,
        decision: Option<oneshot::Sender<bool>>,
    ) -> Option<Started> {
        self.make_room()?;
        self.last += 1;
        let way = if decision.is_some() {
            Way::From
        } else {
            Way::To
        };
        let progress = Rc::<Progress>::default();
        let transfer = Transfer {
            row: Row::add("file", &self.list),
            way,
            peer,
            name,
            size: bytes,
            live: Some(Live {
                progress: progress.clone(),
                stop,
                decision,
                since: None,
                looks: VecDeque::new(),
                moved: Instant::now(),
                stalled: false,
            }),
            kept: None,
        };
        transfer.begin(self.last);
        self.all.insert(self.last, transfer);
        show(&by_id("no-files"), false);
        Some(Started {
            id: self.last,
            progress,
        })
    }

    /// Removes the oldest transfer that has ended, but never a received file that somebody may want to save.
    fn make_room(&mut self) -> Option<()> {
        if self.all.len() < LISTED {
            return Some(());
        }
        let mut all = self.all.iter();
        let ended = all.find(|(_, transfer)| transfer.live.is_none() && transfer.kept.is_none());
        let id = *ended?.0;
        self.all.remove(&id);
        Some(())
    }

    /// Answers an offer.
    pub fn answer(&mut self, id: u64, accepted: bool) {
        let Some(transfer) = self.all.get_mut(&id) else {
            return;
        };
        let decision = transfer.live.as_mut().and_then(|live| live.decision.take());
        let Some(decision) = decision else { return };
        // The task may just have ended. Its end is then reported instead.
        let _ = decision.send(accepted);
        match accepted {
            true => transfer.row.exchange(&["accept", "decline"], &["cancel"]),
            false => focus(&by_id("files-title")),
        }
    }

    pub fn cancel(&self, id: u64) {
        let live = self
            .all
            .get(&id)
            .and_then(|transfer| transfer.live.as_ref());
        if let Some(live) = live {
            live.stop.abort();
        }
    }

    /// Removes a transfer that has ended from the list, together with its file.
    pub fn remove(&mut self, id: u64) {
        if self
            .all
            .get(&id)
            .is_some_and(|transfer| transfer.live.is_none())
        {
            self.all.remove(&id);
            focus(&by_id("files-title"));
        }
        show(&by_id("no-files"), self.all.is_empty());
    }

    /// Shows the progress of all transfers.
    pub fn look(&mut self) {
        let now = Instant::now();
        self.all
            .values_mut()
            .for_each(|transfer| transfer.look(now));
    }

    /// Shows how a transfer has ended.
    pub fn end(&mut self, id: u64, result: Ended) {
        if let Some(transfer) = self.all.get_mut(&id) {
            transfer.end(result);
        }
    }

    pub fn peer(&self, id: u64) -> Option<PeerId> {
        self.all.get(&id).map(|transfer| transfer.peer)
    }
}

impl Transfer {
    fn begin(&self, id: u64) {
        let (row, name, who) = (&self.row, self.name.as_str(), short(&self.peer));
        set(row.element(), "data-id", &id.to_string());
        row.text("name", name);
        row.set("progress", "aria-label", &format!("Progress of {name}"));
        row.set("about", "title", &self.peer.to_string());
        for (part, does) in [
            ("accept", "Accept"),
            ("decline", "Decline"),
            ("cancel", "Cancel"),
            ("remove", "Remove"),
            ("save", "Save"),
        ] {
            row.set(part, "aria-label", &format!("{does} {name}"));
        }
        let bytes = size(self.size);
        match self.way {
            Way::To => {
                row.text("about", &format!("{bytes} to {who}"));
                row.text("state", "Waiting for an answer.");
                row.show("cancel", true);
            }
            Way::From => {
                row.text("about", &format!("{bytes} from {who}"));
                row.text("state", "Do you want it?");
                row.show("accept", true);
                row.show("decline", true);
                tell(&format!("{who} offers {name}, {bytes}."));
            }
        }
    }

    fn look(&mut self, now: Instant) {
        let Some(live) = self
            .live
            .as_mut()
            .filter(|live| live.progress.accepted.get())
        else {
            return;
        };
        if live.since.is_none() {
            live.since = Some(now);
            live.moved = now;
            self.row.show("progress", true);
        }
        let bytes = live.progress.bytes.get();
        if live.looks.back().is_none_or(|(_, before)| *before != bytes) {
            live.moved = now;
        } else if now.saturating_duration_since(live.moved) > STALLED {
            live.stalled = true;
            live.stop.abort();
        }
        live.looks.push_back((now, bytes));
        if live.looks.len() > LOOKS {
            live.looks.pop_front();
        }
        let (done, all) = (size(bytes), size(self.size));
        let state = match live.looks.front() {
            Some((since, before)) if live.looks.len() > 1 => {
                let time = now.saturating_duration_since(*since);
                let rate = rate(bytes.saturating_sub(*before), time);
                format!("{done} of {all}, {rate:.1} MiB/s")
            }
            _ => format!("{done} of {all}"),
        };
        self.row.text("state", &state);
        self.row
            .set("progress", "value", &thousandths(bytes, self.size));
    }

    fn end(&mut self, result: Ended) {
        let Some(live) = self.live.take() else { return };
        let whole = result.is_ok();
        let state = match result {
            Ok(kept) => {
                self.kept = kept;
                let took = live.since.map_or(Duration::ZERO, |since| since.elapsed());
                let rate = rate(self.size, took);
                let done = if self.way == Way::To {
                    "Sent"
                } else {
                    "Received"
                };
                match took.is_zero() {
                    true => format!("{done}."),
                    false => format!("{done}, {rate:.1} MiB/s."),
                }
            }
            Err(Failure::Cancelled) if live.stalled => Failure::Stalled.to_string(),
            Err(failure) => failure.to_string(),
        };
        self.row.text("state", &state);
        let kind = if whole { "done" } else { "failed" };
        set(self.row.element(), "data-kind", kind);
        self.row.show("progress", false);
        let before = ["accept", "decline", "cancel"];
        match &self.kept {
            Some(kept) => {
                self.row.set("save", "href", kept.address());
                self.row.set("save", "download", self.name.as_str());
                self.row.exchange(&before, &["save", "remove"]);
            }
            None => self.row.exchange(&before, &["remove"]),
        }
        tell(&format!("{}: {state}", self.name.as_str()));
    }
}

/// Returns a rate in MiB/s.
fn rate(bytes: u64, time: Duration) -> f64 {
    match time.is_zero() {
        true => 0.0,
        false => bytes as f64 / f64::from(1 << 20) / time.as_secs_f64(),
    }
}

/// Returns the progress in thousandths, as the `progress` element expects it.
fn thousandths(bytes: u64, all: u64) -> String {
    match all {
        0 => "1000".to_owned(),
        all => format!("{:.0}", bytes as f64 / all as f64 * 1000.0),
    }
}
