//! Runtimes that are missing, that end, and that lack time or IO.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint, Transport as _,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    multiaddr::Protocol,
};
use libp2p_websocket_star::{
    Config, WebSocketStarTransport,
    error::{Error, LinkError},
};
use tokio::runtime::{Builder, Runtime};

use crate::support::{address, ed25519, embedded, hasty, within};

fn whole() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn poll(transport: &mut WebSocketStarTransport) -> Poll<Option<Error>> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(transport).poll(&mut cx) {
        Poll::Ready(TransportEvent::ListenerClosed { reason, .. }) => Poll::Ready(reason.err()),
        Poll::Ready(other) => panic!("{other:?}"),
        Poll::Pending => Poll::Pending,
    }
}

#[test]
fn outside_of_a_runtime_the_error_says_what_is_missing() {
    let star = "/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star";
    let mut transport = WebSocketStarTransport::new(&ed25519(), Config::default());
    let addr: Multiaddr = star.parse().expect("a multiaddr");
    let opts = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    };
    transport
        .listen_on(ListenerId::next(), addr.clone())
        .expect("a good address");
    let Poll::Ready(Some(closed)) = poll(&mut transport) else {
        panic!("the listener goes on");
    };
    let to = addr.with(Protocol::P2p(PeerId::random()));
    let dial = transport.dial(to, opts).expect("a good address");
    let dialled = futures::executor::block_on(dial).expect_err("no runtime");
    for error in [closed, dialled] {
        assert_eq!(
            error.to_string(),
            "websocket-star needs a Tokio runtime with time and IO enabled, but was polled outside of one"
        );
    }
}

/// Waits for the join in that runtime.
fn join(transport: &mut WebSocketStarTransport, runtime: &Runtime) {
    runtime.block_on(within("the join", async {
        loop {
            let event = std::future::poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await;
            if let TransportEvent::NewAddress { .. } = event {
                break;
            }
        }
    }));
}

#[test]
fn a_listener_whose_runtime_ends_is_closed_and_can_be_started_again() {
    let home = whole();
    let server = home.block_on(embedded());
    let addr: Multiaddr = address(&server).parse().expect("a multiaddr");
    let mut transport = WebSocketStarTransport::new(&ed25519(), hasty());
    for _ in 0..2 {
        let short = whole();
        transport
            .listen_on(ListenerId::next(), addr.clone())
            .expect("not listening any more");
        join(&mut transport, &short);
        drop(short);
        let mut events = Vec::new();
        while let Poll::Ready(event) =
            Pin::new(&mut transport).poll(&mut Context::from_waker(Waker::noop()))
        {
            events.push(event);
        }
        assert!(
            matches!(
                &events[..],
                [
                    TransportEvent::AddressExpired { .. },
                    TransportEvent::ListenerClosed {
                        reason: Err(Error::Link {
                            error: LinkError::TaskEnded,
                            ..
                        }),
                        ..
                    }
                ]
            ),
            "{events:?}"
        );
    }
    home.block_on(server.shutdown());
}

/// The missing part shows when the link first needs it, in the link's own task. Tokio panics there, and the listener
/// and the dial get an error.
#[test]
fn in_a_runtime_that_lacks_something_listener_and_dial_hear_what_and_a_whole_one_serves_then() {
    let home = whole();
    let server = home.block_on(embedded());
    let addr: Multiaddr = address(&server).parse().expect("a multiaddr");
    let without_time = Builder::new_current_thread().enable_io().build();
    let without_io = Builder::new_current_thread().enable_time().build();
    for lacking in [without_time, without_io] {
        let lacking = lacking.expect("a runtime");
        let mut transport = WebSocketStarTransport::new(&ed25519(), hasty());
        let id = ListenerId::next();
        transport.listen_on(id, addr.clone()).expect("an address");
        let event = lacking.block_on(std::future::poll_fn(|cx| Pin::new(&mut transport).poll(cx)));
        let TransportEvent::ListenerClosed {
            listener_id,
            reason: Err(closed),
        } = event
        else {
            panic!("{event:?}");
        };
        assert_eq!(listener_id, id);
        let to = addr.clone().with(Protocol::P2p(PeerId::random()));
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let dial = transport.dial(to, opts).expect("an address");
        let dialled = lacking.block_on(dial).expect_err("the task ends");
        let url = format!("ws://{}", server.local_addr());
        for error in [closed, dialled] {
            assert_eq!(
                error.to_string(),
                format!(
                    "{url}: the link's task has ended: its Tokio runtime was shut down, has no time or IO enabled, \
                     or the task panicked"
                )
            );
        }
        // The same address, in a whole runtime.
        transport
            .listen_on(ListenerId::next(), addr.clone())
            .expect("not listening any more");
        join(&mut transport, &home);
        drop(lacking);
    }
    home.block_on(server.shutdown());
}
