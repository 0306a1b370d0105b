//! Addresses that do not belong to this transport go to the next transport unchanged.

use std::{
    future::{Pending, pending},
    pin::Pin,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint,
        transport::{
            DialOpts, ListenerId, OrTransport, PortUse, Transport, TransportError, TransportEvent,
        },
    },
};
use libp2p_websocket_star::WebSocketStarTransport;

use super::{node::DIALER, raw, transport};
use crate::support::ed25519;

/// The next transport. It records what it is asked for, and accepts everything or nothing.
#[derive(Default)]
struct Next {
    takes: bool,
    asked: Vec<Multiaddr>,
}

impl Next {
    fn ask(&mut self, addr: Multiaddr) -> Result<(), TransportError<std::io::Error>> {
        self.asked.push(addr.clone());
        match self.takes {
            true => Ok(()),
            false => Err(TransportError::MultiaddrNotSupported(addr)),
        }
    }
}

impl Transport for &mut Next {
    type Output = ();
    type Error = std::io::Error;
    type ListenerUpgrade = Pending<Result<(), std::io::Error>>;
    type Dial = Pending<Result<(), std::io::Error>>;

    fn listen_on(
        &mut self,
        _: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<std::io::Error>> {
        self.ask(addr)
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<std::io::Error>> {
        self.ask(addr).map(|()| pending())
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, std::io::Error>> {
        Poll::Pending
    }
}

fn before(next: &mut Next) -> OrTransport<WebSocketStarTransport, &mut Next> {
    transport(&ed25519()).or_transport(next)
}

fn foreign() -> Vec<Multiaddr> {
    let peer = PeerId::random();
    let star = format!("/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/p2p/{peer}");
    [
        String::new(),
        "/memory/1".to_owned(),
        "/unix/%2Ftmp%2Fsocket".to_owned(),
        "/ip4/127.0.0.1/tcp/0".to_owned(),
        "/ip6/::1/tcp/9090/ws".to_owned(),
        format!("/dns4/star.example/tcp/443/wss/p2p/{peer}"),
        "/dns/star.example/tcp/443/tls/sni/star.example/ws".to_owned(),
        format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{peer}"),
        "/ip4/127.0.0.1/udp/1/webrtc-direct".to_owned(),
        format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}/p2p-circuit"),
        format!(
            "/ip4/127.0.0.1/tcp/1/p2p/{peer}/p2p-circuit/p2p/{}",
            PeerId::random()
        ),
        format!("{star}/p2p-circuit"),
        format!("{star}/p2p-circuit/p2p/{}", PeerId::random()),
        format!("/p2p/{peer}"),
    ]
    .iter()
    .map(|text| text.parse().expect("a multiaddr"))
    .collect()
}

#[tokio::test]
async fn a_foreign_address_is_given_back_as_it_is_at_listen_on_and_at_dial() {
    let mut node = raw();
    for addr in foreign() {
        match node.listen_on(&addr) {
            Err(TransportError::MultiaddrNotSupported(back)) => assert_eq!(back, addr),
            other => panic!("{addr}: {other:?}"),
        }
        match node.transport.dial(addr.clone(), DIALER) {
            Err(TransportError::MultiaddrNotSupported(back)) => assert_eq!(back, addr),
            other => panic!("{addr}: {:?}", other.err()),
        }
    }
    assert!(node.event_now().is_none());
}

#[tokio::test]
async fn a_foreign_address_reaches_the_next_transport_as_it_is_and_the_refusal_comes_back() {
    for takes in [true, false] {
        let mut next = Next {
            takes,
            asked: Vec::new(),
        };
        let (mut both, foreign) = (before(&mut next), foreign());
        for addr in &foreign {
            let listened = both.listen_on(ListenerId::next(), addr.clone());
            let dialled = both.dial(addr.clone(), DIALER).map(drop);
            for result in [listened, dialled] {
                match result {
                    Ok(()) => assert!(takes),
                    Err(TransportError::MultiaddrNotSupported(back)) => {
                        assert_eq!((&back, takes), (addr, false));
                    }
                    Err(other) => panic!("{addr}: {other:?}"),
                }
            }
        }
        drop(both);
        let twice = foreign.iter().flat_map(|addr| [addr, addr]);
        assert!(next.asked.iter().eq(twice), "{:?}", next.asked);
    }
}

#[tokio::test]
async fn an_address_of_ours_is_not_tried_by_the_next_transport_even_if_we_refuse_it() {
    let mut next = Next {
        takes: true,
        asked: Vec::new(),
    };
    let mut both = before(&mut next);
    let base = "/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star";
    let peer = PeerId::random();
    let addr = |text: &str| text.parse::<Multiaddr>().expect("a multiaddr");
    let refused: [Result<(), _>; 4] = [
        // This address names no peer.
        both.dial(addr(base), DIALER).map(drop),
        both.dial(addr("/ip4/127.0.0.1/p2p-websocket-star"), DIALER)
            .map(drop),
        both.listen_on(ListenerId::next(), addr(&format!("{base}/p2p/{peer}"))),
        both.listen_on(
            ListenerId::next(),
            addr("/ip4/127.0.0.1/tcp/1/p2p-websocket-star"),
        ),
    ];
    for result in refused {
        match result {
            Err(TransportError::Other(error)) => assert!(error.is_left()),
            other => panic!("{other:?}"),
        }
    }
    let to = addr(&format!("{base}/p2p/{peer}"));
    assert!(both.dial(to, DIALER).is_ok());
    assert!(both.listen_on(ListenerId::next(), addr(base)).is_ok());
    drop(both);
    assert_eq!(next.asked, []);
}

#[tokio::test]
async fn a_dial_as_the_listener_of_the_connection_is_left_to_the_next_transport() {
    let mut next = Next::default();
    let mut both = before(&mut next);
    let to: Multiaddr = format!(
        "/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/p2p/{}",
        PeerId::random()
    )
    .parse()
    .expect("a multiaddr");
    for port_use in [PortUse::New, PortUse::Reuse] {
        let role = Endpoint::Listener;
        match both.dial(to.clone(), DialOpts { role, port_use }) {
            Err(TransportError::MultiaddrNotSupported(back)) => assert_eq!(back, to),
            other => panic!("{:?}", other.err()),
        }
        // As the dialer, the transport takes the address, whatever the port use.
        let role = Endpoint::Dialer;
        assert!(both.dial(to.clone(), DialOpts { role, port_use }).is_ok());
    }
    drop(both);
    assert_eq!(next.asked, [to.clone(), to]);
}
