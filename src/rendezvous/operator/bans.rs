//! The banned peers, and what a ban means for joins.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use libp2p_identity::PeerId;

use super::keeper::{Keep, Keeper};
use crate::rendezvous::{
    access::{Access, AccessCount, Join, Judgement, Verdict},
    ids,
};

/// The maximum number of peers that can be banned on the page. A deny list takes more.
const MOST: usize = 10_000;
/// How long a client that makes a change waits to learn whether the change was written.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a peer cannot be banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} peers are already banned: put further peers on a deny list")]
pub(in crate::rendezvous) struct TooMany;

/// How long a change holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rendezvous) enum Holds {
    /// The change was written: it holds after a restart.
    AfterRestart,
    /// The change is still being written.
    NotYetKept,
    /// Bans are not written anywhere: the change holds until the process ends.
    UntilTheEnd,
    /// The change could not be written, for this reason.
    NotKept(String),
}

/// The banned peers at one moment.
#[derive(Debug, Clone, Default)]
struct Banned {
    /// The ids that were given, by the id that stands for all ids of their key.
    peers: BTreeMap<PeerId, PeerId>,
    /// The given ids as text, sorted for the search by prefix.
    texts: BTreeSet<Arc<str>>,
}

/// Returns the id that stands for all ids of a key.
fn key(peer: &PeerId) -> PeerId {
    ids::hashed_form(peer).unwrap_or(*peer)
}

impl Banned {
    /// Adds a peer. Does nothing if the peer is banned already, under any of its ids.
    fn insert(&mut self, peer: PeerId) {
        if let Entry::Vacant(place) = self.peers.entry(key(&peer)) {
            place.insert(peer);
            self.texts.insert(peer.to_base58().into());
        }
    }

    /// Removes a peer. Returns whether it was banned, under any of its ids.
    fn remove(&mut self, peer: &PeerId) -> bool {
        let given = self.peers.remove(&key(peer));
        if let Some(given) = &given {
            self.texts.remove(given.to_base58().as_str());
        }
        given.is_some()
    }

    fn given(&self) -> Vec<PeerId> {
        let mut given: Vec<_> = self.peers.values().copied().collect();
        given.sort_unstable();
        given
    }
}

/// A change that is in effect already. It may or may not get written.
#[derive(Debug)]
#[must_use]
pub(in crate::rendezvous) struct Change {
    keeping: Option<(Keeper, u64)>,
}

impl Change {
    /// Returns how long the change holds, as far as that is known after a short wait.
    pub(in crate::rendezvous) async fn holds(self) -> Holds {
        let Some((keeper, number)) = self.keeping else {
            return Holds::UntilTheEnd;
        };
        match tokio::time::timeout(PATIENCE, keeper.written(number)).await {
            Ok(Ok(())) => Holds::AfterRestart,
            Ok(Err(error)) => Holds::NotKept(error),
            Err(_) => Holds::NotYetKept,
        }
    }
}

/// The bans, and the keeper that writes them.
pub(in crate::rendezvous) struct Bans {
    /// Replaced as a whole, so that a join does not wait while a change is made.
    banned: RwLock<Arc<Banned>>,
    /// Held while a change is made. So the last change is also the one that is written last.
    changing: Mutex<()>,
    keeper: Option<Keeper>,
}

impl fmt::Debug for Bans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bans")
            .field("peers", &self.len())
            .field("is_kept", &self.is_kept())
            .finish_non_exhaustive()
    }
}

impl Bans {
    pub(in crate::rendezvous) fn new(
        peers: impl IntoIterator<Item = PeerId>,
        keep: Option<Box<Keep>>,
    ) -> Self {
        let mut banned = Banned::default();
        peers.into_iter().for_each(|peer| banned.insert(peer));
        Self {
            banned: RwLock::new(Arc::new(banned)),
            changing: Mutex::default(),
            keeper: keep.map(Keeper::new),
        }
    }

    /// Returns whether bans outlive the process.
    pub(in crate::rendezvous) fn is_kept(&self) -> bool {
        self.keeper.is_some()
    }

    /// Returns whether the last change could not be written.
    pub(in crate::rendezvous) fn is_behind(&self) -> bool {
        self.keeper.as_ref().is_some_and(Keeper::has_failed)
    }

    /// Writes the last change again if that has failed.
    pub(in crate::rendezvous) fn try_again(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.try_again();
        }
    }

    /// Waits until no change is being written. Cancel safe.
    pub(in crate::rendezvous) async fn rested(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.rested().await;
        }
    }

    fn banned(&self) -> Arc<Banned> {
        let banned = self.banned.read();
        banned.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::rendezvous) fn len(&self) -> usize {
        self.banned().peers.len()
    }

    /// Returns up to `max` given ids that begin with this prefix.
    pub(in crate::rendezvous) fn some(&self, prefix: &str, max: usize) -> Vec<String> {
        let banned = self.banned();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let behind = banned.texts.range::<str, _>(from);
        let found = behind.take_while(|text| text.starts_with(prefix));
        found.take(max).map(|text| text.to_string()).collect()
    }

    fn contain(&self, join: &Join) -> bool {
        let banned = self.banned();
        // The ids of the join include the one that stands for all of them.
        let is_banned = |peer| banned.peers.contains_key(&peer);
        !banned.peers.is_empty() && join.peer_ids().any(is_banned)
    }

    /// Bans a peer. The ban is in effect when this returns.
    pub(in crate::rendezvous) fn add(&self, peer: PeerId) -> Result<Change, TooMany> {
        let add = |banned: &mut Banned| {
            let is_known = banned.peers.contains_key(&key(&peer));
            if banned.peers.len() >= MOST && !is_known {
                return Err(TooMany);
            }
            banned.insert(peer);
            Ok(())
        };
        self.change(add)
    }

    /// Unbans a peer, by any of its ids; `None` if it was not banned.
    pub(in crate::rendezvous) fn remove(&self, peer: &PeerId) -> Option<Change> {
        self.change(|banned| banned.remove(peer).then_some(()).ok_or(()))
            .ok()
    }

    fn change<E>(&self, make: impl FnOnce(&mut Banned) -> Result<(), E>) -> Result<Change, E> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut banned = Banned::clone(&self.banned());
        make(&mut banned)?;
        let banned = Arc::new(banned);
        *self.banned.write().unwrap_or_else(PoisonError::into_inner) = banned.clone();
        let keeper = self.keeper.clone();
        let keeping = keeper.map(|keeper| {
            let number = keeper.write(banned.given());
            (keeper, number)
        });
        Ok(Change { keeping })
    }
}

/// Refuses banned peers. For other peers it asks the application, if the application decides about joins.
#[derive(Debug)]
pub(in crate::rendezvous) struct Banning {
    bans: Arc<Bans>,
    others: Option<Arc<dyn Access>>,
}

impl Banning {
    pub(in crate::rendezvous) fn new(bans: Arc<Bans>, others: Option<Arc<dyn Access>>) -> Self {
        Self { bans, others }
    }
}

impl Access for Banning {
    fn judge(&self, join: &Join) -> Judgement {
        match &self.others {
            _ if self.bans.contain(join) => Verdict::refuse("you are banned").into(),
            Some(others) => others.judge(join),
            None => Verdict::allow().into(),
        }
    }

    fn still_allows(&self, join: &Join) -> bool {
        let others = self.others.as_ref();
        !self.bans.contain(join) && others.is_none_or(|others| others.still_allows(join))
    }

    fn counts(&self) -> Vec<AccessCount> {
        let others = self.others.as_ref();
        others.map(|others| others.counts()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::*;

    const HOME: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn peer() -> PeerId {
        Keypair::generate_ed25519().public().to_peer_id()
    }

    fn is_let_in(access: &Banning, join: &Join) -> bool {
        let judged = access.judge(join);
        let judged = matches!(judged, Judgement::Now(verdict) if verdict.is_allowed());
        assert_eq!(judged, access.still_allows(join));
        judged
    }

    /// Allows one peer only.
    #[derive(Debug)]
    struct Only(PeerId);

    impl Access for Only {
        fn judge(&self, join: &Join) -> Judgement {
            match self.still_allows(join) {
                true => Verdict::allow().into(),
                false => Verdict::refuse("a stranger").into(),
            }
        }

        fn still_allows(&self, join: &Join) -> bool {
            join.peer() == Some(self.0)
        }
    }

    fn bans() -> Bans {
        Bans::new([], None)
    }

    async fn holds(changed: Option<Change>) -> Option<Holds> {
        match changed {
            Some(change) => Some(change.holds().await),
            None => None,
        }
    }

    #[tokio::test]
    async fn whoever_is_banned_stays_out_by_each_of_its_ids_and_the_others_are_asked_about() {
        let (known, stranger) = (Join::new(peer(), HOME), Join::new(peer(), HOME));
        let bans = Arc::new(bans());
        let open = Banning::new(bans.clone(), None);
        let only = Only(known.peer().expect("an id"));
        let closed = Banning::new(bans.clone(), Some(Arc::new(only)));
        let ids: Vec<_> = known.peer_ids().collect();
        assert_eq!(ids.len(), 2);
        for id in ids {
            assert!(is_let_in(&open, &known) && is_let_in(&closed, &known));
            assert!(is_let_in(&open, &stranger) && !is_let_in(&closed, &stranger));
            assert_eq!(holds(bans.add(id).ok()).await, Some(Holds::UntilTheEnd));
            assert!(!is_let_in(&open, &known) && !is_let_in(&closed, &known));
            assert_eq!(holds(bans.remove(&id)).await, Some(Holds::UntilTheEnd));
            assert!(bans.remove(&id).is_none());
        }
    }

    #[test]
    fn two_ids_of_one_key_are_one_ban_which_is_shown_as_it_was_given() {
        let id = peer();
        let old = ids::hashed_form(&id).expect("another one");
        for (given, other) in [(id, old), (old, id)] {
            let bans = bans();
            for peer in [given, other, given] {
                drop(bans.add(peer).expect("there is room"));
            }
            assert_eq!(bans.len(), 1);
            assert_eq!(bans.some("", 9), [given.to_base58()]);
            assert_eq!(bans.banned().given(), [given]);
            let join = Join::new(id, HOME);
            assert!(bans.contain(&join));
            assert!(bans.remove(&other).is_some());
            assert!(!bans.contain(&join) && bans.len() == 0);
            assert!(bans.some("", 9).is_empty());
            assert!(bans.remove(&given).is_none());
        }
        // A file may contain both ids.
        let bans = Bans::new([old, id], None);
        assert_eq!(bans.some("", 9), [old.to_base58()]);
    }

    #[tokio::test]
    async fn what_cannot_be_kept_holds_all_the_same_and_is_told() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = {
            let kept = kept.clone();
            move |peers: &[PeerId]| {
                if peers.len() == 2 {
                    return Err(std::io::Error::other("no room"));
                }
                *kept.lock().expect("no panic") = peers.to_vec();
                Ok(())
            }
        };
        let bans = Bans::new([], Some(Box::new(keep)));
        let (one, other) = (peer(), peer());
        assert_eq!(holds(bans.add(one).ok()).await, Some(Holds::AfterRestart));
        let failed = Holds::NotKept("no room".to_owned());
        assert_eq!(holds(bans.add(other).ok()).await, Some(failed));
        assert!(bans.is_behind() && bans.len() == 2);
        assert_eq!(*kept.lock().expect("no panic"), [one]);
        bans.try_again();
        bans.rested().await;
        assert!(bans.is_behind());
        assert_eq!(holds(bans.remove(&one)).await, Some(Holds::AfterRestart));
        assert!(!bans.is_behind());
        assert_eq!(*kept.lock().expect("no panic"), [other]);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_up_no_ban() {
        let keep = |_: &[PeerId]| {
            loop {
                std::thread::park();
            }
        };
        let bans = Bans::new([], Some(Box::new(keep)));
        let peers = [peer(), peer(), peer()];
        let changes = peers.map(|peer| bans.add(peer).expect("there is room"));
        assert_eq!(bans.len(), 3);
        for peer in peers {
            assert!(bans.contain(&Join::new(peer, HOME)));
        }
        assert!(bans.remove(&peers[0]).is_some());
        assert!(!bans.contain(&Join::new(peers[0], HOME)));
        tokio::time::pause();
        for change in changes {
            assert_eq!(change.holds().await, Holds::NotYetKept);
        }
        assert!(!bans.is_behind(), "it has not failed");
    }

    #[tokio::test]
    async fn so_many_may_be_banned_and_some_are_shown() {
        let banned: BTreeSet<_> = (0..MOST).map(|_| PeerId::random()).collect();
        let first = *banned.first().expect("many");
        let bans = Bans::new(banned, None);
        assert_eq!(bans.add(peer()).err(), Some(TooMany));
        assert_eq!(holds(bans.add(first).ok()).await, Some(Holds::UntilTheEnd));
        assert_eq!((bans.some("", 100).len(), bans.len()), (100, MOST));
        let text = first.to_base58();
        assert_eq!(bans.some(&text, 100), [text]);
        assert!(bans.some("no id begins so", 100).is_empty());
    }
}
