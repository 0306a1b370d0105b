//! Limits on what one peer can make another peer dial.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{Multiaddr, Stream, StreamProtocol};

use tokio::time::sleep;

use super::node::{Kind, Options, pair};
use crate::support::{embedded, log, panics, within};

const DCUTR: StreamProtocol = StreamProtocol::new("/libp2p/dcutr");

/// Returns a message of the protocol with its length in front: type CONNECT (100) or SYNC (300), and addresses.
fn message(sync: bool, addresses: &[Multiaddr]) -> Vec<u8> {
    let mut body = vec![0x08];
    body.extend(if sync {
        [0xac, 0x02].as_slice()
    } else {
        &[0x64]
    });
    for address in addresses {
        let bytes = address.to_vec();
        body.push(0x12);
        body.push(u8::try_from(bytes.len()).expect("short"));
        body.extend(bytes);
    }
    let mut framed = Vec::new();
    let mut len = body.len();
    while len >= 0x80 {
        framed.push(u8::try_from(len % 0x80).expect("seven bits") | 0x80);
        len /= 0x80;
    }
    framed.push(u8::try_from(len).expect("seven bits"));
    framed.extend(body);
    framed
}

/// Asks the other node to dial these addresses.
async fn ask(stream: &mut Stream, addresses: &[Multiaddr]) -> std::io::Result<()> {
    stream.write_all(&message(false, addresses)).await?;
    stream.flush().await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    stream.write_all(&message(true, &[])).await?;
    stream.flush().await
}

/// The peer that was dialled through the rendezvous leads the upgrade, and it asks again without end.
#[tokio::test]
async fn a_peer_cannot_have_a_node_dial_without_end_nor_wherever_it_likes() {
    log();
    let server = embedded().await;
    let mut without = Options::of(Kind::Tcp);
    without.direct = false;
    let [mut hostile, mut victim] = pair(&server, [without, Options::of(Kind::Tcp)]).await;
    // If it opened a stream before that, the hostile node itself would dial.
    hostile.identified().await;

    // Nothing listens at this port.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = closed.local_addr().expect("an address").port();
    drop(closed);
    // A name whose lookup a stranger would like to cause, an address that is internal to a cloud, and many others.
    let mut addresses = vec!["/dns4/localhost/tcp/1".to_owned()];
    addresses.push("/ip4/169.254.169.254/tcp/80".to_owned());
    addresses.extend((1..100).map(|n| format!("/ip4/127.0.0.{n}/tcp/{port}")));
    let addresses = addresses
        .iter()
        .map(|text| text.parse().expect("an address"));
    let addresses: Vec<Multiaddr> = addresses.collect();
    let mut asked_well = 0;
    for _ in 0..300 {
        let opened = hostile.control.open_stream(victim.peer, DCUTR);
        let mut stream = within("a stream", opened).await.expect("a stream");
        let asked = within("the answer", ask(&mut stream, &addresses)).await;
        asked_well += usize::from(asked.is_ok());
        // Give the dial time to end.
        sleep(Duration::from_millis(20)).await;
    }
    // The limits: 12 dials from 32 requests of one peer.
    assert_eq!((victim.dials(), asked_well), (12, 32));
    let failed = victim.failed_dials();
    assert_eq!(failed.len(), 12);
    for dialled in failed {
        let expected: Vec<_> = addresses[2..10].iter().collect();
        assert!(
            dialled.len() == 8
                && dialled
                    .iter()
                    .all(|address| expected.iter().any(|to| address.starts_with(to))),
            "{dialled:?}"
        );
    }
    victim.send(hostile.peer, 1 << 16).await;
    assert_eq!(panics(), 0);
    server.shutdown().await;
}
