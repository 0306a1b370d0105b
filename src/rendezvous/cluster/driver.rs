//! One node of a cluster at work: it watches the directory, writes into it, and keeps trunks to the other nodes.

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
    Cluster,
    book::{Book, Event, LEASE, NodeNumber, Write},
    clock::millis,
    desk::{Desk, OpenWay},
    directory::{Change, Directory, DirectoryError},
    node::{Key, NodeId, Run, Slot},
    record::{NodeRecord, PeerRecord, RecordError},
    status::{ClusterStatus, TrunkCounts},
    trunk::{Incoming, Trunk, WayError},
};
use crate::{
    limited::Limited,
    protocol::refusal::Refusal,
    rendezvous::{
        hub::now,
        link::{self, Partner, Upgraded},
        supervised::contained,
        tenants::Tenants,
    },
    words::Words,
};

/// How often the lease is written. It has to come back through the watch, which is how one that has gone silent is noticed.
const RENEWAL: Duration = Duration::from_secs(5);
/// How long a lease that was written may take to come back.
const ECHO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the engine may take for one thing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How many writes may be under way.
const WRITES: usize = 128;
/// How long to wait before the directory is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether all is written, at the end.
const LOOK: Duration = Duration::from_millis(20);
/// How many changes are dealt with before others get their turn.
const AT_ONCE: usize = 16;

/// A node of a cluster.
#[derive(Debug)]
pub(in crate::rendezvous) struct Driver {
    cluster: Cluster,
    own: Run,
    trunk_address: String,
    tenants: Arc<Tenants>,
    desk: Arc<Desk>,
    book: Mutex<Book>,
    /// Held by whoever passes the book's events on, so that they stay in order.
    passing: tokio::sync::Mutex<()>,
    /// Told when there may be something to write.
    unwritten: Notify,
    /// Told when the book's deadline may be earlier.
    earlier: Notify,
    trunks: Mutex<BTreeMap<NodeNumber, (Trunk, AbortHandle)>>,
    /// Of each node that there was, whatever its run.
    counts: Mutex<BTreeMap<NodeId, Arc<TrunkCounts>>>,
    tasks: Mutex<JoinSet<()>>,
    /// The last of our leases that has come back.
    echoed: watch::Sender<u64>,
    /// Told when the watch is to begin anew.
    silent: Notify,
    /// Whether the watch has told all that there was, and goes on.
    is_watched: AtomicBool,
    /// How many changes the watch has told.
    heard: AtomicU64,
    /// Whether some record was from the future: all are looked at again, later.
    has_future: AtomicBool,
    /// Whether this node is in the directory no more: it is about to end, or another one has its name.
    is_leaving: AtomicBool,
    complaints: Limited,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    /// Begins to be a node, with a listener for the trunks of others.
    pub(in crate::rendezvous) fn new(
        tenants: Arc<Tenants>,
        cluster: Cluster,
        desk: Arc<Desk>,
        listener: &TcpListener,
    ) -> io::Result<Self> {
        let own = Run {
            node: cluster.id.clone(),
            epoch: millis(SystemTime::now()),
        };
        let trunk_address = match &cluster.advertised {
            Some(address) => address.clone(),
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
            complaints: Limited::default(),
        })
    }

    /// Does all that, until it is dropped.
    pub(in crate::rendezvous) async fn run(self: Arc<Self>, listener: TcpListener) {
        let incoming = Incoming::new(self.tenants.clone(), self.cluster.tls.clone());
        tracing::info!(node = %self.own.node, trunks = %Words(&self.trunk_address), "a node of a cluster");
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
        &*self.cluster.directory
    }

    fn complain(&self, what: &'static str, error: &DirectoryError) {
        if let Some(left_out) = self.complaints.admit(now()) {
            let error = Words(report(error));
            tracing::warn!(%error, left_out, "{what}");
        }
    }

    /// Changes the book, and passes on what follows.
    async fn change<R>(&self, change: impl FnOnce(&mut Book) -> R) -> R {
        let result = change(&mut lock(&self.book));
        self.pass_on().await;
        result
    }

    async fn pass_on(&self) {
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
                "another server was started with this node's name: this one is a node of the cluster no more"
            );
        }
        drop(passing);
        self.unwritten.notify_one();
        self.earlier.notify_one();
    }

    /// Our trunks, by the names of the other nodes.
    fn trunks(&self) -> Vec<Trunk> {
        let trunks = lock(&self.trunks);
        let mut all: Vec<Trunk> = trunks.values().map(|(trunk, _)| trunk.clone()).collect();
        all.sort_by(|one, other| one.node().cmp(other.node()));
        all
    }

    /// Takes the node out of the directory, so that no new node has a trunk to it. Its peers are there until they leave, and
    /// those who know it reach them.
    pub(in crate::rendezvous) async fn leave(&self) {
        if self.is_leaving.swap(true, Ordering::Relaxed) {
            return;
        }
        let key = Key::Node(self.own.clone()).to_string();
        let deleted = tokio::time::timeout(ANSWER_TIMEOUT, self.directory().delete(key)).await;
        if let Err(error) = deleted.map_err(late).and_then(|deleted| deleted) {
            self.complain("the node cannot be taken out of the directory", &error);
        }
    }

    /// Returns when the directory knows all that has happened here. Cancel safe.
    pub(in crate::rendezvous) async fn rested(&self) {
        while !self.desk.is_told() || lock(&self.book).status().unwritten > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn handle(&self, event: Event) {
        match &event {
            Event::Found { tenant, .. } | Event::Lost { tenant, .. } => {
                // A node may have tenants that are not here.
                if let Some(hub) = self.tenants.with_name(tenant.as_deref()) {
                    hub.handle_cluster(event);
                }
            }
            Event::Gone { node } => {
                let gone = lock(&self.trunks).remove(node);
                if let Some((_, keeper)) = gone {
                    keeper.abort();
                    self.desk.set_trunks(self.trunks());
                }
            }
        }
    }

    /// Watches the directory, again and again.
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
                            tracing::warn!(%key, %error, left_out, "a record of another node is of no use");
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
                let trunk = record.trunk.clone();
                let number = self
                    .change(|book| book.handle_node(run, record, now()))
                    .await;
                if let Some(number) = number {
                    self.keep_trunk(number, run, trunk).await;
                }
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
                // A large RSA key takes a while.
                let (node, clock) = (run.node.clone(), self.desk.clock().clone());
                let verifying = tokio::task::spawn_blocking(move || {
                    let verified = record.verify(&node, &clock, SystemTime::now());
                    verified.map(|(stamp, _)| (record, stamp))
                });
                // Else it panicked, or the runtime ends.
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

    /// Keeps a trunk to a node whose address is new.
    async fn keep_trunk(self: &Arc<Self>, number: NodeNumber, run: &Run, address: String) {
        let counts = lock(&self.counts)
            .entry(run.node.clone())
            .or_default()
            .clone();
        let (trunk, keeper) = Trunk::new(
            self.own.node.clone(),
            run.node.clone(),
            address,
            self.cluster.tls.clone(),
            counts,
        );
        // The task is the driver's own, and not to keep it.
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
            changed.boxed()
        };
        // One that there was is to another address.
        self.change(|book| book.handle_trunk(number, false)).await;
        let task = lock(&self.tasks).spawn(keeper.run(changed));
        let before = lock(&self.trunks).insert(number, (trunk, task));
        if let Some((_, before)) = before {
            before.abort();
        }
        self.desk.set_trunks(self.trunks());
    }

    /// Writes the lease, again and again.
    async fn renew(&self) {
        let mut timer = tokio::time::interval(RENEWAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let key = Key::Node(self.own.clone()).to_string();
        for number in 1.. {
            timer.tick().await;
            if self.is_leaving.load(Ordering::Relaxed) {
                return;
            }
            // Six times, what was from the future is not any more, unless a clock is very wrong.
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
                    // It may have to be made anew, which those who watch do.
                    self.silent.notify_one();
                }
            }
        }
    }

    /// Has the watch begin anew if what was written does not come back.
    async fn await_echo(&self, number: u64) {
        let mut echoed = self.echoed.subscribe();
        loop {
            let heard = self.heard.load(Ordering::Relaxed);
            let echo = echoed.wait_for(|echoed| *echoed >= number);
            if tokio::time::timeout(ECHO_TIMEOUT, echo).await.is_ok() {
                return;
            }
            // There may be very much before it.
            if self.heard.load(Ordering::Relaxed) == heard {
                self.silent.notify_one();
                return;
            }
        }
    }

    /// Writes what there is to write.
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
                let what = "what has changed cannot be written into the directory";
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

    /// Does what the hubs want done.
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
                    tracing::debug!(error = %Words(&error), "no way to another node");
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

    async fn run_timer(&self) {
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

/// An error with its causes.
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
