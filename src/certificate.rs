//! Root certificates in the usual file formats.

use std::fmt;

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject as _},
    },
};

/// The beginning of a PEM block, anywhere in a file.
const PEM: &[u8] = b"-----BEGIN ";

/// Why bytes are not a root certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The PEM contains no certificate.
    #[error("the PEM has no certificate; does it have the private key instead?")]
    NoCertificate,
    /// The PEM is broken.
    #[error("the PEM is broken: {0}")]
    Pem(String),
    /// The bytes, or the contents of the PEM, are not a certificate in DER form.
    #[error("neither PEM nor a certificate in DER form: {0}")]
    Der(String),
}

/// The root certificates that a node trusts.
#[derive(Clone)]
pub(crate) struct Roots {
    /// Whether those of the web are among them.
    web: bool,
    own: Vec<CertificateDer<'static>>,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            web: true,
            own: Vec::new(),
        }
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots")
            .field("web", &self.web)
            .field("own", &self.own.len())
            .finish()
    }
}

impl Roots {
    pub(crate) fn set_web(&mut self, web: bool) {
        self.web = web;
    }

    /// Adds one certificate in DER form, or all certificates in PEM form.
    pub(crate) fn add(&mut self, der_or_pem: &[u8]) -> Result<(), CertificateError> {
        self.own.extend(read(der_or_pem)?);
        Ok(())
    }

    pub(crate) fn store(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        if self.web {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        // All of them were parsed when they were added.
        roots.add_parsable_certificates(self.own.iter().cloned());
        roots
    }
}

/// Reads one certificate in DER form, or all certificates in PEM form.
fn read(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = if bytes.windows(PEM.len()).any(|window| window == PEM) {
        from_pem(bytes)?
    } else {
        vec![CertificateDer::from(bytes.to_vec())]
    };
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        let added = roots.add(certificate.clone());
        added.map_err(|error| CertificateError::Der(error.to_string()))?;
    }
    Ok(certificates)
}

fn from_pem(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(CertificateError::NoCertificate),
        Ok(certificates) => Ok(certificates),
        Err(pem::Error::NoItemsFound) => Err(CertificateError::NoCertificate),
        Err(error) => Err(CertificateError::Pem(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    fn certified() -> CertifiedKey<rcgen::KeyPair> {
        generate_simple_self_signed(["star.example".to_owned()]).expect("a certificate")
    }

    #[test]
    fn der_and_pem_are_read_and_several_in_one_file() {
        let (a, b) = (certified(), certified());
        let der = a.cert.der().to_vec();
        assert_eq!(read(&der), Ok(vec![der.clone().into()]));
        let both = format!("# ours\n{}\n{}", a.cert.pem(), b.cert.pem());
        let read_both = read(both.as_bytes()).expect("two certificates");
        assert_eq!(read_both, [a.cert.der().clone(), b.cert.der().clone()]);
    }

    #[test]
    fn the_roots_of_the_web_are_trusted_until_they_are_switched_off() {
        let mut roots = Roots::default();
        let web = webpki_roots::TLS_SERVER_ROOTS.len();
        assert_eq!(roots.store().len(), web);
        roots.add(certified().cert.der()).expect("a certificate");
        assert_eq!(roots.store().len(), web + 1);
        roots.set_web(false);
        assert_eq!(roots.store().len(), 1);
        assert_eq!(format!("{roots:?}"), "Roots { web: false, own: 1 }");
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        let key = certified().signing_key.serialize_pem();
        let error = read(key.as_bytes()).expect_err("a key");
        assert_eq!(error, CertificateError::NoCertificate);
        assert_eq!(
            crate::Error::from(error).to_string(),
            "not a root certificate: the PEM has no certificate; does it have the private key instead?"
        );
        let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            read(broken.as_bytes()),
            Err(CertificateError::Pem(_))
        ));
        for nonsense in ["", "nonsense"] {
            let error = read(nonsense.as_bytes()).expect_err("no certificate");
            let text = error.to_string();
            assert!(
                text.starts_with("neither PEM nor a certificate in DER form: "),
                "{text}"
            );
        }
    }
}
