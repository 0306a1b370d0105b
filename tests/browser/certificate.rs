//! A certificate that no browser or node trusts by default.

use rcgen::CertifiedKey;
use tokio_rustls::rustls::pki_types::CertificateDer;

pub struct Certificate {
    pub der: CertificateDer<'static>,
    /// The certificate and its key, both in PEM.
    pub chain: String,
    pub key: String,
}

impl Certificate {
    pub fn of_this_machine() -> Self {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(names).expect("good names");
        Self {
            der: cert.der().clone(),
            chain: cert.pem(),
            key: signing_key.serialize_pem(),
        }
    }
}
