//! One budget of memory for the whole process: what links have begun to send, and what waits for them.
//!
//! Each link has an account, and what a link holds counts for its origin. What waits to be written counts
//! for the link that is to take it, not for those who have sent it: it is there because that link does not
//! read. If it counted for the senders, whoever asks others for data and does not read it would have
//! their links closed.
//!
//! An open dial counts for its dialler, with what the registry and the links at both ends know of it.
//!
//! What all hold together is one number. Who holds most is looked up in a ledger, where an account takes its
//! memory in steps, and gives nothing back before its link's next heartbeat or before memory is scarce: while
//! data flows, nobody takes the ledger's lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    origin::{Claimant, Origin},
    outbox::{CloseReason, Outbox},
    shares::Shares,
};

/// In which steps memory is taken, in bytes.
const STEP: u64 = 64 * 1024;
/// In which steps it is counted what is queued: not for each small item.
const QUEUE_STEP: usize = 4 * 1024;
/// What an open dial takes, in bytes: its entries in the registry, and what both links remember of where its
/// streams lead.
pub(super) const DIAL: usize = 2 * 1024;
/// How many accounts are looked at for one that wants more: the ledger is not to be locked for long.
const LOOKS: usize = 256;
/// How many accounts give way at most for one that wants more, for the same reason. The next one goes on.
const DOOMED: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct AccountId(u64);

/// What each account has taken. No IO.
#[derive(Debug)]
struct Ledger<A> {
    shares: Shares,
    accounts: BTreeMap<AccountId, (u64, A)>,
    /// The accounts of each origin by what they have taken.
    order: BTreeSet<(Origin, u64, AccountId)>,
}

impl<A: Clone> Ledger<A> {
    fn new() -> Self {
        Self {
            // There is as much as is taken: that it is too much is told elsewhere.
            shares: Shares::new(u64::MAX),
            accounts: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Has an account hold so much from now on.
    fn set(&mut self, id: AccountId, claimant: &Claimant, bytes: u64, account: A) {
        let origin = claimant.origin;
        if let Some((before, _)) = self.accounts.remove(&id) {
            self.order.remove(&(origin, before, id));
            self.shares.release(origin, before);
        }
        if bytes > 0 {
            self.shares.take(claimant, bytes);
            self.order.insert((origin, bytes, id));
            self.accounts.insert(id, (bytes, account));
        }
    }

    /// The accounts of the origin that has taken most for its weight, the largest first; so many at most.
    fn largest(&self, count: usize) -> Vec<(u64, A)> {
        let Some(origin) = self.shares.largest() else {
            return Vec::new();
        };
        let end = (origin, u64::MAX, AccountId(u64::MAX));
        let accounts = self.order.range((origin, 0, AccountId(0))..=end).rev();
        let accounts = accounts.filter_map(|(_, _, id)| self.accounts.get(id).cloned());
        accounts.take(count).collect()
    }
}

/// The memory that all links may hold together.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    held: AtomicU64,
    /// Of that, what waits in queues.
    queued: AtomicU64,
    ledger: Mutex<Ledger<Arc<Account>>>,
    next: AtomicU64,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            limit: bytes as u64,
            held: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            ledger: Mutex::new(Ledger::new()),
            next: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger<Arc<Account>>> {
        // Nothing in there panics halfway through a change.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes are held.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// How many bytes of them wait in queues.
    pub(super) fn queued(&self) -> usize {
        usize::try_from(self.queued.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    fn is_exceeded(&self) -> bool {
        self.held() > self.limit
    }

    /// An account for a new link, which is closed through its outbox.
    pub(super) fn account(
        self: &Arc<Self>,
        claimant: Claimant,
        outbox: Weak<Outbox>,
    ) -> Arc<Account> {
        Arc::new(Account {
            budget: self.clone(),
            id: AccountId(self.next.fetch_add(1, Ordering::Relaxed)),
            claimant,
            outbox,
            reading: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            dials: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Has an account take what it needs, and closes links as long as there is not enough for all.
    fn settle(&self, account: &Arc<Account>) {
        let mut ledger = self.lock();
        // Where memory is scarce, in no steps: what is taken is compared with what others need.
        let step = if self.is_exceeded() { 1 } else { STEP };
        account.take(&mut ledger, account.needed().next_multiple_of(step));
        let doomed = self.make_room(&mut ledger);
        drop(ledger);
        for account in doomed {
            if let Some(outbox) = account.outbox.upgrade() {
                outbox.close(CloseReason::Memory);
            }
        }
    }

    /// The accounts that give way. As long as there is not enough, there is at least one.
    fn make_room(&self, ledger: &mut Ledger<Arc<Account>>) -> Vec<Arc<Account>> {
        let mut doomed = Vec::new();
        let mut looks = 0;
        while self.is_exceeded() && doomed.len() < DOOMED {
            let largest = ledger.largest(LOOKS.saturating_sub(looks).max(1));
            looks += largest.len();
            // Some may have taken more than they need by now, and another origin may hold most.
            let mut has_changed = false;
            for (taken, account) in &largest {
                let needed = account.needed();
                if needed < *taken {
                    account.take(ledger, needed);
                    has_changed = true;
                }
            }
            if has_changed && looks < LOOKS {
                continue;
            }
            // After so many looks, the one that seems to be the largest is large enough.
            let Some((_, largest)) = ledger.largest(1).pop() else {
                break;
            };
            largest.close_in(ledger);
            doomed.push(largest);
        }
        doomed
    }
}

/// What one link holds.
#[derive(Debug)]
pub(super) struct Account {
    budget: Arc<Budget>,
    id: AccountId,
    claimant: Claimant,
    outbox: Weak<Outbox>,
    /// What has begun to come, what was taken to be written, and what waits for room elsewhere.
    reading: AtomicU64,
    /// What waits in the queue.
    queued: AtomicU64,
    /// What its dials take.
    dials: AtomicU64,
    /// What is in the ledger; changed under its lock only.
    taken: AtomicU64,
    is_closed: AtomicBool,
}

impl Account {
    /// The link's task holds so many bytes.
    pub(super) fn set_reading(self: &Arc<Self>, bytes: usize) {
        self.change(&self.reading, bytes);
        self.check();
    }

    /// So many bytes wait in the link's queue. If there are more of them, to be followed by a
    /// [`check`](Self::check), when no lock is held.
    pub(super) fn set_queued(&self, bytes: usize) {
        let more = self.change(&self.queued, bytes.next_multiple_of(QUEUE_STEP));
        if more != 0 {
            self.budget.queued.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// So many dials of the link are open. If it has given way, they are about to end, and nobody else is to
    /// give way for them.
    pub(super) fn set_dials(self: &Arc<Self>, dials: usize) {
        let ledger = self.budget.lock();
        if !self.is_closed.load(Ordering::Relaxed) {
            self.change(&self.dials, dials.saturating_mul(DIAL));
        }
        drop(ledger);
        self.check();
    }

    /// Sets a part of what it holds; gives by how much that has grown, modulo 2^64.
    fn change(&self, part: &AtomicU64, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        if part.load(Ordering::Relaxed) == bytes {
            return 0;
        }
        let more = bytes.wrapping_sub(part.swap(bytes, Ordering::Relaxed));
        self.budget.held.fetch_add(more, Ordering::Relaxed);
        more
    }

    fn hold_nothing(&self) {
        self.set_queued(0);
        self.change(&self.reading, 0);
        self.change(&self.dials, 0);
    }

    /// Takes more if it is needed, and has others give way if there is no more.
    pub(super) fn check(self: &Arc<Self>) {
        if self.needed() > self.taken.load(Ordering::Relaxed) || self.budget.is_exceeded() {
            self.budget.settle(self);
        }
    }

    /// Gives back what is not needed.
    pub(super) fn give_back(self: &Arc<Self>) {
        if self.needed() < self.taken.load(Ordering::Relaxed) {
            let mut ledger = self.budget.lock();
            self.take(&mut ledger, self.needed());
        }
    }

    /// The link is gone.
    pub(super) fn close(self: &Arc<Self>) {
        self.close_in(&mut self.budget.lock());
    }

    fn close_in(self: &Arc<Self>, ledger: &mut Ledger<Arc<Self>>) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.take(ledger, 0);
        self.hold_nothing();
    }

    fn needed(&self) -> u64 {
        if self.is_closed.load(Ordering::Relaxed) {
            return 0;
        }
        let parts = [&self.reading, &self.queued, &self.dials];
        parts.iter().map(|part| part.load(Ordering::Relaxed)).sum()
    }

    fn take(self: &Arc<Self>, ledger: &mut Ledger<Arc<Self>>, bytes: u64) {
        self.taken.store(bytes, Ordering::Relaxed);
        ledger.set(self.id, &self.claimant, bytes, self.clone());
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // A link that was closed by another may have held something once more.
        self.hold_nothing();
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
