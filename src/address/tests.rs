use super::*;

const PEER: &str = "QmUzRSwRPKR984hfoKgGJnUqcSkzak3sYYQUjQhATZWa1t";

fn parse(text: &str) -> Result<StarAddr, AddressError> {
    StarAddr::try_from(&text.parse::<Multiaddr>().expect("a multiaddr"))
}

#[test]
fn every_base_gives_its_url_and_both_forms() {
    for (text, url, wire) in [
        ("/ip4/10.0.0.1/tcp/9090/ws", "ws://10.0.0.1:9090", None),
        ("/ip4/10.0.0.1/tcp/80/ws", "ws://10.0.0.1", None),
        ("/ip4/10.0.0.1/tcp/443/ws", "ws://10.0.0.1:443", None),
        ("/ip6/::1/tcp/443/wss", "wss://[::1]", None),
        ("/ip6/fe80::1/tcp/80/wss", "wss://[fe80::1]:80", None),
        ("/dns/star.example/tcp/443/wss", "wss://star.example", None),
        ("/dns4/star.example/tcp/80/ws", "ws://star.example", None),
        ("/dns6/star.example/tcp/81/ws", "ws://star.example:81", None),
        (
            "/dnsaddr/star.example/tcp/81/ws",
            "ws://star.example:81",
            None,
        ),
        (
            "/dns4/star.example/tcp/443/tls/ws",
            "wss://star.example",
            Some("/dns4/star.example/tcp/443/wss"),
        ),
    ] {
        for peer in ["", PEER] {
            let (p2p, ipfs) = match peer {
                "" => (String::new(), String::new()),
                peer => (format!("/p2p/{peer}"), format!("/ipfs/{peer}")),
            };
            let addr = parse(&format!("{text}/p2p-websocket-star{p2p}")).expect(text);
            let base = format!("{}/p2p-websocket-star", wire.unwrap_or(text));
            assert_eq!(addr.rendezvous().to_string(), url);
            assert_eq!(addr.to_multiaddr().to_string(), format!("{base}{p2p}"));
            assert_eq!(addr.to_wire(), format!("{base}{ipfs}"));
            assert_eq!(StarAddr::from_wire(&addr.to_wire()), Ok(addr));
        }
    }
}

#[test]
fn the_ipfs_form_is_understood_as_the_p2p_form() {
    let base = "/ip4/10.0.0.1/tcp/9090/ws/p2p-websocket-star";
    assert_eq!(
        parse(&format!("{base}/ipfs/{PEER}")),
        parse(&format!("{base}/p2p/{PEER}"))
    );
}

#[test]
fn a_peers_own_spelling_is_kept_for_the_wire_only() {
    for spelling in [
        format!("/ip4/127.0.0.1/tcp/08080/ws/p2p-websocket-star/ipfs/{PEER}"),
        format!("/ip6/0:0:0:0:0:0:0:1/tcp/80/ws/p2p-websocket-star/ipfs/{PEER}"),
    ] {
        let addr = StarAddr::from_wire(&spelling).expect("valid");
        assert!(addr.spelling.is_some());
        assert_eq!(addr.to_wire(), spelling);
        assert_ne!(addr.to_multiaddr().to_string(), spelling);
        assert_eq!(
            parse(&addr.to_multiaddr().to_string()).map(|a| a.spelling),
            Ok(None)
        );
    }
}

#[test]
fn names_are_one_however_they_are_written_and_their_spelling_is_kept_for_the_wire() {
    let rest = format!("p2p-websocket-star/ipfs/{PEER}");
    for (written, plain) in [
        ("/dns4/Star.EXAMPLE/tcp/1/ws", "/dns4/star.example/tcp/1/ws"),
        (
            "/dns/star.example./tcp/1/wss",
            "/dns/star.example/tcp/1/wss",
        ),
        (
            "/dns6/BÜCHER.example./tcp/1/ws",
            "/dns6/bÜcher.example/tcp/1/ws",
        ),
        (
            "/ip4/10.0.0.1/tcp/1/tls/sni/Star.example./ws",
            "/ip4/10.0.0.1/tcp/1/tls/sni/star.example/ws",
        ),
    ] {
        let [written, plain] = [written, plain].map(|base| format!("{base}/{rest}"));
        let addr = parse(&written).expect("valid");
        let same = parse(&plain).expect("valid");
        assert_eq!(addr.rendezvous(), same.rendezvous());
        assert_eq!(addr.to_multiaddr(), same.to_multiaddr());
        assert_eq!(same.spelling, None);
        assert_ne!(addr.to_wire(), same.to_wire());
        if !written.contains("sni") {
            assert_eq!(addr.to_wire(), written);
            assert_eq!(StarAddr::from_wire(&written), Ok(addr));
        }
    }
}

#[test]
fn other_transports_addresses_are_not_ours() {
    let star = "/ip4/1.2.3.4/tcp/1/ws/p2p-websocket-star";
    for text in [
        "/ip4/1.2.3.4/tcp/1/ws",
        "/ip4/1.2.3.4/udp/1/quic-v1",
        "",
        &format!("{star}/p2p-circuit"),
        &format!("{star}/p2p/{PEER}/p2p-circuit"),
        &format!("{star}/p2p/{PEER}/p2p-circuit/p2p/{PEER}"),
        &format!("{star}/p2p/{PEER}/webrtc"),
        &format!("{star}/ws"),
        &format!("/ip4/1.2.3.4/tcp/1/p2p/{PEER}/p2p-circuit{star}"),
        "/p2p-circuit/p2p-websocket-star",
    ] {
        assert_eq!(parse(text), Err(AddressError::NotWebsocketStar), "{text}");
    }
}

#[test]
fn a_name_for_tls_apart_from_the_host_is_the_servers() {
    for (text, wire) in [
        ("/ip4/10.0.0.1/tcp/443", "/dns4/star.example/tcp/443"),
        ("/ip6/::1/tcp/443", "/dns6/star.example/tcp/443"),
        ("/dns/other.example/tcp/443", "/dns/star.example/tcp/443"),
        ("/dns4/other.example/tcp/444", "/dns4/star.example/tcp/444"),
    ] {
        let text = format!("{text}/tls/sni/star.example/ws/p2p-websocket-star");
        let addr = parse(&text).expect("valid");
        assert_eq!(addr.rendezvous().server_name(), Some("star.example"));
        assert!(addr.rendezvous().is_secure());
        assert_eq!(addr.to_multiaddr().to_string(), text);
        assert_eq!(addr.to_wire(), format!("{wire}/wss/p2p-websocket-star"));
    }
    let addr = parse("/ip4/10.0.0.1/tcp/443/tls/sni/star.example/ws/p2p-websocket-star");
    let url = addr.expect("valid").rendezvous().to_string();
    assert_eq!(url, "wss://star.example");
}

#[test]
fn what_a_person_pastes_is_read_with_slashes_at_its_end() {
    let base = "/dns4/star.example/tcp/443/wss/p2p-websocket-star";
    for text in [
        base.to_owned(),
        format!("{base}/"),
        format!(" {base}//\n"),
        format!("{base}/ipfs/{PEER}/"),
    ] {
        let addr: StarAddr = text.parse().expect("valid");
        assert!(addr.to_multiaddr().to_string().starts_with(base));
        assert_eq!(addr.spelling, None);
    }
    let error = "/dns4/star.example/wss/p2p-websocket-star"
        .parse::<StarAddr>()
        .expect_err("no port");
    assert_eq!(
        error.to_string(),
        "the host must be followed by /tcp/<port> (usually /tcp/443 for wss); found `/wss`"
    );
}

#[test]
fn a_malformed_address_names_the_part_that_is_wrong() {
    type Kind = fn(String) -> AddressError;
    let cases: [(&str, Kind, &str); 13] = [
        (
            "/p2p-websocket-star",
            AddressError::Host,
            "/p2p-websocket-star",
        ),
        ("/tcp/1/ws/p2p-websocket-star", AddressError::Host, "/tcp/1"),
        ("/unix/a/p2p-websocket-star", AddressError::Host, "/unix/a"),
        (
            "/ip4/1.2.3.4/p2p-websocket-star",
            AddressError::Port,
            "/p2p-websocket-star",
        ),
        (
            "/ip4/1.2.3.4/tcp/0/ws/p2p-websocket-star",
            AddressError::Port,
            "/tcp/0",
        ),
        (
            "/ip4/1.2.3.4/udp/1/ws/p2p-websocket-star",
            AddressError::Port,
            "/udp/1",
        ),
        (
            "/ip4/1.2.3.4/tcp/1/p2p-websocket-star",
            AddressError::WebSocket,
            "/p2p-websocket-star",
        ),
        (
            "/ip4/1.2.3.4/tcp/1/tls/wss/p2p-websocket-star",
            AddressError::WebSocket,
            "/wss",
        ),
        (
            "/ip4/1.2.3.4/tcp/1/x-parity-ws/%2Fpath/p2p-websocket-star",
            AddressError::WebSocket,
            "/x-parity-ws/%2Fpath",
        ),
        (
            "/ip4/1.2.3.4/tcp/1/tls/sni/a.example/p2p-websocket-star",
            AddressError::WebSocket,
            "/p2p-websocket-star",
        ),
        (
            "/dns4/a.example/wss/p2p-websocket-star",
            AddressError::Port,
            "/wss",
        ),
        (
            "/ip4/1.2.3.4/tcp/1/ws/tls/p2p-websocket-star",
            AddressError::Star,
            "/tls",
        ),
        (
            "/ip4/1.2.3.4/tcp/1/ws/p2p-websocket-star/p2p/QmUzRSwRPKR984hfoKgGJnUqcSkzak3sYYQUjQhATZWa1t/p2p/QmUzRSwRPKR984hfoKgGJnUqcSkzak3sYYQUjQhATZWa1t",
            AddressError::Trailing,
            "/p2p/QmUzRSwRPKR984hfoKgGJnUqcSkzak3sYYQUjQhATZWa1t",
        ),
    ];
    for (text, kind, part) in cases {
        assert_eq!(parse(text), Err(kind(part.to_owned())), "{text}");
    }
}

#[test]
fn a_name_that_is_none_makes_no_address() {
    let refused = |text: String| {
        let named = StarAddr::from_wire(&text).expect_err("refused");
        assert!(matches!(named, AddressError::Name(_)), "{text:?}: {named}");
        assert!(!named.to_string().contains(char::is_control), "{named}");
        let parsed = Multiaddr::from_str(&text).expect("a multiaddr");
        assert_eq!(StarAddr::try_from(&parsed), Err(named));
    };
    for name in ["a\r\nb", "a\u{1b}b", "a b", "a..b", ".", &"a".repeat(64)] {
        for family in ["dns", "dns4", "dns6", "dnsaddr"] {
            refused(format!("/{family}/{name}/tcp/1/ws/p2p-websocket-star"));
        }
        refused(format!(
            "/ip4/1.2.3.4/tcp/1/tls/sni/{name}/ws/p2p-websocket-star"
        ));
    }
    for name in ["bücher.example", "_a.example", "star.example."] {
        let text = format!("/dns4/{name}/tcp/1/ws/p2p-websocket-star");
        let addr = StarAddr::from_wire(&text).expect("valid");
        assert_eq!(addr.to_wire(), text);
    }
}

#[test]
fn a_wire_address_is_bounded() {
    let long = format!("/dns4/{}/tcp/1/ws/p2p-websocket-star", "a".repeat(600));
    assert_eq!(
        StarAddr::from_wire(&long),
        Err(AddressError::TooLong(long.len()))
    );
    assert!(matches!(
        StarAddr::from_wire("no"),
        Err(AddressError::Syntax(_))
    ));
}
