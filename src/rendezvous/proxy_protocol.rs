//! The header of the PROXY protocol. With it, a trusted proxy names the client whose connection it hands over, before
//! anything else is sent.
//!
//! Version 1 is a line of text, version 2 is binary. A library parses the header, but its length is determined here, so
//! that not a byte after it is read. So TLS and HTTP begin on the bare socket, as they always do.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::TcpStream,
};

use super::{admission::Place, house::House};
use crate::{runtime::now, words::Words};

/// The beginning of a version 1 header.
const TEXT: &[u8] = b"PROXY ";
/// The length of the shortest version 1 header, in bytes.
const SHORTEST_TEXT: usize = b"PROXY UNKNOWN\r\n".len();
/// The length of the longest version 1 header, in bytes: the specification, section 2.1.
const LONGEST_TEXT: usize = 107;
/// The beginning of a version 2 header.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The byte after that if the connection is the proxy's own: version 2, command `LOCAL`.
const LOCAL: u8 = 0x20;
/// The length of the fixed part of a version 2 header, in bytes. It ends with the number of bytes that follow.
const BINARY_START: usize = 16;
/// The maximum number of bytes that may follow: addresses of up to 216 bytes, and additional data of proxies, such as
/// the name that the client asked for, which is at most a quarter of a kilobyte.
const LONGEST_REST: usize = 520;
/// The capacity for a header with addresses and nothing else, in bytes.
const TYPICAL: usize = 64;

/// The owner of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A client at this address.
    Client(IpAddr),
    /// The proxy itself, for a health check, or a client that has no IP address.
    Proxy,
}

/// The reason why a connection of a proxy is not served.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error("the connection does not begin with a PROXY protocol header")]
    Missing,
    #[error("the PROXY protocol header is longer than {0} bytes")]
    TooLong(usize),
    #[error("the PROXY protocol header is malformed")]
    Malformed,
    #[error("the PROXY protocol header did not arrive in time")]
    TimedOut,
    #[error("the connection ended before the end of its PROXY protocol header: {0}")]
    Ended(#[from] io::Error),
}

/// Reads the header of a trusted proxy's connection, and makes the connection count for the client that it names.
/// Returns the address that the connection comes from. This may be another proxy, which names the client in its
/// requests. `None` if the connection is not to be served.
pub(super) async fn take(
    stream: &mut TcpStream,
    remote: SocketAddr,
    place: &mut Place,
    house: &House,
) -> Option<IpAddr> {
    let read = house.in_time(read(stream)).await?;
    let client = match read.unwrap_or(Err(HeaderError::TimedOut)) {
        Ok(Source::Client(client)) if house.config().trusted_proxies().contain(client) => {
            return Some(client);
        }
        Ok(Source::Client(client)) => client,
        // From here on the connection does not count as a proxy's: a proxy that only passes on bytes also passes on
        // what a client writes into `X-Forwarded-For`.
        Ok(Source::Proxy) => remote.ip(),
        Err(error) => {
            refuse(&error, remote, place);
            return None;
        }
    };
    match place.set_source(client, now()) {
        Ok(()) => Some(client),
        Err(reason) => {
            tracing::debug!(%remote, %client, %reason, "a connection through a proxy is refused");
            None
        }
    }
}

fn refuse(error: &HeaderError, remote: SocketAddr, place: &Place) {
    match error {
        // A connection that ends early is no reason for a warning: it may only have checked whether the port is open.
        HeaderError::Ended(_) => {
            tracing::debug!(%remote, error = %Words(error), "a connection of a trusted proxy failed");
        }
        error => {
            if let Some(left_out) = place.refuse_header(now()) {
                tracing::warn!(%remote, %error, left_out, "a connection of a trusted proxy is refused");
            }
        }
    }
}

/// Reads a header, and not a byte after it.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Source, HeaderError> {
    let mut header = Vec::with_capacity(TYPICAL);
    loop {
        let missing = missing(&header)?;
        if missing == 0 {
            return parse(&header);
        }
        let mut rest = (&mut *stream).take(missing as u64);
        if rest.read_buf(&mut header).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Returns how many bytes are missing at least from a header that begins like this; 0 if it is complete.
fn missing(header: &[u8]) -> Result<usize, HeaderError> {
    let begins_as = |whole: &[u8]| whole.starts_with(header) || header.starts_with(whole);
    let (missing, longest) = if begins_as(TEXT) {
        (missing_of_text(header), LONGEST_TEXT)
    } else if begins_as(BINARY) {
        (missing_of_binary(header), BINARY_START + LONGEST_REST)
    } else {
        return Err(HeaderError::Missing);
    };
    match header.len() + missing <= longest {
        true => Ok(missing),
        false => Err(HeaderError::TooLong(longest)),
    }
}

fn missing_of_text(header: &[u8]) -> usize {
    match header {
        [.., b'\r', b'\n'] => 0,
        [.., b'\r'] => 1,
        _ => SHORTEST_TEXT.saturating_sub(header.len()).max(2),
    }
}

fn missing_of_binary(header: &[u8]) -> usize {
    let whole = match header.get(BINARY_START - 2..BINARY_START) {
        Some(&[high, low]) => BINARY_START + usize::from(u16::from_be_bytes([high, low])),
        _ => BINARY_START,
    };
    whole.saturating_sub(header.len())
}

fn parse(header: &[u8]) -> Result<Source, HeaderError> {
    // The bytes after this have no meaning: the specification, section 2.2.
    if header.starts_with(BINARY) && header.get(BINARY.len()) == Some(&LOCAL) {
        return Ok(Source::Proxy);
    }
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let (parsed, len) = ProxyHeader::parse(header, config).map_err(|_| HeaderError::Malformed)?;
    if len != header.len() {
        return Err(HeaderError::Malformed);
    }
    Ok(match parsed.proxied_address() {
        Some(address) => Source::Client(address.source.ip().to_canonical()),
        None => Source::Proxy,
    })
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;
