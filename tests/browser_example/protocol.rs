//! The file protocol over an in-memory stream.

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::join};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::{
    native::{Bytes, Received},
    support::within,
    transfer::{CHUNK, Error, Name, NameError, Refusal, Sink, Source, incoming, offer},
};

fn pair() -> (
    Compat<tokio::io::DuplexStream>,
    Compat<tokio::io::DuplexStream>,
) {
    let (one, other) = tokio::io::duplex(1000);
    (one.compat(), other.compat())
}

fn name() -> Name {
    Name::new("a file.txt").expect("a name")
}

fn nothing() -> Received {
    Received {
        name: String::new(),
        bytes: Vec::new(),
    }
}

/// Sends these bytes, announced with this size, and returns the results of both ends.
async fn transfer(
    bytes: Vec<u8>,
    size: usize,
    sink: &mut impl Sink,
) -> (Result<(), Error>, Result<(), Error>) {
    let (one, other) = pair();
    let sends = async {
        let outgoing = offer(one, &name(), size as u64).await?;
        outgoing.send(&mut Bytes(bytes.into())).await
    };
    let receives = async { incoming(other).await?.receive(sink).await };
    within("both ends", join(sends, receives)).await
}

#[tokio::test]
async fn files_of_any_size_arrive() {
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
        let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let mut received = nothing();
        let (sent, got) = transfer(bytes.clone(), size, &mut received).await;
        sent.expect("it is sent");
        got.expect("it is received");
        assert!(received.bytes == bytes, "{size}");
    }
}

#[tokio::test]
async fn a_file_that_becomes_shorter_is_no_whole_file() {
    let (sent, got) = transfer(vec![1; 10], 20, &mut nothing()).await;
    assert!(matches!(sent, Err(Error::Source(_))), "{sent:?}");
    assert!(matches!(got, Err(Error::Cancelled)), "{got:?}");
}

/// A disk that is full after some bytes.
struct Full(usize);

impl Sink for Full {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let left = self.0.checked_sub(bytes.len());
        self.0 = left.ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(())
    }

    async fn finish(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_sender_hears_that_a_file_could_not_be_stored() {
    let size = 4 * CHUNK;
    let (sent, got) = transfer(vec![1; size], size, &mut Full(2 * CHUNK)).await;
    assert!(matches!(sent, Err(Error::NotStored)), "{sent:?}");
    assert!(matches!(got, Err(Error::Sink(_))), "{got:?}");
}

#[tokio::test]
async fn every_refusal_is_told() {
    for why in [
        Refusal::Declined,
        Refusal::Busy,
        Refusal::NoPlace,
        Refusal::Malformed,
    ] {
        let (one, other) = pair();
        let offers = async { offer(one, &name(), 1).await };
        let declines = async { incoming(other).await?.decline(why).await };
        let (offered, declined) = within("both ends", join(offers, declines)).await;
        declined.expect("it is told");
        assert!(matches!(offered, Err(Error::Refused(told)) if told == why));
    }
}

#[tokio::test]
async fn a_dropped_end_is_a_cancelled_transfer() {
    // The sender drops its end before the answer.
    let (one, other) = pair();
    let taken_back = async {
        let mut incoming = incoming(other).await?;
        Err::<(), _>(incoming.taken_back().await)
    };
    let offers = tokio::time::timeout(std::time::Duration::from_millis(50), async {
        offer(one, &name(), 1).await.map(drop)
    });
    let (_, taken_back) = within("both ends", join(offers, taken_back)).await;
    assert!(
        matches!(taken_back, Err(Error::Cancelled)),
        "{taken_back:?}"
    );

    // The receiver drops its end in the middle.
    let (one, mut other) = pair();
    let sends = async {
        let outgoing = offer(one, &name(), 1 << 20).await?;
        outgoing.send(&mut Bytes(vec![1; 1 << 20].into())).await
    };
    let receives = async {
        other.write_all(&[0]).await.expect("it reads");
        let mut bytes = vec![0; 1000];
        other.read_exact(&mut bytes).await.expect("it sends");
        drop(other);
    };
    let (sent, ()) = within("both ends", join(sends, receives)).await;
    assert!(matches!(sent, Err(Error::Cancelled)), "{sent:?}");
}

#[tokio::test]
async fn a_receiver_that_has_stored_less_is_not_believed() {
    let (one, mut other) = pair();
    let sends = async {
        let outgoing = offer(one, &name(), 4).await?;
        outgoing.send(&mut Bytes(vec![1; 4].into())).await
    };
    let lies = async {
        let end = [&[0, 0], 3_u64.to_be_bytes().as_slice()].concat();
        other.write_all(&end).await.expect("it reads");
        let mut rest = Vec::new();
        // This ends when the sender gives up.
        let _ = other.read_to_end(&mut rest).await;
    };
    let (sent, ()) = within("both ends", join(sends, lies)).await;
    assert!(matches!(sent, Err(Error::Protocol(_))), "{sent:?}");
}

/// A source that returns more than it was asked for.
struct Greedy;

impl Source for Greedy {
    async fn next(&mut self, most: usize) -> std::io::Result<Vec<u8>> {
        Ok(vec![0; most + 1])
    }
}

#[tokio::test]
async fn no_more_is_sent_than_was_offered() {
    let (one, other) = pair();
    let sends = async { offer(one, &name(), 4).await?.send(&mut Greedy).await };
    let mut received = nothing();
    let receives = async { incoming(other).await?.receive(&mut received).await };
    let (sent, got) = within("both ends", join(sends, receives)).await;
    assert!(matches!(sent, Err(Error::Source(_))), "{sent:?}");
    assert!(matches!(got, Err(Error::Cancelled)), "{got:?}");
}

#[test]
fn names_are_names() {
    for name in [
        "a",
        "Plan (2).pdf",
        "übersicht.txt",
        "日本.txt",
        ".profile",
        "a..b",
    ] {
        assert_eq!(Name::new(name).expect(name).as_str(), name);
    }
    assert_eq!(Name::new(""), Err(NameError::Length(0)));
    assert_eq!(Name::new(&"a".repeat(256)), Err(NameError::Length(256)));
    for path in [".", "..", "a/b", "/a", "a\\b"] {
        assert_eq!(Name::new(path), Err(NameError::Path), "{path}");
    }
    for unseen in [
        '\0', '\n', '\u{7f}', '\u{85}', '\u{200b}', '\u{202e}', '\u{2066}', '\u{feff}',
    ] {
        let name = format!("a{unseen}b");
        assert_eq!(Name::new(&name), Err(NameError::Unseen(unseen)));
    }
    assert_eq!(Name::new(" a"), Err(NameError::Space));
    assert_eq!(Name::new("a\u{a0}"), Err(NameError::Space));
}
