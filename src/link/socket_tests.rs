use super::{imp::connect_to, *};
use crate::{StarAddr, link::connect};

/// Does the upgrade and opens the link once, as a rendezvous does.
async fn serve(listener: &tokio::net::TcpListener) -> Option<()> {
    let (tcp, _) = listener.accept().await.ok()?;
    let builder = tokio_websockets::ServerBuilder::new();
    let (_, mut ws) = builder.accept(tcp).await.ok()?;
    for text in [r#"0{"sid":"a","pingInterval":1,"pingTimeout":1}"#, "40"] {
        let message = tokio_websockets::Message::text(text);
        futures::SinkExt::send(&mut ws, message).await.ok()?;
    }
    Some(())
}

/// The addresses that `/etc/hosts` may contain: `::1` leads nowhere, and the rendezvous is at `127.0.0.1`.
#[tokio::test]
async fn a_link_is_opened_over_the_other_family_which_the_next_one_tries_first() {
    let base = "/dns/star.test/tcp/80/ws/p2p-websocket-star";
    let star = StarAddr::from_wire(base).expect("valid");
    let config = Config::default().with_connect_timeout(Duration::from_secs(20));
    let config = SocketConfig::new(&config);
    let (hole, _queued, _full) = connect::tests::black_hole("::1").await;
    let good = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let good = good.expect("a free port");
    let addresses = [hole, good.local_addr().expect("bound")];
    let mut routes = Routes::default();
    assert_eq!(routes.order(&addresses), addresses);
    for _ in 0..2 {
        let deadline = Deadline::after(config.connect_timeout);
        let opening = async {
            let to = star.rendezvous();
            let (ws, route) = connect_to(to, &config, &mut routes, &deadline, &addresses).await?;
            begin(ws, &deadline).await?;
            Ok::<_, LinkError>(route)
        };
        let (opened, served) = futures::future::join(opening, serve(&good)).await;
        routes.good(opened.expect("open"));
        served.expect("served");
        assert_eq!(routes.order(&addresses), [addresses[1], addresses[0]]);
    }
}
