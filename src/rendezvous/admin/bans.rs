//! Who is banned, and what that means for joins.

use std::{
    collections::BTreeSet,
    fmt, io,
    ops::Bound,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use libp2p_identity::PeerId;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::spawn_blocking,
};

use crate::{
    rendezvous::access::{Access, AccessCount, Join, Judgement, Verdict},
    words::Words,
};

/// How many peers may be banned on the page; a deny list takes more.
const MOST: usize = 10_000;

/// Keeps all who are banned for the next start.
type Keep = dyn Fn(&[PeerId]) -> io::Result<()> + Send + Sync;

/// Why a peer cannot be banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} peers are banned already: put further ones on a deny list")]
pub(super) struct TooMany;

/// For how long a change holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holds {
    /// It is kept.
    AfterRestart,
    /// Nobody keeps it.
    UntilTheEnd,
    /// It could not be kept, for this reason.
    NotKept(String),
}

/// Those who are banned at one moment.
#[derive(Debug, Clone, Default)]
struct Banned {
    peers: BTreeSet<PeerId>,
    /// The same as text, to be looked through in order.
    texts: BTreeSet<String>,
}

/// Who is banned.
pub(super) struct Bans {
    /// It is replaced as a whole, so that nobody waits for a change to be made.
    banned: RwLock<Arc<Banned>>,
    keep: Option<Arc<Keep>>,
    /// One change at a time, so that the last is the one that is kept.
    changing: Arc<Mutex<()>>,
    is_behind: Arc<AtomicBool>,
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
    pub(super) fn new(peers: BTreeSet<PeerId>, keep: Option<Arc<Keep>>) -> Self {
        let texts = peers.iter().map(|peer| peer.to_base58()).collect();
        Self {
            banned: RwLock::new(Arc::new(Banned { peers, texts })),
            keep,
            changing: Arc::default(),
            is_behind: Arc::default(),
        }
    }

    /// Whether bans outlive the process.
    pub(super) fn is_kept(&self) -> bool {
        self.keep.is_some()
    }

    /// Whether the last change could not be kept.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    fn banned(&self) -> Arc<Banned> {
        let banned = self.banned.read();
        banned.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn len(&self) -> usize {
        self.banned().peers.len()
    }

    /// Up to so many ids that begin with this.
    pub(super) fn some(&self, prefix: &str, max: usize) -> Vec<String> {
        let banned = self.banned();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let behind = banned.texts.range::<str, _>(from);
        let found = behind.take_while(|text| text.starts_with(prefix));
        found.take(max).cloned().collect()
    }

    fn contain(&self, join: &Join) -> bool {
        let banned = self.banned();
        let is_banned = |peer| banned.peers.contains(&peer);
        !banned.peers.is_empty() && join.peer_ids().any(is_banned)
    }

    /// Bans a peer.
    pub(super) async fn add(&self, peer: PeerId) -> Result<Holds, TooMany> {
        let changing = self.changing.clone().lock_owned().await;
        let mut banned = Banned::clone(&self.banned());
        if banned.peers.len() >= MOST && !banned.peers.contains(&peer) {
            return Err(TooMany);
        }
        banned.peers.insert(peer);
        banned.texts.insert(peer.to_base58());
        Ok(self.replace(banned, changing).await)
    }

    /// Bans a peer no more; `None` if it was not banned.
    pub(super) async fn remove(&self, peer: &PeerId) -> Option<Holds> {
        let changing = self.changing.clone().lock_owned().await;
        let mut banned = Banned::clone(&self.banned());
        if !banned.peers.remove(peer) {
            return None;
        }
        banned.texts.remove(&peer.to_base58());
        Some(self.replace(banned, changing).await)
    }

    /// Cancel safe: what has been begun is kept all the same, before the next change.
    async fn replace(&self, banned: Banned, changing: OwnedMutexGuard<()>) -> Holds {
        let banned = Arc::new(banned);
        *self.banned.write().unwrap_or_else(PoisonError::into_inner) = banned.clone();
        let Some(keep) = self.keep.clone() else {
            return Holds::UntilTheEnd;
        };
        let is_behind = self.is_behind.clone();
        let keeping = spawn_blocking(move || {
            is_behind.store(true, Ordering::Relaxed);
            let peers: Vec<_> = banned.peers.iter().copied().collect();
            keep(&peers)?;
            is_behind.store(false, Ordering::Relaxed);
            drop(changing);
            Ok(())
        });
        let kept = keeping.await;
        match kept.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => Holds::AfterRestart,
            Err(error) => {
                let error = Words(error).to_string();
                tracing::error!(error, "the bans could not be kept");
                Holds::NotKept(error)
            }
        }
    }
}

/// Keeps out who is banned, and leaves the others to whom the application has asked otherwise.
#[derive(Debug)]
pub(in crate::rendezvous) struct Banning {
    bans: Arc<Bans>,
    others: Option<Arc<dyn Access>>,
}

impl Banning {
    pub(super) fn new(bans: Arc<Bans>, others: Option<Arc<dyn Access>>) -> Self {
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

    /// Knows one peer.
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

    #[tokio::test]
    async fn whoever_is_banned_stays_out_by_each_of_its_ids_and_the_others_are_asked_about() {
        let (known, stranger) = (Join::new(peer(), HOME), Join::new(peer(), HOME));
        let bans = Arc::new(Bans::new(BTreeSet::new(), None));
        let open = Banning::new(bans.clone(), None);
        let only = Only(known.peer().expect("an id"));
        let closed = Banning::new(bans.clone(), Some(Arc::new(only)));
        let ids: Vec<_> = known.peer_ids().collect();
        assert_eq!(ids.len(), 2);
        for id in ids {
            assert!(is_let_in(&open, &known) && is_let_in(&closed, &known));
            assert!(is_let_in(&open, &stranger) && !is_let_in(&closed, &stranger));
            assert_eq!(bans.add(id).await, Ok(Holds::UntilTheEnd));
            assert!(!is_let_in(&open, &known) && !is_let_in(&closed, &known));
            assert_eq!(bans.remove(&id).await, Some(Holds::UntilTheEnd));
            assert_eq!(bans.remove(&id).await, None);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_kept_holds_all_the_same_and_is_told() {
        let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
        let keep = {
            let kept = kept.clone();
            move |peers: &[PeerId]| {
                if peers.len() == 2 {
                    return Err(io::Error::other("no room"));
                }
                *kept.lock().expect("no panic") = peers.to_vec();
                Ok(())
            }
        };
        let bans = Bans::new(BTreeSet::new(), Some(Arc::new(keep)));
        let (one, other) = (peer(), peer());
        assert_eq!(bans.add(one).await, Ok(Holds::AfterRestart));
        let failed = Holds::NotKept("no room".to_owned());
        assert_eq!(bans.add(other).await, Ok(failed));
        assert!(bans.is_behind() && bans.len() == 2);
        assert_eq!(*kept.lock().expect("no panic"), [one]);
        assert_eq!(bans.remove(&one).await, Some(Holds::AfterRestart));
        assert!(!bans.is_behind());
        assert_eq!(*kept.lock().expect("no panic"), [other]);
    }

    #[tokio::test]
    async fn so_many_may_be_banned_and_some_are_shown() {
        let banned: BTreeSet<_> = (0..MOST).map(|_| PeerId::random()).collect();
        let first = *banned.first().expect("many");
        let bans = Bans::new(banned, None);
        assert_eq!(bans.add(peer()).await, Err(TooMany));
        assert_eq!(bans.add(first).await, Ok(Holds::UntilTheEnd));
        assert_eq!((bans.some("", 100).len(), bans.len()), (100, MOST));
        let text = first.to_base58();
        assert_eq!(bans.some(&text, 100), [text]);
        assert!(bans.some("no id begins so", 100).is_empty());
    }
}
