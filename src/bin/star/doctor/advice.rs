//! Advice on what to do about an error.

use std::io::ErrorKind;

use libp2p_websocket_star::error::{
    DialError, JoinError, JoinRefusal, LinkError, ProxyError, UpgradeError,
};
use tokio_rustls::rustls::{self, CertificateError};

/// Returns the message of an error on the way to a rendezvous, without the advice that some messages contain.
pub fn seen(error: &LinkError) -> String {
    match error {
        LinkError::NotTls(_) => "the server does not speak TLS on this port".to_owned(),
        LinkError::Upgrade(error) if matches!(**error, UpgradeError::Tls) => {
            "the server speaks TLS on this port".to_owned()
        }
        error => error.to_string(),
    }
}

/// Returns the advice for an error on the way to a rendezvous.
pub fn of_link(error: &LinkError) -> &'static str {
    match error {
        LinkError::Resolve { .. } => {
            "Look for a typing error in the name, and whether other names are found: does the DNS work?"
        }
        LinkError::NoAddress(_) => {
            "Take /dns/ in place of /dns4/ or /dns6/, or have the name get such an address"
        }
        LinkError::Proxy { error, .. } => of_proxy(error),
        LinkError::Connect(error) => of_connect(error.kind()),
        LinkError::Tls(error) | LinkError::TlsWithoutName(error) => of_tls(error),
        LinkError::NotTls(_) => "Take ws in place of wss, or the port that wss has",
        LinkError::TlsHandshake(_) => {
            "Whoever answers hangs up on TLS: is it the port for wss, and does the server know this name?"
        }
        LinkError::Upgrade(error) => of_upgrade(error),
        LinkError::TimedOut { .. } => {
            "Nobody answers in time: a firewall drops it, the server hangs, or --timeout is too short"
        }
        LinkError::Protocol(_) | LinkError::WebSocket(_) | LinkError::MessageTooLong { .. } => {
            "Another WebSocket service answers than a rendezvous: look at the address, or at where a reverse proxy leads"
        }
        LinkError::Closed(_) | LinkError::Restarting => {
            "The rendezvous hung up: look at its log, and try again"
        }
        _ => "Try again, and look at the log of the rendezvous",
    }
}

fn of_connect(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ConnectionRefused => {
            "Nobody listens there: is the rendezvous running, and the port right? Behind a strict network, a proxy may be needed (--proxy)"
        }
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => {
            "No route leads there: is this machine online, and has it IPv4 or IPv6 as the address wants?"
        }
        _ => {
            "Something on the way does not let it through: a firewall, or a network that wants a proxy (--proxy)"
        }
    }
}

fn of_proxy(error: &ProxyError) -> &'static str {
    match error {
        ProxyError::Resolve(_) => {
            "Look at the name of the proxy: --proxy, HTTPS_PROXY, HTTP_PROXY, ALL_PROXY"
        }
        ProxyError::Connect(_) => {
            "Nobody answers as the proxy: look at its address and port, or leave it out with --no-proxy"
        }
        ProxyError::Tls(_) => {
            "Trust the proxy's authority with --root-certificate, or take http:// for the proxy"
        }
        ProxyError::Credentials { given: false } => {
            "Give the proxy a user name and a password, in HTTPS_PROXY for example: http://user:password@proxy.example:3128"
        }
        ProxyError::Credentials { given: true } => {
            "The user name or the password for the proxy is wrong"
        }
        ProxyError::Refused { status: 403, .. } => {
            "The proxy does not allow it: many let through port 443 only; have whoever runs it allow this host and port"
        }
        ProxyError::Refused { status: 500.., .. } => {
            "The proxy cannot reach the rendezvous: is that running, and can the proxy find its name?"
        }
        ProxyError::Refused { .. } | ProxyError::Socks(_) => {
            "Ask whoever runs the proxy why it refuses this host and port"
        }
        ProxyError::NoProxy(_) => {
            "What answers is no such proxy: look at its port, and whether it is http:// or socks5://"
        }
        ProxyError::Token => "Take the address with wss: the proxy would read the token",
        _ => "Look at the proxy, or leave it out with --no-proxy",
    }
}

fn of_tls(error: &rustls::Error) -> &'static str {
    let rustls::Error::InvalidCertificate(error) = error else {
        return "The server does not agree on TLS with us: it may be an old one, or a proxy that inspects TLS";
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "Renew the certificate; if it was renewed, have the server load it. If the date here is wrong, set the clock"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "Set the clock of this machine, or wait until the certificate is valid"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "Take the name that the certificate is for, or get one for this name. An address without a name needs /tls/sni/<name>/ws"
        }
        CertificateError::UnknownIssuer => {
            "If you trust the issuer, give its certificate with --root-certificate; a proxy that inspects TLS has one of its own. Else the server may leave out an intermediate certificate"
        }
        CertificateError::Revoked => "Get another certificate",
        _ => "Get a certificate that is a server's own: an authority's certificate is none",
    }
}

fn of_upgrade(error: &UpgradeError) -> &'static str {
    match error {
        UpgradeError::Status { status, .. } => of_status(*status),
        UpgradeError::Tls => "Take wss in place of ws, or the port that ws has",
        UpgradeError::NotHttp(_) => {
            "Another service than HTTP answers on this port: look at the port"
        }
        UpgradeError::Header(_) => {
            "Whatever stands between changes headers, or another service than a rendezvous answers: look at the reverse proxy"
        }
        UpgradeError::HungUp | UpgradeError::Io(_) => {
            "Whoever answers hangs up on a WebSocket: a firewall that inspects HTTP, or a service of another kind; wss passes most"
        }
        _ => "Another service than a rendezvous answers",
    }
}

fn of_status(status: u16) -> &'static str {
    match status {
        200..=299 => {
            "A web page answers: the reverse proxy does not pass on /socket.io/ to the rendezvous, or not the headers Upgrade and Connection"
        }
        300..=399 => {
            "Another address answers for it: is it wss in place of ws, or has the rendezvous moved?"
        }
        400 => {
            "It takes no WebSocket from us: a reverse proxy that does not pass on the headers Upgrade and Connection, or no rendezvous"
        }
        401 | 407 => {
            "It wants credentials before it passes on anything: a reverse proxy, or a proxy on the way"
        }
        403 => "Whoever runs it, or a reverse proxy, lets nobody in from here",
        404 | 405 | 410 => {
            "No rendezvous answers there: look at the host and the port, or at where the reverse proxy leads"
        }
        421 => "It does not go by this name: take one of its public names or tenants' hosts",
        426 => "It wants another version of WebSocket or HTTP: no rendezvous",
        429 => {
            "Too many links or requests come from this address of the Internet: wait, or have the limit raised"
        }
        502 | 504 => {
            "The reverse proxy is up, and the rendezvous behind it is not: start that, or look at where the proxy leads"
        }
        503 => {
            "It is full or about to stop, or the rendezvous behind a reverse proxy is down: try again, or have its limits raised"
        }
        500..=599 => "It has failed: look at its log",
        _ => "No rendezvous answers there",
    }
}

/// Returns the advice for a join that failed.
pub fn of_join(error: &JoinError) -> &'static str {
    match error {
        JoinError::Refused(_) => of_refusal(error),
        JoinError::ChallengeDisabled => {
            "Have its challenge enabled; or allow it with --allow-disabled-challenge, and know that anybody can take this node's address"
        }
        JoinError::TimedOut(_) => {
            "It takes links, and does not answer: look at its log, and try again"
        }
        JoinError::Displaced => "Another node runs with the same identity: give each its own",
        JoinError::InvalidNonce | JoinError::ForeignNonce => {
            "Do not use this rendezvous: it asks for a signature that it should not want"
        }
        _ => "Try again, and look at the log of the rendezvous",
    }
}

fn of_refusal(error: &JoinError) -> &'static str {
    match error.refusal() {
        Some(JoinRefusal::Address) => {
            "Take the address with one of its public names, as its page shows it; or have it started with --public-name for this one"
        }
        Some(JoinRefusal::NotAllowed) if error.retry_after().is_some() => {
            "Show the token that it wants (STAR_TOKEN or --token-file), or have this peer id put on its list; or come again then"
        }
        Some(JoinRefusal::NotAllowed) => {
            "Have this peer id let in by whoever runs it (--identity keeps one), or show a token (STAR_TOKEN or --token-file)"
        }
        Some(JoinRefusal::Identity) => {
            "It does not take this kind of key or address: take an ed25519 identity, and the address as its page shows it"
        }
        Some(JoinRefusal::TooMany) => {
            "Wait a moment: too many join from this address of the Internet"
        }
        _ => "Ask whoever runs it",
    }
}

/// Returns the advice for a failed dial from one of the two test nodes to the other.
pub fn of_dial(error: &DialError) -> &'static str {
    match error {
        DialError::PeerNotFound => {
            "The rendezvous lets nodes join and loses them: is it several without a common directory?"
        }
        DialError::TimedOut(_) => {
            "The rendezvous does not pass on dials in time: is it overloaded?"
        }
        DialError::Join(error) => of_join(error),
        DialError::Refused(_) => "Ask whoever runs it, or come again: a quota may be used up",
        _ => "Try again, and look at the log of the rendezvous",
    }
}
