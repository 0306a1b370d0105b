//! How connections and links end, and why some do not open. The errors must be those of a native node.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::BoxFuture, join};
use libp2p::core::transport::TransportEvent;
use libp2p_websocket_star::{
    Connection, Error,
    rendezvous::{Config, Server},
};
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpSocket},
    time::sleep,
};
use tokio_websockets::{CloseCode, Message};

use crate::{
    behaviours::whole,
    browser::{BOTH, Browser, Page, Sockets},
    native, start_raw,
    support::{
        address, ed25519, embedded, pattern,
        raw::Raw,
        scripted::{Link, NONCE, Scripted},
        within,
    },
    until,
};

/// Starts a native raw node and a raw node in the page, and joins both. Returns the native node, its address, and the
/// page's address.
async fn joined(page: &Page, server: &Server) -> (Raw, String, String) {
    let mut native = Raw::new();
    let theirs = native.listen(&address(server)).await.1.to_string();
    let ours = start_raw(page, &address(server), json!({})).await;
    (native, theirs, ours)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_direction_ends_and_the_other_one_goes_on() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let page = browser.page(sockets).await;
        let (mut native, theirs, ours) = joined(&page, &server).await;

        let dial = "const dialled = await raw.dial(args[0]);
             await dialled.write(1000);
             await dialled.end();
             return await dialled.read(1e6);";
        let answer = async {
            let (mut accepted, _) = native.accept().await;
            let mut read = Vec::new();
            let end = within("an end", accepted.read_to_end(&mut read)).await;
            end.expect("no reset");
            assert!(read == pattern(0, 1000));
            sleep(Duration::from_millis(100)).await;
            accepted.write_all(&pattern(0, 2000)).await.expect("open");
            accepted.close().await.expect("open");
        };
        let (read, ()) = join!(page.number(dial, vec![json!(theirs)]), answer);
        assert_eq!(read, 2000.0);

        let accept = "const accepted = await raw.accept();
             const read = await accepted.read(1e6);
             await accepted.write(2000);
             await accepted.end();
             return read;";
        let dial = async {
            let mut dialled = native.dial(&ours).await;
            dialled.write_all(&pattern(0, 1000)).await.expect("open");
            dialled.close().await.expect("open");
            let mut read = Vec::new();
            let end = within("an end", dialled.read_to_end(&mut read)).await;
            end.expect("no reset");
            assert!(read == pattern(0, 2000));
        };
        let (read, ()) = join!(page.number(accept, vec![]), dial);
        assert_eq!(read, 1000.0);
        page.close().await;
        server.shutdown().await;
    }
}

/// Returns the error with which a connection ends.
async fn reset(connection: &mut Connection) -> String {
    let mut rest = Vec::new();
    let read = within("a reset", connection.read_to_end(&mut rest)).await;
    whole(read.expect_err("a reset"))
}

/// Returns the errors that a native node reads when the dialer drops its connection, and when the listener does.
async fn reset_of_a_native_node(server: &Server) -> (String, String) {
    let (mut one, other) = (Raw::new(), Raw::new());
    let at = one.listen(&address(server)).await.1.to_string();
    let (dialled, (mut accepted, _)) = join!(other.dial(&at), one.accept());
    drop(dialled);
    let of_the_dialer = reset(&mut accepted).await;
    let (mut dialled, (accepted, _)) = join!(other.dial(&at), one.accept());
    drop(accepted);
    let of_the_listener = reset(&mut dialled).await;
    (of_the_dialer, of_the_listener)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_read_as_that_of_a_native_node_and_in_one() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let (of_the_dialer, of_the_listener) = reset_of_a_native_node(&server).await;
        let page = browser.page(sockets).await;
        let (mut native, theirs, ours) = joined(&page, &server).await;

        let dial =
            "const dialled = await raw.dial(args[0]); await dialled.read(1); dialled.reset();";
        let read = async {
            let (mut accepted, _) = native.accept().await;
            accepted.write_all(&pattern(0, 1)).await.expect("open");
            accepted.flush().await.expect("open");
            reset(&mut accepted).await
        };
        let (run, error) = join!(page.run(dial, vec![json!(theirs)]), read);
        run.expect("it is there");
        assert_eq!(error, of_the_dialer);

        let accept = "const accepted = await raw.accept(); await accepted.read(1e6);";
        let drop_it = async {
            let mut dialled = native.dial(&ours).await;
            dialled.write_all(&pattern(0, 1)).await.expect("open");
            dialled.flush().await.expect("open");
            drop(dialled);
        };
        let (run, ()) = join!(page.run(accept, vec![]), drop_it);
        assert_eq!(run, Err(of_the_dialer));

        let dial = "const dialled = await raw.dial(args[0]); await dialled.read(1e6);";
        let drop_it = async { drop(native.accept().await) };
        let (run, ()) = join!(page.run(dial, vec![json!(theirs)]), drop_it);
        assert_eq!(run, Err(of_the_listener));
        page.close().await;
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dials_nobody_hears_what_a_native_node_hears() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let page = browser.page(sockets).await;
        let (native, _, ours) = joined(&page, &server).await;
        let nobody = format!(
            "{}/p2p/{}",
            address(&server),
            ed25519().public().to_peer_id()
        );
        let expected = native.try_dial(&nobody).await.expect_err("nobody is there");
        let run = page.run("await raw.dial(args[0]);", vec![json!(nobody)]);
        assert_eq!(run.await, Err(whole(expected)));
        let run = page
            .run("await raw.dial(args[0]);", vec![json!(ours)])
            .await;
        let error = run.expect_err("it is itself");
        assert!(error.contains("DialedSelf"), "{error}");
        page.close().await;
        server.shutdown().await;
    }
}

/// Returns the text for an event of a native node's listener, in the form that the page uses.
fn line(event: TransportEvent<impl Sized, Error>) -> String {
    match event {
        TransportEvent::NewAddress { listen_addr, .. } => listen_addr.to_string(),
        TransportEvent::AddressExpired { .. } => "expired".to_owned(),
        TransportEvent::ListenerError { error, .. } => format!("error: {}", whole(error)),
        TransportEvent::ListenerClosed { reason, .. } => {
            format!("closed: {}", whole(reason.expect_err("an error")))
        }
        TransportEvent::Incoming { .. } => "incoming".to_owned(),
    }
}

/// What a server does with a client that connects. It may return the link to keep it open.
type Script = for<'a> fn(&'a Scripted) -> BoxFuture<'a, Option<Link>>;

/// Returns the events of a native node that listens at the server.
async fn native_events(scripted: &Scripted, script: Script, count: usize) -> Vec<String> {
    let mut native = Raw::new();
    native.listen_on(&scripted.addr()).expect("a good address");
    let mut events = Vec::new();
    let hear = async {
        for _ in 0..count {
            events.push(line(native.event().await));
        }
    };
    join!(hear, script(scripted));
    events
}

/// Returns the events of a page that listens at the server.
async fn page_events(
    page: &Page,
    scripted: &Scripted,
    script: Script,
    count: usize,
) -> Vec<String> {
    let mut events = Vec::new();
    let hear = async {
        events.push(start_raw(page, &scripted.addr(), json!({})).await);
        for _ in 1..count {
            events.push(page.text("return await raw.event();", vec![]).await);
        }
    };
    join!(hear, script(scripted));
    events
}

/// Checks that a page gets the same events as a native node. With `joins`, it joins first.
async fn compare(browser: &Browser, sockets: Sockets, script: Script, joins: bool) {
    let count = if joins { 3 } else { 1 };
    let scripted = Scripted::start().await;
    let mut expected = native_events(&scripted, script, count).await;
    let page = browser.page(sockets).await;
    let mut events = page_events(&page, &scripted, script, count).await;
    page.close().await;
    if joins {
        // Each node has an address of its own.
        let at = scripted.addr();
        assert!(expected.remove(0).starts_with(&at));
        assert!(events.remove(0).starts_with(&at));
    }
    assert_eq!(events, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rendezvous_that_refuses_or_speaks_otherwise_is_told_as_natively() {
    const SCRIPTS: [Script; 6] = [
        |scripted| {
            Box::pin(async {
                let mut link = scripted.upgraded().await;
                link.text("hello").await;
                Some(link)
            })
        },
        |scripted| {
            Box::pin(async {
                let mut link = scripted.upgraded().await;
                link.binary(b"hello").await;
                Some(link)
            })
        },
        // An invalid nonce, and a join without a challenge.
        |scripted| {
            Box::pin(async {
                let mut link = scripted.link().await;
                let join = link.expect("ss-join").await;
                link.answer(&join, json!([null, "sign this"])).await;
                Some(link)
            })
        },
        |scripted| {
            Box::pin(async {
                let mut link = scripted.link().await;
                let join = link.expect("ss-join").await;
                link.answer(&join, json!([null, null, []])).await;
                Some(link)
            })
        },
        // A refusal for good, and a refusal of the signature.
        |scripted| {
            Box::pin(async {
                let mut link = scripted.link().await;
                let join = link.expect("ss-join").await;
                link.answer(&join, json!(["Id is not matching"])).await;
                Some(link)
            })
        },
        |scripted| {
            Box::pin(async {
                let mut link = scripted.link().await;
                let join = link.expect("ss-join").await;
                link.answer(&join, json!([null, NONCE])).await;
                let proof = link.expect("ss-join").await;
                link.answer(&proof, json!(["Signature Invalid"])).await;
                Some(link)
            })
        },
    ];
    let browser = Browser::start().await;
    for sockets in BOTH {
        for script in SCRIPTS {
            compare(&browser, sockets, script, false).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_a_rendezvous_ends_or_spoils_is_told_as_natively() {
    const SCRIPTS: [Script; 5] = [
        |scripted| {
            Box::pin(async {
                scripted.joined().await;
                None
            })
        },
        |scripted| {
            Box::pin(async {
                let mut link = scripted.joined().await;
                let close = Message::close(Some(CloseCode::GOING_AWAY), "until tomorrow");
                link.try_send(close).await;
                Some(link)
            })
        },
        |scripted| {
            Box::pin(async {
                let mut link = scripted.joined().await;
                link.binary(b"unannounced").await;
                Some(link)
            })
        },
        |scripted| {
            Box::pin(async {
                let mut link = scripted.joined().await;
                link.text("hello").await;
                Some(link)
            })
        },
        // A message longer than the limit.
        |scripted| {
            Box::pin(async {
                let mut link = scripted.joined().await;
                link.try_send(Message::binary(vec![0; 5 << 20])).await;
                Some(link)
            })
        },
    ];
    let browser = Browser::start().await;
    for sockets in BOTH {
        for script in SCRIPTS {
            compare(&browser, sockets, script, true).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_link() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let page = browser.page(sockets).await;
        let (mut native, theirs, _) = joined(&page, &server).await;
        let dial = "globalThis.dialled = await raw.dial(args[0]);";
        let (run, (mut accepted, _)) = join!(page.run(dial, vec![json!(theirs)]), native.accept());
        run.expect("it is there");
        server.shutdown().await;
        let mut rest = Vec::new();
        let read = within("a reset", accepted.read_to_end(&mut rest)).await;
        let expected = whole(read.expect_err("a reset"));
        let read = page.run("await dialled.read(1e6);", vec![]).await;
        assert_eq!(read, Err(expected));
        page.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_hears_that_a_peer_has_gone() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let page = browser.page(sockets).await;
        page.start(&address(&server)).await.expect("it joins");
        let native = native::Node::join(&server).await;
        let peer = native.peer.to_string();
        let since = until(&page, 0, "Discovered").await;
        drop(native);
        // No connection shows that the peer is gone, so a dial must find out. The first dial may meet a link that is
        // just being closed.
        let expired = async {
            let gone = format!("{}/p2p/{peer}", address(&server));
            while !page.events().await[since..]
                .iter()
                .any(|event| event.contains("Expired"))
            {
                page.dial(&gone).await.expect_err("it is gone");
            }
        };
        within("the peer to expire", expired).await;
        page.close().await;
        server.shutdown().await;
    }
}

/// Returns the first event of a page's listener.
async fn error(browser: &Browser, sockets: Sockets, rendezvous: &str) -> String {
    let page = browser.page(sockets).await;
    let event = start_raw(&page, rendezvous, json!({ "connect": 1 })).await;
    page.close().await;
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_cannot_be_opened_is_told_as_far_as_the_browser_tells_it() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let at = format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p-websocket-star");
        let event = error(&browser, sockets, &at).await;
        assert!(event.contains("opening took longer than 1s | "), "{event}");
        assert!(event.contains("TimedOut"), "{event}");
        // A server of another kind.
        let refusing = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
                // The browser may have closed the connection.
                let _ = stream.write_all(answer).await;
            }
        });
        let expected = format!("the browser could not open ws://127.0.0.1:{port}/");
        let event = error(&browser, sockets, &at).await;
        assert!(event.contains(&expected), "{event}");
        refusing.abort();
        // The port is bound, but nothing listens there.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(([127, 0, 0, 1], 0).into())
            .expect("a free port");
        let port = socket.local_addr().expect("bound").port();
        let at = format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p-websocket-star");
        let event = error(&browser, sockets, &at).await;
        assert!(event.contains("NotOpened"), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_expires_the_address_and_is_joined_again() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let (listened, at) = (server.local_addr(), address(&server));
        let page = browser.page(sockets).await;
        let peer = page.start(&at).await.expect("it joins");
        server.shutdown().await;
        let since = until(&page, 0, "ExpiredListenAddr").await;
        until(&page, since, "ListenerError").await;
        let config = Config::default().with_listen_addr(listened);
        let server = within("the port", async {
            loop {
                if let Ok(server) = Server::bind(config.clone()).await {
                    return server;
                }
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        until(&page, since, "NewListenAddr").await;
        let mut native = native::Node::join(&server).await;
        native.dial(&format!("{at}/p2p/{peer}")).await;
        native.echo(&peer, 1 << 20).await;
        page.close().await;
        server.shutdown().await;
    }
}
