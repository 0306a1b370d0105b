//! Advice on what to do about an error.

use std::io::ErrorKind;

use libp2p_websocket_star::error::{
    Cause, DialError, JoinError, JoinRefusal, LinkError, ProxyError, UpgradeError,
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
            "Check the name for a typing error. If other names cannot be resolved either, check DNS"
        }
        LinkError::NoAddress(_) => {
            "Use /dns/ instead of /dns4/ or /dns6/, or give the name an address of that family"
        }
        LinkError::Proxy { error, .. } => of_proxy(error),
        LinkError::Connect(error) => of_connect(error.kind()),
        LinkError::Tls(error) | LinkError::TlsWithoutName(error) => of_tls(error),
        LinkError::NotTls(_) => "Use ws instead of wss, or the port for wss",
        LinkError::TlsHandshake(_) => {
            "The server closes the connection during the TLS handshake: check that this is the port for wss, and that the server has this name"
        }
        LinkError::Upgrade(error) => of_upgrade(error),
        LinkError::TimedOut { .. } => {
            "There is no answer in time: a firewall drops the packets, the server hangs, or --timeout is too short"
        }
        LinkError::Protocol(_) | LinkError::WebSocket(_) | LinkError::MessageTooLong { .. } => {
            "The WebSocket service there is not a rendezvous: check the address, and the target of the reverse proxy if there is one"
        }
        LinkError::Closed(_) | LinkError::Restarting => {
            "The rendezvous closed the link: check its log, and try again"
        }
        _ => "Try again, and check the log of the rendezvous",
    }
}

fn of_connect(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ConnectionRefused => {
            "Nothing listens there: check that the rendezvous runs, and that the port is right. In a restricted network, a proxy may be needed (--proxy)"
        }
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => {
            "There is no route to this address: check that this machine is online, and that it has IPv4 or IPv6, as the address needs"
        }
        _ => {
            "Something on the way blocks the connection: a firewall, or a network that requires a proxy (--proxy)"
        }
    }
}

fn of_proxy(error: &ProxyError) -> &'static str {
    match error {
        ProxyError::Resolve(_) => {
            "Check the name of the proxy in --proxy, HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
        }
        ProxyError::Connect(_) => {
            "The proxy does not answer: check its address and port, or use no proxy (--no-proxy)"
        }
        ProxyError::Tls(_) => {
            "Trust the proxy's certificate authority with --root-certificate, or use http:// for the proxy"
        }
        ProxyError::Credentials { given: false } => {
            "Give the proxy a user name and a password, for example in HTTPS_PROXY: http://user:password@proxy.example:3128"
        }
        ProxyError::Credentials { given: true } => {
            "The user name or the password for the proxy is wrong"
        }
        ProxyError::Refused { status: 403, .. } => {
            "The proxy does not allow this connection: many proxies allow port 443 only. Ask its operator to allow this host and port"
        }
        ProxyError::Refused { status: 500.., .. } => {
            "The proxy cannot reach the rendezvous: check that the rendezvous runs, and that the proxy can resolve its name"
        }
        ProxyError::Refused { .. } | ProxyError::Socks(_) => {
            "Ask the operator of the proxy why it refuses this host and port"
        }
        ProxyError::NoProxy(_) => {
            "The server there is not a proxy of this kind: check the port, and whether it must be http:// or socks5://"
        }
        ProxyError::Token => "Use an address with wss: with ws, the proxy could read the token",
        _ => "Check the proxy, or use no proxy (--no-proxy)",
    }
}

fn of_tls(error: &Cause) -> &'static str {
    let error = error.get_ref().downcast_ref();
    let Some(rustls::Error::InvalidCertificate(error)) = error else {
        return "The server and this node cannot agree on TLS: the server may be too old, or a proxy on the way may inspect TLS";
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "Renew the certificate. If it has been renewed already, reload it in the server. If the date of this machine is wrong, set the clock"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "Set the clock of this machine, or wait until the certificate is valid"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "Use the name that the certificate is for, or get a certificate for this name. An address without a name needs /tls/sni/<name>/ws"
        }
        CertificateError::UnknownIssuer => {
            "If you trust the issuer, give its certificate with --root-certificate; a proxy that inspects TLS has its own issuer. Otherwise, check whether the server sends its intermediate certificates"
        }
        CertificateError::Revoked => "Get another certificate",
        _ => {
            "Get a certificate for a server: the certificate of an authority cannot be used for one"
        }
    }
}

fn of_upgrade(error: &UpgradeError) -> &'static str {
    match error {
        UpgradeError::Status { status, .. } => of_status(*status),
        UpgradeError::Tls => "Use wss instead of ws, or the port for ws",
        UpgradeError::NotHttp(_) => "The service on this port does not speak HTTP: check the port",
        UpgradeError::Header(_) => {
            "Something on the way changes headers, or the service there is not a rendezvous: check the reverse proxy"
        }
        UpgradeError::HungUp | UpgradeError::Io(_) => {
            "The connection is closed at the WebSocket upgrade, by a firewall that inspects HTTP or by a service of another kind. wss passes most firewalls"
        }
        _ => "The service there is not a rendezvous",
    }
}

fn of_status(status: u16) -> &'static str {
    match status {
        200..=299 => {
            "The answer is a web page: the reverse proxy does not pass on /socket.io/ to the rendezvous, or leaves out the headers Upgrade and Connection"
        }
        300..=399 => {
            "The server redirects to another address: check whether wss is needed instead of ws, and whether the rendezvous has moved"
        }
        400 => {
            "The server does not accept the WebSocket: a reverse proxy does not pass on the headers Upgrade and Connection, or the server is not a rendezvous"
        }
        401 | 407 => "Something on the way asks for credentials: a reverse proxy, or another proxy",
        403 => "The rendezvous or a reverse proxy refuses clients from here: ask the operator",
        404 | 405 | 410 => {
            "There is no rendezvous at this address: check the host and the port, and the target of the reverse proxy if there is one"
        }
        421 => {
            "The rendezvous does not serve this name: use one of its public names, or a host of one of its tenants"
        }
        426 => "The server asks for another version of WebSocket or HTTP: it is not a rendezvous",
        429 => {
            "Too many links or requests come from this IPv4 address or IPv6 /64: wait, or ask the operator to raise the limit"
        }
        502 | 504 => {
            "The reverse proxy is up, but the rendezvous behind it is not: start the rendezvous, or check the target of the proxy"
        }
        503 => {
            "The rendezvous is full or about to stop, or it is down behind a reverse proxy: try again, or ask the operator to raise its limits"
        }
        500..=599 => "The server has failed: check its log",
        _ => "There is no rendezvous at this address",
    }
}

/// Returns the advice for a join that failed.
pub fn of_join(error: &JoinError) -> &'static str {
    match error {
        JoinError::Refused(_) => of_refusal(error),
        JoinError::ChallengeDisabled => {
            "Ask the operator to enable the challenge. With --allow-disabled-challenge the node joins anyway, but then anyone can take its address"
        }
        JoinError::TimedOut(_) => {
            "The rendezvous accepts links but does not answer: check its log, and try again"
        }
        JoinError::Displaced => "Another node runs with the same identity: give each node its own",
        JoinError::InvalidNonce | JoinError::ForeignNonce => {
            "Do not use this rendezvous: it asks this node to sign something that no rendezvous needs"
        }
        _ => "Try again, and check the log of the rendezvous",
    }
}

fn of_refusal(error: &JoinError) -> &'static str {
    match error.refusal() {
        Some(JoinRefusal::Address) => {
            "Use an address with one of its public names, as its page shows them. Or ask the operator to add this name with --public-name"
        }
        Some(JoinRefusal::NotAllowed) if error.retry_after().is_some() => {
            "Give a token (STAR_TOKEN or --token-file), or ask the operator to allow this peer id. Or try again when that time is over"
        }
        Some(JoinRefusal::NotAllowed) => {
            "Ask the operator to allow this peer id (--identity keeps one), or give a token (STAR_TOKEN or --token-file)"
        }
        Some(JoinRefusal::Identity) => {
            "The rendezvous does not accept this kind of key or address: use an ed25519 identity, and the address that its page shows"
        }
        Some(JoinRefusal::TooMany) => {
            "Wait a moment: too many nodes join from this IPv4 address or IPv6 /64"
        }
        _ => "Ask the operator of the rendezvous",
    }
}

/// Returns the advice for a failed dial from one of the two test nodes to the other.
pub fn of_dial(error: &DialError) -> &'static str {
    match error {
        DialError::PeerNotFound => {
            "The rendezvous does not find a node that has joined: check whether several servers without a common directory share this address"
        }
        DialError::TimedOut(_) => {
            "The rendezvous does not deliver dials in time: check whether it is overloaded"
        }
        DialError::Join(error) => of_join(error),
        DialError::Refused(_) => {
            "Ask the operator of the rendezvous, or try again later: a quota may be used up"
        }
        _ => "Try again, and check the log of the rendezvous",
    }
}
