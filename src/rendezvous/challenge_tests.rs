use base64::prelude::BASE64_STANDARD;
use libp2p_identity::Keypair;

use super::*;

fn address(id: &str) -> String {
    format!("/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/ipfs/{id}")
}

fn check_key(id: &str, text: &str) -> Result<Proof, Refusal> {
    let check = Check::Key(KeyCheck {
        address: address(id),
        ack: 7,
        key: text.to_owned(),
        nonces: Nonces::default(),
    });
    let checked = check.run();
    assert_eq!(checked.ack, 7);
    assert_eq!(checked.proved(), None);
    checked.result
}

fn check_signature(challenge: &Challenge, signature: &str) -> Result<Proof, Refusal> {
    let check = Check::Signature(SignatureCheck {
        address: address("a"),
        ack: 7,
        challenge: Box::new(challenge.clone()),
        signature: signature.to_owned(),
        number: 0,
    });
    let checked = check.run();
    assert_eq!(checked.proved().is_some(), checked.result.is_ok());
    checked.result
}

/// Returns a key for tests only, in PKCS#8: no dependency can generate an RSA key.
fn rsa() -> Keypair {
    let mut der = include_bytes!("test-rsa-2048.pk8").to_vec();
    Keypair::rsa_from_pkcs8(&mut der).expect("a key")
}

fn keys() -> [Keypair; 3] {
    [
        Keypair::generate_ed25519(),
        Keypair::generate_secp256k1(),
        rsa(),
    ]
}

#[test]
fn each_kind_of_key_proves_itself() {
    for (key, prefix) in keys().iter().zip(["12D3Koo", "16Uiu2", "Qm"]) {
        let id = key.public().to_peer_id().to_base58();
        assert!(id.starts_with(prefix), "{id}");
        let public = key.public().encode_protobuf();
        for text in [
            hex::encode(&public),
            hex::encode_upper(&public),
            BASE64_STANDARD.encode(&public),
        ] {
            let Ok(Proof::Key(challenge)) = check_key(&id, &text) else {
                panic!("{id}")
            };
            assert!(challenge.has_key(&text) && !challenge.has_key(&text[1..]));
            let signature = key.sign(challenge.nonce.as_bytes()).expect("signs");
            let proof = check_signature(&challenge, &hex::encode(&signature));
            assert!(matches!(proof, Ok(Proof::Possession(_))), "{id}");

            let other = key.sign(b"another nonce").expect("signs");
            for wrong in [&other[..], &signature[1..], &[]] {
                let proof = check_signature(&challenge, &hex::encode(wrong));
                assert_eq!(proof.err(), Some(Refusal::WrongSignature), "{id}");
            }
        }
    }
}

#[test]
fn a_short_key_may_also_go_by_its_hashed_id() {
    for key in [Keypair::generate_ed25519(), Keypair::generate_secp256k1()] {
        let id = ids::hashed_form(&key.public().to_peer_id());
        let id = id.expect("another one").to_base58();
        assert!(id.starts_with("Qm"), "{id}");
        let public = hex::encode(key.public().encode_protobuf());
        assert!(matches!(check_key(&id, &public), Ok(Proof::Key(_))));
    }
    let id = rsa().public().to_peer_id();
    assert_eq!(ids::hashed_form(&id), None);
}

#[test]
fn a_key_of_another_id_is_refused() {
    let [a, b, c] = keys();
    for (key, other) in [(&a, &b), (&b, &c), (&c, &a)] {
        let id = other.public().to_peer_id().to_base58();
        let public = hex::encode(key.public().encode_protobuf());
        let refused = check_key(&id, &public).err();
        assert_eq!(refused, Some(Refusal::WrongId));
    }
    let public = hex::encode(a.public().encode_protobuf());
    let refused = check_key("", &public).err();
    assert_eq!(refused, Some(Refusal::WrongId));
}

#[test]
fn what_is_no_key_is_refused() {
    // The beginning of an ECDSA key, which no published server has accepted.
    let ecdsa = "0803125b3059301306072a8648ce3d020106082a8648ce3d030107";
    let long = "00".repeat(MAX_TEXT);
    for text in ["", "00", "xyz", "\u{e9}", "====", ecdsa, &long] {
        let refused = check_key("a", text).err();
        assert_eq!(refused, Some(Refusal::UnusableProof), "{text}");
    }
}

#[test]
fn what_is_no_signature_is_refused() {
    let key = Keypair::generate_ed25519();
    let id = key.public().to_peer_id().to_base58();
    let public = hex::encode(key.public().encode_protobuf());
    let Ok(Proof::Key(challenge)) = check_key(&id, &public) else {
        panic!("a key")
    };
    let long = "00".repeat(MAX_TEXT);
    for text in ["", "_", "\u{e9}", &public, &long] {
        let refused = check_signature(&challenge, text).err();
        assert_eq!(refused, Some(Refusal::WrongSignature), "{text}");
    }
}

#[test]
fn a_renewed_challenge_has_another_nonce() {
    let key = Keypair::generate_ed25519();
    let id = key.public().to_peer_id().to_base58();
    let public = hex::encode(key.public().encode_protobuf());
    let Ok(Proof::Key(mut challenge)) = check_key(&id, &public) else {
        panic!("a key")
    };
    let first = challenge.nonce.clone();
    challenge.renew(&Nonces::default(), &address("a"));
    let signature = key.sign(first.as_bytes()).expect("signs");
    let refused = check_signature(&challenge, &hex::encode(signature)).err();
    assert_eq!(refused, Some(Refusal::WrongSignature));
}
