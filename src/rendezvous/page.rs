//! The page at `/`. It shows the address to copy and the number of peers.

use std::{net::Ipv6Addr, sync::LazyLock};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};

use crate::address;

const TEMPLATE: &str = include_str!("page.html");
const ADDRESS: &str = "{{address}}";
const PEERS: &str = "{{peers}}";

/// Returns the address of the rendezvous for the `Host` that a browser asked for; `None` if no address can have that
/// host.
pub(super) fn address(host: &str, secure: bool) -> Option<String> {
    let (name, port) = match host.rsplit_once(':') {
        // The colon is not part of an IPv6 address.
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()?),
        _ => (host, if secure { 443_u16 } else { 80 }),
    };
    let base = if let Some(ip) = name.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')) {
        format!("/ip6/{}", ip.parse::<Ipv6Addr>().ok()?)
    } else if name.parse::<std::net::Ipv4Addr>().is_ok() {
        format!("/ip4/{name}")
    } else if is_name(name) {
        // The deployed clients use `/dns4`.
        format!("/dns4/{name}")
    } else {
        return None;
    };
    let scheme = if secure { "wss" } else { "ws" };
    Some(format!("{base}/tcp/{port}/{scheme}/p2p-websocket-star"))
}

fn is_name(name: &str) -> bool {
    name.is_ascii() && address::is_name(name)
}

/// Returns the page. An address from [`address`] has no character that is special in HTML.
pub(super) fn html(address: Option<&str>, peers: usize) -> String {
    let address = address.unwrap_or("to see the address, open this page by the name of the server");
    TEMPLATE
        .replace(ADDRESS, address)
        .replace(PEERS, &peers.to_string())
}

/// Returns the policy of the page: it may use its own style and script, and ask this server. It allows nothing else.
pub(super) fn content_security_policy() -> HeaderValue {
    static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
        let style = hash_of("style")?;
        let script = hash_of("script")?;
        HeaderValue::try_from(format!(
            "default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ))
        .ok()
    });
    let nothing = HeaderValue::from_static("default-src 'none'");
    POLICY.clone().unwrap_or(nothing)
}

/// Returns the hash by which the policy allows the one inline element of that name.
fn hash_of(element: &str) -> Option<String> {
    let (_, content) = TEMPLATE.split_once(&format!("<{element}>"))?;
    let (content, _) = content.split_once(&format!("</{element}>"))?;
    let hash = BASE64_STANDARD.encode(Sha256::digest(content));
    Some(format!("sha256-{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_becomes_the_address_that_clients_listen_on() {
        for (host, secure, expected) in [
            ("star.example", true, "/dns4/star.example/tcp/443/wss"),
            ("star.example", false, "/dns4/star.example/tcp/80/ws"),
            ("localhost:9090", false, "/dns4/localhost/tcp/9090/ws"),
            ("127.0.0.1:9090", false, "/ip4/127.0.0.1/tcp/9090/ws"),
            ("[::1]:9090", true, "/ip6/::1/tcp/9090/wss"),
            ("[::1]", true, "/ip6/::1/tcp/443/wss"),
        ] {
            let address = address(host, secure).expect("an address");
            assert_eq!(address, format!("{expected}/p2p-websocket-star"));
            assert!(crate::StarAddr::from_wire(&address).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_host_that_is_none_shows_no_address() {
        let hosts = [
            "", ":80", "a b", "a..b", "é", "<script>", "a/b", "a\"b:1", "[x]:1", "a:99999", "[::1",
            "a&b",
        ];
        for host in hosts {
            assert_eq!(address(host, false), None, "{host}");
        }
    }

    #[test]
    fn the_page_has_the_address_the_count_and_a_policy_for_both_inline_parts() {
        let html = html(Some("/dns4/star.example"), 42);
        assert!(html.contains(">/dns4/star.example<"), "{html}");
        assert!(html.contains(">42<"), "{html}");
        assert!(!html.contains("{{"), "{html}");
        assert!(
            !html.contains("://"),
            "loads something from elsewhere: {html}"
        );
        let policy = content_security_policy();
        let policy = policy.to_str().expect("ASCII");
        assert_eq!(policy.matches("sha256-").count(), 2, "{policy}");
    }
}
