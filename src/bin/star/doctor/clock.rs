//! Compares the clock of this machine with the clock of the HTTP server at the rendezvous. Certificates depend on both.

use std::time::{Duration, SystemTime};

use libp2p_websocket_star::probe::Wire;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{Patient, report::Finding};

/// The difference up to which a clock is right: HTTP dates have whole seconds, and the answer takes time to arrive.
const RIGHT: Duration = Duration::from_secs(60);
/// The difference from which certificates, and everything else with a date, will fail.
const WRONG: Duration = Duration::from_secs(10 * 60);
/// The longest head of an answer, in bytes.
const MAX_HEAD: u64 = 16 * 1024;
const MAX_HEADERS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);
const ADVICE: &str =
    "Set the clock that is wrong, by NTP: certificates, tokens and clusters depend on it";

/// Requests the page `/` and checks the date of the answer; the status does not matter.
pub async fn check(patient: &Patient) -> Finding {
    let asked = async {
        let mut wire = connect(patient).await?;
        ask(&mut wire, patient).await
    };
    match timeout(PATIENCE, asked).await {
        Ok(Some(date)) => judge(date, SystemTime::now()),
        _ => Finding::skipped("the server does not tell the time"),
    }
}

async fn connect(patient: &Patient) -> Option<Wire> {
    let probe = &patient.probe;
    let wire = match probe.proxy().ok()? {
        Some(proxy) => probe.connect_through(&proxy).await.ok()?,
        None => {
            let mut connected = None;
            for addr in probe.resolve().await.ok()? {
                connected = probe.connect(addr).await.ok();
                if connected.is_some() {
                    break;
                }
            }
            connected?
        }
    };
    match patient.star.rendezvous().is_secure() {
        true => Some(probe.encrypt(wire).await.outcome.ok()?.wire),
        false => Some(wire),
    }
}

/// Sends the request and returns the date of the answer.
async fn ask(wire: &mut Wire, patient: &Patient) -> Option<SystemTime> {
    let url = patient.star.rendezvous().to_string();
    let (_, authority) = url.split_once("://")?;
    let request = format!("GET / HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    wire.write_all(request.as_bytes()).await.ok()?;
    wire.flush().await.ok()?;
    let mut answer = Vec::new();
    let mut limited = wire.take(MAX_HEAD);
    while limited.read_buf(&mut answer).await.ok()? > 0 {
        if let Some(date) = date(&answer) {
            return Some(date);
        }
    }
    None
}

/// Returns the date in the head of an answer, as soon as the head is complete.
fn date(answer: &[u8]) -> Option<SystemTime> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    if !response.parse(answer).ok()?.is_complete() {
        return None;
    }
    let mut headers = response.headers.iter();
    let date = headers.find(|header| header.name.eq_ignore_ascii_case("Date"))?;
    let date = std::str::from_utf8(date.value).ok()?;
    httpdate::parse_http_date(date).ok()
}

fn judge(theirs: SystemTime, ours: SystemTime) -> Finding {
    let (apart, which) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let seen = format!(
        "this machine is {} s {which} the rendezvous",
        apart.as_secs()
    );
    match apart {
        apart if apart <= RIGHT => {
            Finding::ok("this machine and the rendezvous have the same time")
        }
        apart if apart < WRONG => Finding::warning(seen, ADVICE),
        _ => Finding::failed(seen, ADVICE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_read_when_the_head_is_whole() {
        let answer = "HTTP/1.1 404 Not Found\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nx";
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for end in 0..answer.len() - 1 {
            assert_eq!(date(&answer.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(date(answer.as_bytes()), Some(expected));
        for nothing in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nDate: today\r\n\r\n",
            "SSH-2.0-x\r\n",
        ] {
            assert_eq!(date(nothing.as_bytes()), None, "{nothing}");
        }
    }
}
