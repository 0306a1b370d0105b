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

    // We listen there because our application wants it.
    links
        .context
        .listening
        .add(ListenerId::next(), &rendezvous(ROGUE));
    assert_eq!(meant(&links, &to, &[]).await, rendezvous(ROGUE));
}
