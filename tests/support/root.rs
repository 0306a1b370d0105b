//! A certificate authority of the tests.

use std::sync::Arc;

use libp2p::PeerId;
use libp2p_websocket_star::Config;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig, SupportedProtocolVersion,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    },
};

use super::{certificates::Certificate, hasty};

/// A certificate authority that only the tests know.
pub struct Root {
    pub certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = authority();
        Self {
            certificate: params.self_signed(&key).expect("a certificate"),
            issuer: Issuer::new(params, key),
        }
    }

    /// Returns a node's configuration that trusts this authority.
    pub fn trusted(&self) -> Config {
        hasty()
            .with_root_certificate(self.certificate.der())
            .expect("a certificate")
    }

    /// Returns an authority with its key, for a proxy that makes certificates.
    pub fn for_proxy() -> Certificate {
        let key = KeyPair::generate().expect("a key");
        Certificate::signed(authority(), &key)
    }

    pub fn certify(
        &self,
        params: &CertificateParams,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let chain = vec![CertificateDer::from(certificate)];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .expect("a key for its certificate");
        TlsAcceptor::from(Arc::new(config))
    }

    pub fn for_names(&self, names: &[&str]) -> TlsAcceptor {
        self.certify(&params(names), rustls::ALL_VERSIONS)
    }
}

/// Returns the parameters of an authority's certificate.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    // OpenSSL takes a certificate that has the name of its issuer for a self-signed one, so each authority has a name
    // of its own.
    params
        .distinguished_name
        .push(DnType::CommonName, PeerId::random().to_string());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

pub fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().copied().map(String::from).collect();
    CertificateParams::new(names).expect("names")
}
