use std::sync::atomic::{AtomicUsize, Ordering};

use libp2p_core::transport::ListenerId;
use libp2p_identity::PeerId;

use super::{
    super::tests::{at, links, open, rendezvous},
    *,
};
use crate::config::Config;

const ROGUE: &str = "dns4/rogue.example/tcp/443/wss";
const STAR: &str = "dns4/star.example/tcp/443/wss";

async fn meant(links: &Links, to: &StarAddr, named: &[&str]) -> Rendezvous {
    let named = || named.iter().map(|base| rendezvous(base)).collect();
    links.rendezvous_meant(to, named).await
}

#[tokio::test]
async fn a_rendezvous_where_we_only_dial_gets_no_dials_to_others_by_what_it_announces() {
    let links = links(&Config::default());
    let to = at(STAR, PeerId::random());
    let rogue = open(&links, ROGUE);
    lock(&rogue.spellings).note(&to, &rendezvous(ROGUE), 1, |_| false);
    assert_eq!(meant(&links, &to, &[]).await, rendezvous(STAR));

    // If we listen there, our application has chosen that rendezvous.
    links
        .context
        .listening
        .add(ListenerId::next(), &rendezvous(ROGUE));
    assert_eq!(meant(&links, &to, &[]).await, rendezvous(ROGUE));
}

#[tokio::test]
async fn no_name_is_looked_up_for_a_private_address_at_a_port_where_there_is_no_link() {
    let links = links(&Config::default());
    let to = at("ip4/10.0.0.1/tcp/443/wss", PeerId::random());
    let asked = AtomicUsize::new(0);
    let names = || {
        asked.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    };
    assert_eq!(links.rendezvous_meant(&to, names).await, *to.rendezvous());
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    open(&links, "dns4/localhost/tcp/443/wss");
    assert_eq!(links.rendezvous_meant(&to, names).await, *to.rendezvous());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let public = at("ip4/1.1.1.1/tcp/444/wss", PeerId::random());
    links.rendezvous_meant(&public, names).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_address_means_a_link_that_has_it_only_where_we_listen_or_the_peer_is_said_to_be() {
    const OTHER: &str = "dns4/localhost/tcp/443/wss";
    let links = links(&Config::default());
    let ip = [192, 0, 2, 1].into();
    // The owner of a name decides which addresses it has.
    for base in [ROGUE, "dns4/rogue.example/tcp/80/ws"] {
        *lock(&open(&links, base).addresses) = vec![ip];
    }
    let secure = at("ip4/192.0.2.1/tcp/443/wss", PeerId::random());
    let plain = at("ip4/192.0.2.1/tcp/80/ws", PeerId::random());
    assert_eq!(meant(&links, &plain, &[]).await, *plain.rendezvous());
    let named = ["dns4/localhost/tcp/80/ws"];
    assert_eq!(meant(&links, &plain, &named).await, *plain.rendezvous());
    // A bare address has no certificate.
    assert_eq!(meant(&links, &secure, &[]).await, rendezvous(ROGUE));
    assert_eq!(meant(&links, &secure, &[OTHER]).await, rendezvous(OTHER));

    *lock(&open(&links, STAR).addresses) = vec![ip];
    assert_eq!(meant(&links, &secure, &[STAR]).await, rendezvous(STAR));
    let listening = &links.context.listening;
    listening.add(ListenerId::next(), &rendezvous(STAR));
    assert_eq!(meant(&links, &secure, &[OTHER]).await, rendezvous(STAR));
}
