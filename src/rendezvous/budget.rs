//! The memory budget of the whole process: the messages that links have begun to send, and the data that waits for
//! links.
//!
//! Each link has an account, and the memory of a link counts for its origin. Data that waits to be written counts for
//! the link that is to receive it, not for its senders: it is there because the receiver does not read. If it counted
//! for the senders, a peer could request data from others, not read it, and so have their links closed.
//!
//! An open dial counts for its dialer, with the memory for it in the registry and in the links at both ends.
//!
//! The total is a single number. The heaviest holders are looked up in a ledger. An account takes memory from the
//! ledger in steps. It gives memory back only at its link's next periodic check, or when memory is scarce. So while
//! data flows, nobody takes the ledger's lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    origin::{Claimant, Origin},
    shares::Shares,
};

/// The step in which accounts take memory, in bytes.
const STEP: u64 = 64 * 1024;
/// The step in which queued bytes are counted, in bytes, so that not every small item changes the count.
const QUEUE_STEP: usize = 4 * 1024;
/// The memory that an open dial takes, in bytes: its entries in the registry, and the routes of its streams that both
/// links remember.
pub(super) const DIAL: usize = 2 * 1024;
/// The maximum number of accounts that are examined when one needs more memory, so that the ledger is not locked for
/// long.
const LOOKS: usize = 256;
/// The maximum number of accounts that give way when one needs more memory, for the same reason. The next request
/// continues.
const DOOMED: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct AccountId(u64);

/// The memory that each account has taken. No IO.
#[derive(Debug)]
struct Ledger<A> {
    shares: Shares,
    accounts: BTreeMap<AccountId, (u64, A)>,
    /// The accounts of each origin, ordered by what they have taken.
    order: BTreeSet<(Origin, u64, AccountId)>,
}

impl<A: Clone> Ledger<A> {
    fn new() -> Self {
        Self {
            // The shares themselves have no limit; [`Budget`] checks it.
            shares: Shares::new(u64::MAX),
            accounts: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Sets the number of bytes that an account holds.
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

    /// Returns the accounts of the origin that has taken the most for its weight, the largest first, at most `count`.
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

/// The memory that all links together may hold.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    held: AtomicU64,
    /// The part of `held` that waits in queues.
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
        // No code panics halfway through a change of the ledger.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of bytes held.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Returns how many of the held bytes wait in queues.
    pub(super) fn queued(&self) -> usize {
        usize::try_from(self.queued.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    fn is_exceeded(&self) -> bool {
        self.held() > self.limit
    }

    /// Creates an account for a new link. The budget closes `link` if there is not enough memory.
    pub(super) fn account(
        self: &Arc<Self>,
        claimant: Claimant,
        link: Weak<dyn Closable>,
    ) -> Arc<Account> {
        Arc::new(Account {
            budget: self.clone(),
            id: AccountId(self.next.fetch_add(1, Ordering::Relaxed)),
            claimant,
            link,
            reading: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            dials: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Takes what an account needs, and closes links until there is enough memory for all.
    fn settle(&self, account: &Arc<Account>) {
        let mut ledger = self.lock();
        // When memory is scarce, the exact amount is taken, because it is compared with what others need.
        let step = if self.is_exceeded() { 1 } else { STEP };
        account.take(&mut ledger, account.needed().next_multiple_of(step));
        let doomed = self.make_room(&mut ledger);
        drop(ledger);
        for account in doomed {
            if let Some(link) = account.link.upgrade() {
                link.close_for_memory();
            }
        }
    }

    /// Returns the accounts that give way. If the budget is exceeded, there is at least one.
    fn make_room(&self, ledger: &mut Ledger<Arc<Account>>) -> Vec<Arc<Account>> {
        let mut doomed = Vec::new();
        let mut looks = 0;
        while self.is_exceeded() && doomed.len() < DOOMED {
            let largest = ledger.largest(LOOKS.saturating_sub(looks).max(1));
            looks += largest.len();
            // Some accounts may have taken more than they need now, and then another origin may hold the most.
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
            // After that many looks, the account that seems to be the largest is good enough.
            let Some((_, largest)) = ledger.largest(1).pop() else {
                break;
            };
            largest.close_in(ledger);
            doomed.push(largest);
        }
        doomed
    }
}

/// A link that can be closed.
pub(super) trait Closable: fmt::Debug + Send + Sync {
    /// Closes the link because there is not enough memory.
    fn close_for_memory(&self);
}

/// The memory that one link holds.
#[derive(Debug)]
pub(super) struct Account {
    budget: Arc<Budget>,
    id: AccountId,
    claimant: Claimant,
    /// The link, to be closed when there is not enough memory.
    link: Weak<dyn Closable>,
    /// The bytes of messages that have begun to arrive, of messages taken from the queue to be written, and of items
    /// that wait for room elsewhere.
    reading: AtomicU64,
    /// The bytes that wait in the queue.
    queued: AtomicU64,
    /// The bytes that its dials take.
    dials: AtomicU64,
    /// The bytes that the ledger has for the account. Changed only under the ledger's lock.
    taken: AtomicU64,
    is_closed: AtomicBool,
}

impl Account {
    /// Sets the number of bytes that the link's task holds.
    pub(super) fn set_reading(self: &Arc<Self>, bytes: usize) {
        self.change(&self.reading, bytes);
        self.check();
    }

    /// Sets the number of bytes that wait in the link's queue. If the number has grown, call [`check`](Self::check)
    /// afterwards, with no lock held.
    pub(super) fn set_queued(&self, bytes: usize) {
        let more = self.change(&self.queued, bytes.next_multiple_of(QUEUE_STEP));
        if more != 0 {
            self.budget.queued.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Sets the number of open dials from the link. Has no effect if the link has given way: its dials are about to
    /// end, and no other link is to give way for them.
    pub(super) fn set_dials(self: &Arc<Self>, dials: usize) {
        let ledger = self.budget.lock();
        if !self.is_closed.load(Ordering::Relaxed) {
            self.change(&self.dials, dials.saturating_mul(DIAL));
        }
        drop(ledger);
        self.check();
    }

    /// Sets one part of the memory. Returns by how much it has grown, modulo 2^64.
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

    /// Takes more memory if the account needs it, and makes others give way if there is no more.
    pub(super) fn check(self: &Arc<Self>) {
        if self.needed() > self.taken.load(Ordering::Relaxed) || self.budget.is_exceeded() {
            self.budget.settle(self);
        }
    }

    /// Gives back what the account does not need.
    pub(super) fn give_back(self: &Arc<Self>) {
        if self.needed() < self.taken.load(Ordering::Relaxed) {
            let mut ledger = self.budget.lock();
            self.take(&mut ledger, self.needed());
        }
    }

    /// Closes the account, because the link is gone.
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
        // A link that was closed by another one may have held something again since then.
        self.hold_nothing();
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
