//! The URL of the service, and the certificates to trust for it.

use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use hyper::{Uri, http::uri::Scheme};
use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer, ServerName,
        pem::{self, PemObject as _},
    },
};

/// The reason why a URL cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    #[error("must be a URL such as https://access.example/star or http://127.0.0.1:8080/")]
    Form,
    #[error("must not contain a user name or a password")]
    User,
}

/// The reason why root certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot use {path}: {source}")]
    Pem { path: PathBuf, source: pem::Error },
    #[error("cannot use {0}: it contains no certificate")]
    Empty(PathBuf),
    #[error("cannot use {path}: {source}")]
    Certificate {
        path: PathBuf,
        source: rustls::Error,
    },
    #[error("cannot use TLS")]
    Tls(#[from] rustls::Error),
}

/// The URL of the service. It is shown without its path, which may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The server name for TLS; `None` for plain HTTP.
    name: Option<ServerName<'static>>,
    /// The host, without brackets.
    host: String,
    port: u16,
    /// The authority as it is written in the URL.
    authority: String,
    path: String,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = text.parse().map_err(|_| EndpointError::Form)?;
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(EndpointError::Form),
        };
        let authority = uri.authority().ok_or(EndpointError::Form)?;
        if authority.as_str().contains('@') {
            return Err(EndpointError::User);
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(EndpointError::Form);
        }
        let name = is_secure.then(|| ServerName::try_from(host.clone()));
        let default_port = if is_secure { 443 } else { 80 };
        // The port is parsed here, because `Uri` ignores one that is not a number.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => default_port,
            Some(port) => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0)
                .ok_or(EndpointError::Form)?,
            None => return Err(EndpointError::Form),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            name: name.transpose().map_err(|_| EndpointError::Form)?,
            port,
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
            host,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.name.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Endpoint {
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn authority(&self) -> &str {
        &self.authority
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the name that the certificate of the service must be for; `None` for plain HTTP.
    pub fn name(&self) -> Option<&ServerName<'static>> {
        self.name.as_ref()
    }

    /// Returns whether no one on the way can read the requests: they use TLS or stay on this machine.
    pub fn is_private(&self) -> bool {
        let ip = self.host.parse::<IpAddr>();
        self.name.is_some() || ip.is_ok_and(|ip| ip.is_loopback())
    }
}

/// Returns the TLS configuration that trusts the web's authorities, or the root certificates in a PEM file.
///
/// # Errors
/// If the file cannot be read, or has no usable certificate.
pub fn tls_config(roots: Option<&Path>) -> Result<Arc<ClientConfig>, RootsError> {
    let roots = match roots {
        None => web_roots(),
        Some(path) => read_roots(path)?,
    };
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn web_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots
}

fn read_roots(path: &Path) -> Result<RootCertStore, RootsError> {
    let pem = std::fs::read(path).map_err(|source| RootsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|source| RootsError::Pem {
            path: path.to_owned(),
            source,
        })?;
        let added = roots.add(certificate);
        added.map_err(|source| RootsError::Certificate {
            path: path.to_owned(),
            source,
        })?;
    }
    match roots.is_empty() {
        true => Err(RootsError::Empty(path.to_owned())),
        false => Ok(roots),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        text.parse()
    }

    #[test]
    fn a_url_says_whom_to_ask_for_what() {
        for (url, shown, host, port, path, private) in [
            (
                "https://access.example",
                "https://access.example",
                "access.example",
                443,
                "/",
                true,
            ),
            (
                "https://access.example:8443/star?key=secret",
                "https://access.example:8443",
                "access.example",
                8443,
                "/star?key=secret",
                true,
            ),
            (
                "http://127.0.0.1:8080/x",
                "http://127.0.0.1:8080",
                "127.0.0.1",
                8080,
                "/x",
                true,
            ),
            ("http://[::1]/", "http://[::1]", "::1", 80, "/", true),
            (
                "http://[::1]:8080/",
                "http://[::1]:8080",
                "::1",
                8080,
                "/",
                true,
            ),
            ("http://auth/", "http://auth", "auth", 80, "/", false),
            (
                "http://localhost/",
                "http://localhost",
                "localhost",
                80,
                "/",
                false,
            ),
        ] {
            let endpoint = parse(url).expect(url);
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(format!("{endpoint:?}"), shown);
            let found = (endpoint.host(), endpoint.port(), endpoint.path());
            assert_eq!(found, (host, port, path), "{url}");
            assert_eq!(endpoint.is_private(), private, "{url}");
            assert_eq!(endpoint.name().is_some(), url.starts_with("https"));
        }
    }

    #[test]
    fn what_is_no_url_or_has_a_password_is_refused() {
        for url in [
            "",
            "access.example",
            "/star",
            "ftp://access.example/",
            "https://",
            "https:///star",
            "http://a b/",
            "https://a..b/",
            "https://access.example:99999/",
            "https://access.example:0/",
            "https://access.example:/",
            "https://access.example:x/",
            "http://[::1]:65536/",
        ] {
            assert_eq!(parse(url), Err(EndpointError::Form), "{url}");
        }
        let user = parse("https://user:secret@access.example/");
        assert_eq!(user, Err(EndpointError::User));
    }

    #[test]
    fn a_file_without_a_certificate_vouches_for_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("roots.pem");
        assert!(matches!(
            tls_config(Some(&path)),
            Err(RootsError::Read { .. })
        ));
        std::fs::write(&path, "nothing").expect("written");
        assert!(tls_config(Some(&path)).is_err());
        assert!(tls_config(None).is_ok());
    }
}
