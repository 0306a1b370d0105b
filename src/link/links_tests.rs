use libp2p_identity::Keypair;

use super::*;
use crate::{config::Config, discovery};

/// Returns the links of a transport without a swarm.
pub(super) fn links(config: &Config) -> Links {
    let keypair = Keypair::generate_ed25519();
    let local = keypair.public().to_peer_id();
    let limits = &config.limits;
    let (announcer, _) = discovery::channel(local, config.announce_interval, limits.known_peers);
    let (events, _) = mpsc::channel(1);
    Links::new(Context {
        settings: Settings {
            keypair,
            join_timeout: config.join_timeout,
            dial_timeout: config.dial_timeout,
            allow_join_with_disabled_challenge: false,
        },
        socket: SocketConfig::new(config),
        budgets: Budgets {
            receive: limits.receive_bytes,
            send: limits.send_bytes,
            item: limits.item_bytes,
        },
        connections: limits.connections,
        known_peers: limits.known_peers,
        dial_links: limits.dial_links,
        allow_local: config.allow_local_rendezvous,
        listening: Listening::default(),
        stall_timeout: config.stall_timeout,
        hold_up_timeout: config.hold_up_timeout,
        window: limits.window_bytes as u64,
        backoff: config.backoff,
        routes: Mutex::default(),
        refusals: Mutex::default(),
        announcer,
        events,
        orphans: Orphans::default(),
        counts: Arc::default(),
    })
}

/// Returns the address `/<base>/p2p-websocket-star/ipfs/<peer>`.
pub(super) fn at(base: &str, peer: PeerId) -> StarAddr {
    let wire = format!("/{base}/p2p-websocket-star/ipfs/{peer}");
    StarAddr::from_wire(&wire).expect("valid")
}

/// Returns the rendezvous with this base.
pub(super) fn rendezvous(base: &str) -> Rendezvous {
    at(base, PeerId::random()).rendezvous().clone()
}

/// Adds a link without a driver.
pub(super) fn open(links: &Links, base: &str) -> Arc<Mailbox> {
    let idle = Command::Unlisten(ListenerId::next());
    let mailbox = Arc::new(Mailbox::with(idle));
    lock(&links.mailboxes).insert(rendezvous(base), mailbox.clone());
    mailbox
}

#[test]
fn no_other_link_begins_before_what_is_done_with_the_end_of_one() {
    let links = links(&Config::default());
    let mailbox = open(&links, "dns4/a.example/tcp/443/wss");
    let in_use = || panic!("it has a command");
    assert!(!mailbox.close_if_idle(in_use));
    mailbox.pop();
    let mut done = false;
    assert!(mailbox.close_if_idle(|| {
        // A caller that wants a link looks here first.
        assert!(mailbox.commands.try_lock().is_err());
        done = true;
    }));
    assert!(done);
}

#[tokio::test]
async fn an_address_that_failed_is_remembered_when_the_link_is_gone() {
    let links = links(&Config::default().with_allow_local_rendezvous(true));
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound").port()
    };
    let to = at(&format!("ip4/127.0.0.1/tcp/{port}/ws"), PeerId::random());
    let star = to.rendezvous().clone();
    let (reply, answer) = oneshot::channel();
    let dial_id = DialId::random();
    let dial = Command::Dial { dial_id, to, reply };
    links.dial(&star, dial).await.expect("a link");
    let answer = answer.await.expect("an answer");
    assert!(answer.is_err(), "nobody listens there");
    let kept = async {
        while links.is_open(&star) || !lock(&links.context.routes).take(&star).have_failed() {
            tokio::task::yield_now().await;
        }
    };
    let kept = tokio::time::timeout(Duration::from_secs(10), kept).await;
    kept.expect("it is kept");
}
