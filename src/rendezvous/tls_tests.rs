use std::time::{Duration, SystemTime};

use pkcs8::PrivateKeyInfoRef;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::*;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn self_signed(key: &KeyPair) -> Certificate {
    params("own").self_signed(key).expect("signed")
}

fn rsa() -> KeyPair {
    let der = include_bytes!("test-rsa-2048.pk8").to_vec();
    KeyPair::from_pkcs8_der_and_sign_algo(&der.into(), &PKCS_RSA_SHA256).expect("an RSA key")
}

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

#[test]
fn a_key_may_be_pkcs8_pkcs1_or_sec1() {
    let elliptic = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    for (key, label) in [(rsa(), "RSA PRIVATE KEY"), (elliptic, "EC PRIVATE KEY")] {
        let certificate = self_signed(&key).pem();
        let der = key.serialize_der();
        let inner = PrivateKeyInfoRef::try_from(der.as_slice()).expect("PKCS#8");
        let traditional = pem(label, inner.private_key.as_bytes());
        for key in [key.serialize_pem(), traditional] {
            let tls = TlsConfig::from_pem(certificate.as_bytes(), key.as_bytes());
            assert!(tls.is_ok(), "{label}: {tls:?}");
        }
        let both = certificate.clone() + &key.serialize_pem();
        assert!(TlsConfig::from_pem(both.as_bytes(), both.as_bytes()).is_ok());
    }
}

/// A key of no other use, encrypted by OpenSSL 3 with the passphrase "right".
const ENCRYPTED_KEY: &[u8] = b"\
-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjH+N3RRG5u4QICCAAw\n\
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEPRzyNR9m1+k2IU26HVlGLQEgZCB\n\
+/iRyF971W8hLLvEeXnIB7D6/e/ISPbytR1BPfNSa9rlXxDbcHxBGiROIu7fFjnB\n\
83Zq9X5yqALEaJ+nOLBptqrsXjJhOJ9WNgF0EADMxfwQ3L1ZqFMwjnEijLq5/PEY\n\
nuIg/SjImAaLh1LQQupb9zZFIg6qyquQu1CRzpaiBhLKhYHZch9V9Rbc043evoc=\n\
-----END ENCRYPTED PRIVATE KEY-----\n";

#[test]
fn an_encrypted_key_needs_its_passphrase() {
    let certificate = self_signed(&KeyPair::generate().expect("a key")).pem();
    let (certificate, key) = (certificate.as_bytes(), ENCRYPTED_KEY);
    // The key belongs to another certificate. So it was decrypted.
    let right = TlsConfig::from_encrypted_pem(certificate, key, "right");
    assert!(matches!(right, Err(TlsError::Mismatch)), "{right:?}");
    let wrong = TlsConfig::from_encrypted_pem(certificate, key, "wrong");
    assert!(matches!(wrong, Err(TlsError::Decrypt(_))), "{wrong:?}");
    let none = TlsConfig::from_pem(certificate, key);
    assert!(matches!(none, Err(TlsError::EncryptedKey)), "{none:?}");
    let old = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAAAA\n";
    let old = TlsConfig::from_encrypted_pem(certificate, old, "right");
    assert!(matches!(old, Err(TlsError::OldEncryptedKey)), "{old:?}");
}

#[test]
fn the_chain_of_a_pfx_is_put_in_order() {
    let mut root = params("root");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().expect("a key"));
    let root = root.expect("signed");
    let key = KeyPair::generate().expect("a key");
    let own = params("own").signed_by(&key, &root).expect("signed");
    let stranger = self_signed(&KeyPair::generate().expect("a key"));
    let all = [stranger.der(), root.der(), own.der()];
    let all: Vec<_> = all.into_iter().cloned().collect();
    assert_eq!(
        chain_from(2, all).expect("well-formed"),
        [own.der().clone(), root.der().clone()]
    );
}

#[test]
fn validity_is_judged_at_the_time_of_use() {
    let key = KeyPair::generate().expect("a key");
    let mut params = params("own");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key).expect("signed");
    let tls = TlsConfig::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes());
    let tls = tls.expect("well-formed");
    let (second, end) = (Duration::from_secs(1), tls.expires());
    assert!(tls.check_validity(end).is_ok());
    let late = tls.check_validity(end + second);
    assert!(matches!(late, Err(TlsError::Expired(_))), "{late:?}");
    let start = end - Duration::from_secs(366 * 24 * 60 * 60);
    assert!(tls.check_validity(start).is_ok());
    let early = tls.check_validity(start - second);
    assert!(matches!(early, Err(TlsError::NotYetValid(_))), "{early:?}");
    assert!(tls.check_validity(SystemTime::UNIX_EPOCH).is_err());
}

#[test]
fn the_key_does_not_show_when_printed() {
    let key = KeyPair::generate().expect("a key");
    let tls = TlsConfig::from_pem(
        self_signed(&key).pem().as_bytes(),
        key.serialize_pem().as_bytes(),
    );
    let shown = format!("{:?}", tls.expect("fine"));
    assert!(
        shown.starts_with("TlsConfig { certificates: 1, not_before: "),
        "{shown}"
    );
}

/// Makes one end read what the other end has to send.
fn pass<A, B>(from: &mut rustls::ConnectionCommon<A>, to: &mut rustls::ConnectionCommon<B>) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).expect("room");
    }
    let mut bytes = bytes.as_slice();
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).expect("bytes");
        to.process_new_packets().expect("TLS");
    }
}

#[test]
fn a_client_that_would_rather_have_keys_of_256_bits_gets_128() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = self_signed(&key);
    let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let tls = TlsConfig::from_der(vec![certificate.der().clone()], der).expect("a pair");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a certificate");
    for version in rustls::ALL_VERSIONS {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let first = provider.cipher_suites.first().expect("a suite").suite();
        assert!(format!("{first:?}").contains("AES_256"), "{first:?}");
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let name = "own".try_into().expect("a name");
        let client = rustls::ClientConnection::new(Arc::new(client), name);
        let mut client = client.expect("a client");
        let server = rustls::ServerConnection::new(tls.server_config());
        let mut server = server.expect("a server");
        while client.is_handshaking() || server.is_handshaking() {
            pass(&mut client, &mut server);
            pass(&mut server, &mut client);
        }
        let suite = server.negotiated_cipher_suite().expect("a suite").suite();
        assert!(format!("{suite:?}").contains("AES_128"), "{suite:?}");
    }
}
