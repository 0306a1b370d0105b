//! Tests with peers that violate the protocol.

use super::*;
use crate::secio::{
    keys::Ephemeral,
    message::{Exchange, Propose},
    suite::{CIPHERS, EXCHANGES, HASHES},
};

/// A peer that follows the protocol, except for the fields that a test changes.
struct Rogue {
    key: Keypair,
    signer: Keypair,
    rand: Vec<u8>,
    lists: [&'static str; 3],
    epubkey: Option<Vec<u8>>,
    echo: Option<Vec<u8>>,
}

impl Rogue {
    fn new() -> Self {
        let key = key();
        Self {
            signer: key.clone(),
            key,
            rand: vec![9; NONCE_LEN],
            lists: [EXCHANGES, CIPHERS, HASHES],
            epubkey: None,
            echo: None,
        }
    }

    /// Connects to an honest peer and returns its error.
    fn meet(self) -> Error {
        let (a, b) = long_wire();
        let honest = dial(a, Config::new(&key()));
        let (honest, _) = block_on(join(honest, self.run(b)));
        honest.expect_err("it is rogue")
    }

    async fn run(self, mut io: Wire) -> io::Result<()> {
        let key = self.key.public().encode_protobuf();
        let local = Propose {
            rand: &self.rand,
            pubkey: &key,
            exchanges: self.lists[0],
            ciphers: self.lists[1],
            hashes: self.lists[2],
        };
        let ours = local.encode();
        send(&mut io, &ours).await?;
        let theirs = receive(&mut io).await?;
        let remote = Propose::decode(&theirs).expect("honest");
        let Ok(suite) = Suite::agree(&local, &remote) else {
            return Ok(());
        };
        let ephemeral = Ephemeral::generate(suite.curve);
        let epubkey = self.epubkey.unwrap_or_else(|| ephemeral.public());
        let signed = [&ours, &theirs, &epubkey[..]].concat();
        let signature = self.signer.sign(&signed).expect("signed");
        let exchange = Exchange {
            epubkey: &epubkey,
            signature: &signature,
        };
        send(&mut io, &exchange.encode()).await?;
        let answer = receive(&mut io).await?;
        let answer = Exchange::decode(&answer).expect("honest");
        let secret = ephemeral.agree(answer.epubkey).expect("honest");
        let (own, their) = Keys::stretch(&suite, &secret);
        let opener = Opener::new(&suite, &their);
        let mut output = Output::new(io, FrameDecoder::new(0), opener, Sealer::new(&suite, &own));
        let echo = self.echo.unwrap_or_else(|| remote.rand.to_vec());
        output.write_all(&echo).await?;
        output.close().await
    }
}

#[test]
fn a_signature_of_another_key_is_refused() {
    let rogue = Rogue {
        signer: key(),
        ..Rogue::new()
    };
    assert!(matches!(rogue.meet(), Error::BadSignature));
}

#[test]
fn a_wrong_nonce_is_refused() {
    let rogue = Rogue {
        echo: Some(vec![0; NONCE_LEN]),
        ..Rogue::new()
    };
    assert!(matches!(rogue.meet(), Error::WrongNonce));
}

#[test]
fn half_a_nonce_and_then_the_end_is_refused() {
    let rogue = Rogue {
        echo: Some(vec![0; NONCE_LEN / 2]),
        ..Rogue::new()
    };
    assert!(matches!(rogue.meet(), Error::Frame(FrameError::Truncated)));
}

#[test]
fn a_nonce_of_another_length_is_refused() {
    let rogue = Rogue {
        rand: vec![1; 15],
        ..Rogue::new()
    };
    assert!(matches!(rogue.meet(), Error::NonceLength(15)));
}

#[test]
fn unknown_algorithms_are_refused() {
    for (at, name, unknown) in [
        (0, "exchange", "P-521"),
        (1, "cipher", "Blowfish"),
        (2, "hash", "MD5"),
    ] {
        let mut rogue = Rogue::new();
        rogue.lists[at] = unknown;
        let error = rogue.meet();
        let Error::NothingInCommon { kind, theirs } = &error else {
            panic!("{error}")
        };
        assert_eq!((*kind, theirs.as_str()), (name, unknown));
    }
}

#[test]
fn each_algorithm_works_if_it_is_the_only_one() {
    for lists in [
        ["P-256", "AES-128", "SHA256"],
        ["P-384", "AES-256", "SHA512"],
        ["P-384", "AES-128", "SHA512"],
    ] {
        let rogue = Rogue {
            lists,
            ..Rogue::new()
        };
        let (a, b) = long_wire();
        let (honest, rogue) = block_on(join(dial(a, Config::new(&key())), rogue.run(b)));
        assert!(honest.is_ok() && rogue.is_ok(), "{lists:?}: {honest:?}");
    }
}

#[test]
fn an_ephemeral_key_that_is_no_point_is_refused() {
    let rogue = Rogue {
        epubkey: Some(vec![4; 65]),
        ..Rogue::new()
    };
    assert!(matches!(rogue.meet(), Error::EphemeralKey(_)));
}

/// Sends these bytes and then the end to an honest peer, and returns its error.
fn meets(bytes: &[u8]) -> Error {
    block_on(async {
        let (a, mut b) = long_wire();
        b.write_all(bytes).await.expect("room");
        b.close().await.expect("closed");
        let result = dial(a, Config::new(&key())).await;
        result.expect_err("this is no handshake")
    })
}

#[test]
fn a_handshake_that_is_none_is_refused() {
    let garbage = |data: &[u8]| [&(data.len() as u32).to_be_bytes(), data].concat();
    let no_key = Propose {
        rand: &[0; 16],
        pubkey: b"none",
        exchanges: "",
        ciphers: "",
        hashes: "",
    };
    assert!(matches!(meets(&[]), Error::Frame(FrameError::Truncated)));
    assert!(matches!(
        meets(&[0, 0, 0, 9, 1]),
        Error::Frame(FrameError::Truncated)
    ));
    assert!(matches!(
        meets(b"GET / HTTP/1.1"),
        Error::Frame(FrameError::TooLong { .. })
    ));
    assert!(matches!(
        meets(&garbage(&[0xff; 40])),
        Error::Message {
            message: "Propose",
            ..
        }
    ));
    assert!(matches!(
        meets(&garbage(&no_key.encode())),
        Error::IdentityKey(_)
    ));
}
