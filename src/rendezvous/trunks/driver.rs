//! Runs one node of a cluster: watches the directory, writes into it, and keeps trunks to the other nodes.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use super::{
    incoming::Incoming,
    outgoing::{Trunk, WayError},
};
use crate::{
    log_limit::LogLimit,
    protocol::refusal::Refusal,
    rendezvous::{
        cluster::{
            Book, Change, Cluster, ClusterStatus, Directory, DirectoryError, Event, Key, LEASE,
            NodeId, NodeNumber, NodeRecord, PeerRecord, RecordError, Run, Slot, TrunkCounts, Write,
            millis,
        },
        desk::{Desk, OpenWay},
        link::{self, Partner, Upgraded},
        supervised::contained,
        tenants::Tenants,
    },
    runtime::now,
    words::Words,
};

/// The interval at which the lease is written. Each lease has to come back through the watch. That is how a watch that
/// has gone silent is noticed.
const RENEWAL: Duration = Duration::from_secs(5);
/// How long a written lease may take to come back.
const ECHO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one operation of the directory may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of writes in progress.
const WRITES: usize = 128;
/// The pause before the directory is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// The interval at which a node that ends checks whether everything is written.
const LOOK: Duration = Duration::from_millis(20);
/// The number of changes that are handled before other tasks may run.
const AT_ONCE: usize = 16;

/// A node of a cluster.
#[derive(Debug)]
pub(super) struct Driver {
    cluster: Cluster,
    own: Run,
    trunk_address: String,
    tenants: Arc<Tenants>,
    desk: Arc<Desk>,
    book: Mutex<Book>,
    /// Held while events of the book are passed on, so that they stay in order.
    passing: tokio::sync::Mutex<()>,
    /// Notified when there may be something to write.
    unwritten: Notify,
    /// Notified when the book's deadline may have become earlier.
    earlier: Notify,
    trunks: Mutex<BTreeMap<NodeNumber, (Trunk, AbortHandle)>>,
    /// The counters of each node that there was, for all its runs together.
    counts: Mutex<BTreeMap<NodeId, Arc<TrunkCounts>>>,
    tasks: Mutex<JoinSet<()>>,
    /// The number of this node's last lease that has come back.
    echoed: watch::Sender<u64>,
    /// Notified when the watch has to begin anew.
    silent: Notify,
    /// Whether the watch has reported all that there was, and goes on.
    is_watched: AtomicBool,
    /// The number of changes that the watch has reported.
    heard: AtomicU64,
    /// Whether a record was from the future. Then all records are read again later.
    has_future: AtomicBool,
    /// Whether this node is no longer in the directory: it is about to end, or another one has its name.
    is_leaving: AtomicBool,
    complaints: LogLimit,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    /// Creates a node, with a listener for the trunks of others.
    pub(super) fn new(
        tenants: Arc<Tenants>,
        cluster: Cluster,
        desk: Arc<Desk>,
        listener: &TcpListener,
    ) -> io::Result<Self> {
        let own = Run {
            node: cluster.id().clone(),
            epoch: millis(SystemTime::now()),
        };
        let trunk_address = match cluster.advertised() {
            Some(address) => address.to_owned(),
            None => listener.local_addr()?.to_string(),
        };
        Ok(Self {
            book: Mutex::new(Book::new(own.clone())),
            own,
            trunk_address,
            tenants,
            desk,
            cluster,
            passing: tokio::sync::Mutex::default(),
            unwritten: Notify::new(),
            earlier: Notify::new(),
            trunks: Mutex::default(),
            counts: Mutex::default(),
            tasks: Mutex::default(),
            echoed: watch::Sender::new(0),
            silent: Notify::new(),
            is_watched: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            has_future: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            complaints: LogLimit::default(),
        })
    }

    /// Runs the node until the future is dropped.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) {
        let incoming = Incoming::new(self.tenants.clone(), self.cluster.tls().clone());
        tracing::info!(node = %self.own.node, trunks = %Words(&self.trunk_address), "this server is a node of a cluster");
        tokio::join!(
            incoming.run(listener),
            self.watch(),
            self.renew(),
            self.write(),
            self.serve_desk(),
            self.run_timer(),
        );
    }

    fn directory(&self) -> &dyn Directory {
        self.cluster.directory()
    }

    fn complain(&self, what: &'static str, error: &DirectoryError) {
        if let Some(left_out) = self.complaints.admit(now()) {
            let error = Words(report(error));
            tracing::warn!(%error, left_out, "{what}");
        }
    }

    /// Changes the book, and passes on the events that follow.
    async fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut Book) -> R) -> R {
        let result = change(&mut lock(&self.book));
        self.pass_on().await;
        result
    }

    async fn pass_on(self: &Arc<Self>) {
        let passing = self.passing.lock().await;
        loop {
            let events: Vec<Event> = {
                let mut book = lock(&self.book);
                std::iter::from_fn(|| book.poll_event())
                    .take(AT_ONCE)
                    .collect()
            };
            if events.is_empty() {
                break;
            }
            for event in events {
                self.handle(event);
            }
            tokio::task::yield_now().await;
        }
        let (status, is_superseded) = {
            let book = lock(&self.book);
            (book.status(), book.is_superseded())
        };
        let status = ClusterStatus {
            is_watched: self.is_watched.load(Ordering::Relaxed),
            ..status
        };
        self.desk.set_status(status);
        if is_superseded && !self.is_leaving.swap(true, Ordering::Relaxed) {
            tracing::error!(
                node = %self.own.node,
                "another server was started with this node's name, so this server is no longer a node of the cluster"
            );
        }
        drop(passing);
        self.unwritten.notify_one();
        self.earlier.notify_one();
    }

    /// Returns our trunks with their counters, sorted by the names of the other nodes.
    fn counted_trunks(&self) -> Vec<(NodeId, Arc<TrunkCounts>)> {
        let trunks = lock(&self.trunks);
        let each = trunks.values();
        let each = each.map(|(trunk, _)| (trunk.node().clone(), trunk.counts().clone()));
        let mut all: Vec<_> = each.collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Takes the node out of the directory, so that no new node opens a trunk to it. The records of its peers stay
    /// until the peers leave, and nodes that already have a trunk still reach them.
    pub(super) async fn leave(&self) {
        if self.is_leaving.swap(true, Ordering::Relaxed) {
            return;
        }
        let key = Key::Node(self.own.clone()).to_string();
        let deleted = tokio::time::timeout(ANSWER_TIMEOUT, self.directory().delete(key)).await;
        if let Err(error) = deleted.map_err(late).and_then(|deleted| deleted) {
            self.complain("the node cannot be removed from the directory", &error);
        }
    }

    /// Returns when everything that has happened here is written into the directory. Cancel safe.
    pub(super) async fn rested(&self) {
        while !self.desk.is_told() || lock(&self.book).status().unwritten > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn handle(self: &Arc<Self>, event: Event) {
        match &event {
            Event::Found { tenant, .. } | Event::Lost { tenant, .. } => {
                // Another node may have tenants that this node does not have.
                if let Some(hub) = self.tenants.with_name(tenant.as_deref()) {
                    hub.handle_cluster(event);
                }
            }
            Event::Reach { node, id, address } => self.keep_trunk(*node, id, address.clone()),
            Event::Gone { node } => {
                let gone = lock(&self.trunks).remove(node);
                if let Some((_, keeper)) = gone {
                    keeper.abort();
                    // The keeper may just have opened its trunk, and cannot say any more that it is cut.
                    lock(&self.book).handle_trunk(*node, false);
                    self.desk.set_trunks(self.counted_trunks());
                }
            }
        }
    }

    /// Watches the directory, and begins anew whenever the watch ends.
    async fn watch(self: &Arc<Self>) {
        loop {
            let watched = tokio::select! {
                watched = self.watch_once() => watched,
                () = self.silent.notified() => Err(DirectoryError::Unusable("it has gone silent".to_owned())),
            };
            self.is_watched.store(false, Ordering::Relaxed);
            self.change(Book::abort_list).await;
            match watched {
                Ok(()) => {}
                Err(error) => self.complain("the directory cannot be watched", &error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn watch_once(self: &Arc<Self>) -> Result<(), DirectoryError> {
        let watch = tokio::time::timeout(ANSWER_TIMEOUT, self.directory().watch()).await;
        let mut changes = watch.map_err(late)??;
        lock(&self.book).begin_list();
        let mut since_pause = 0;
        while let Some(change) = changes.next().await {
            self.heard.fetch_add(1, Ordering::Relaxed);
            self.take(change?).await;
            since_pause += 1;
            if since_pause >= AT_ONCE {
                since_pause = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn take(self: &Arc<Self>, change: Change) {
        match change {
            Change::Current => {
                self.is_watched.store(true, Ordering::Relaxed);
                self.desk.set_current();
                self.change(|book| book.end_list(now())).await;
            }
            Change::Deleted { key } => {
                if let Some(key) = Key::parse(&key) {
                    self.change(|book| book.handle_deleted(&key)).await;
                }
            }
            Change::Put { key, value } => match Key::parse(&key) {
                Some(Key::Node(run)) if run == self.own => {
                    if let Ok(record) = NodeRecord::decode(&value) {
                        self.desk.set_current();
                        lock(&self.book).handle_echo(now());
                        self.echoed.send_replace(record.number);
                    }
                }
                Some(key) => {
                    if let Err(error) = self.take_record(&key, &value).await {
                        self.desk.count_bad_record();
                        if let Some(left_out) = self.complaints.admit(now()) {
                            let error = Words(error);
                            tracing::warn!(%key, %error, left_out, "a record of another node cannot be used");
                        }
                    }
                }
                None => {}
            },
        }
    }

    async fn take_record(self: &Arc<Self>, key: &Key, value: &[u8]) -> Result<(), RecordError> {
        match key {
            Key::Node(run) => {
                let record = NodeRecord::decode(value)?;
                self.change(|book| book.handle_node(run, record, now()))
                    .await;
                Ok(())
            }
            Key::Peer(run, slot) => {
                let record = PeerRecord::decode(value)?;
                if record.slot() != *slot {
                    return Err(RecordError::OtherKey);
                }
                if lock(&self.book).knows(run, *slot, &record) {
                    self.unwritten.notify_one();
                    return Ok(());
                }
                if !lock(&self.book).has_room(run, *slot) {
                    return Err(RecordError::TooMany);
                }
                // To verify a large RSA key takes a while.
                let (node, clock) = (run.node.clone(), self.desk.clock().clone());
                let verifying = tokio::task::spawn_blocking(move || {
                    let verified = record.verify(&node, &clock, SystemTime::now());
                    verified.map(|(stamp, _)| (record, stamp))
                });
                // This fails if the task has panicked, or if the runtime ends.
                let verified = verifying.await.map_err(|_| RecordError::Signature)?;
                if verified == Err(RecordError::Future) {
                    self.has_future.store(true, Ordering::Relaxed);
                }
                let (record, stamp) = verified?;
                self.change(|book| book.handle_peer(run, *slot, &record, stamp))
                    .await;
                Ok(())
            }
        }
    }

    /// Opens a trunk to a node whose address is new, and keeps it open.
    fn keep_trunk(self: &Arc<Self>, number: NodeNumber, id: &NodeId, address: String) {
        let counts = lock(&self.counts).entry(id.clone()).or_default().clone();
        let (trunk, keeper) = Trunk::new(
            self.own.node.clone(),
            id.clone(),
            address,
            self.cluster.tls().clone(),
            counts,
        );
        // The task belongs to the driver, so it must not keep the driver alive.
        let driver = Arc::downgrade(self);
        let changed = move |is_open| {
            let driver = driver.upgrade();
            let changed = async move {
                if let Some(driver) = driver {
                    driver
                        .change(|book| book.handle_trunk(number, is_open))
                        .await;
                }
            };
            // A task of its own, because what follows may end the keeper. The task cannot panic, or the runtime ends.
            tokio::spawn(changed).map(|_| ()).boxed()
        };
        // If there was a trunk before, it went to another address. The events that follow are passed on after this one.
        lock(&self.book).handle_trunk(number, false);
        let task = lock(&self.tasks).spawn(keeper.run(changed));
        let before = lock(&self.trunks).insert(number, (trunk, task));
        if let Some((_, before)) = before {
            before.abort();
        }
        self.desk.set_trunks(self.counted_trunks());
    }

    /// Writes the lease at each interval.
    async fn renew(&self) {
        let mut timer = tokio::time::interval(RENEWAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let key = Key::Node(self.own.clone()).to_string();
        for number in 1.. {
            timer.tick().await;
            if self.is_leaving.load(Ordering::Relaxed) {
                return;
            }
            // After six renewals (30 s), a record from the future may be good, unless a clock is very wrong. So all
            // records are read again.
            if number % 6 == 0 && self.has_future.swap(false, Ordering::Relaxed) {
                self.silent.notify_one();
            }
            let record = NodeRecord::new(self.trunk_address.clone(), number).encode();
            let put = self
                .directory()
                .put(key.clone(), record.into(), Some(LEASE));
            match tokio::time::timeout(ANSWER_TIMEOUT, put)
                .await
                .map_err(late)
            {
                Ok(Ok(())) => self.await_echo(number).await,
                Ok(Err(error)) | Err(error) => {
                    self.complain("the lease cannot be written into the directory", &error);
                    // The directory's store may have to be created again, which happens when a watch begins.
                    self.silent.notify_one();
                }
            }
        }
    }

    /// Begins the watch anew if a written lease does not come back, and nothing else does. The next lease is written in
    /// any case: one that waits behind many other changes may be over before it is reported, and then never is.
    async fn await_echo(&self, number: u64) {
        let mut echoed = self.echoed.subscribe();
        let heard = self.heard.load(Ordering::Relaxed);
        let echo = echoed.wait_for(|echoed| *echoed >= number);
        let is_late = tokio::time::timeout(ECHO_TIMEOUT, echo).await.is_err();
        if is_late && self.heard.load(Ordering::Relaxed) == heard {
            self.silent.notify_one();
        }
    }

    /// Writes what the book has to write.
    async fn write(&self) {
        let mut writes = FuturesUnordered::new();
        let mut not_before = Instant::now();
        loop {
            while writes.len() < WRITES
                && not_before <= Instant::now()
                && let Some(write) = lock(&self.book).poll_write()
            {
                writes.push(self.write_one(write));
            }
            let (write, done) = tokio::select! {
                Some(done) = writes.next() => done,
                () = self.unwritten.notified() => continue,
                () = tokio::time::sleep_until(not_before), if not_before > Instant::now() => continue,
            };
            lock(&self.book).handle_written(&write, done.is_ok());
            if let Err(error) = done {
                let what = "changes cannot be written into the directory";
                self.complain(what, &error);
                not_before = Instant::now() + PAUSE;
            }
        }
    }

    async fn write_one(&self, write: Write) -> (Write, Result<(), DirectoryError>) {
        let own = |slot: &Slot| Key::Peer(self.own.clone(), *slot).to_string();
        let directory = self.directory();
        let written = match &write {
            Write::Put(slot, record) => directory.put(own(slot), record.encode().into(), None),
            Write::Delete(slot) => directory.delete(own(slot)),
            Write::Purge(key) => directory.delete(key.to_string()),
        };
        let written = tokio::time::timeout(ANSWER_TIMEOUT, written).await;
        (write, written.map_err(late).and_then(|written| written))
    }

    /// Does what the hubs ask for.
    async fn serve_desk(self: &Arc<Self>) {
        loop {
            self.desk.put().await;
            while let Some(way) = self.desk.next_way() {
                self.open_way(way);
            }
            let mut done = 0;
            while let Some(((tenant, address), news)) = self.desk.next_publication() {
                {
                    let mut book = lock(&self.book);
                    match news {
                        Some((record, stamp)) => book.handle_join(record, stamp),
                        None => book.handle_leave(tenant.as_deref(), &address),
                    }
                }
                done += 1;
                if done % AT_ONCE == 0 {
                    self.pass_on().await;
                    while let Some(way) = self.desk.next_way() {
                        self.open_way(way);
                    }
                }
            }
            self.pass_on().await;
        }
    }

    /// Opens a way, in a task of its own.
    fn open_way(&self, way: OpenWay) {
        let Some(hub) = self.tenants.with_name(way.tenant.as_deref()) else {
            return;
        };
        let trunk = lock(&self.trunks)
            .get(&way.new.node)
            .map(|(trunk, _)| trunk.clone());
        let tenant = way.tenant.clone();
        let member = hub.member_of_way(way);
        let serving = async move {
            let opened = match trunk {
                Some(trunk) => trunk.open(tenant.as_deref(), member.client).await,
                None => Err(WayError::Closed),
            };
            match opened {
                Ok(io) => {
                    let upgraded = Upgraded {
                        io,
                        read: Bytes::new(),
                        member,
                        base64: false,
                        end: Partner::Way,
                    };
                    link::serve(upgraded).await;
                }
                Err(error) => {
                    tracing::debug!(error = %Words(&error), "another node cannot be reached");
                    let (hub, link) = (member.hub.clone(), member.link);
                    let refusal = Refusal::Unreachable(error.to_string());
                    hub.with(|registry| registry.handle_no_way(link, &refusal));
                }
            }
        };
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(contained(self.tenants.house().clone(), serving));
    }

    async fn run_timer(self: &Arc<Self>) {
        loop {
            let next = lock(&self.book).poll_timeout();
            let sleep = async {
                match next {
                    Some(next) => tokio::time::sleep_until(Instant::from_std(next)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {
                    self.change(|book| book.handle_timeout(now())).await;
                }
                () = self.earlier.notified() => {}
            }
        }
    }
}

fn late(elapsed: tokio::time::error::Elapsed) -> DirectoryError {
    DirectoryError::Unreachable(elapsed.into())
}

/// Returns the text of an error with its causes.
fn report(error: &DirectoryError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
