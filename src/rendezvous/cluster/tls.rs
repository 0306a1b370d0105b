//! The TLS of trunks: only nodes may have one whose certificate the cluster's own authority has signed for their name.

use std::{fmt, io, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        self, ClientConfig, RootCertStore, ServerConfig,
        client::verify_server_name,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
        server::{ParsedCertificate, WebPkiClientVerifier},
        sign::SingleCertAndKey,
    },
};

use crate::{
    crypto,
    error::Cause,
    rendezvous::{
        cluster::node::NodeId,
        read_ahead::ReadAhead,
        tls::{TlsConfig, TlsError},
    },
};

/// The maximum that is encrypted before it is written, in bytes. An item of the usual length fits.
const AT_ONCE: usize = 256 * 1024;
/// The protocol that both ends of a trunk speak.
const ALPN: &[u8] = b"h2";

/// Why certificates cannot be used for trunks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrunkTlsError {
    /// The node's own certificate or its key cannot be used.
    #[error("the node's certificate: {0}")]
    Own(#[from] TlsError),
    /// The authority's certificates are not PEM.
    #[error("the authority's certificate is not valid PEM: {0}")]
    Pem(#[source] Cause),
    /// There is no certificate of an authority.
    #[error("there is no authority's certificate (PEM begins with `-----BEGIN CERTIFICATE-----`)")]
    NoAuthority,
    /// The authority's certificate cannot be trusted.
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(#[source] Cause),
    /// No node can be verified with the authority's certificate.
    #[error("no node can be verified with the authority's certificate: {0}")]
    Verifier(#[source] Cause),
    /// The node's certificate is for other names.
    #[error(
        "the node's certificate is not for the name `{0}` (as a DNS name in its subjectAltName)"
    )]
    OtherName(NodeId),
}

/// A node's certificate with its key, and the authority that has signed the certificates of all nodes of the cluster.
/// The authority must not sign for anybody else.
#[derive(Clone)]
pub struct TrunkTls {
    own: TlsConfig,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    #[cfg(feature = "_plain-trunks")]
    is_plain: bool,
}

/// The stream of bytes that carries a trunk.
pub(in crate::rendezvous) trait Line:
    AsyncRead + AsyncWrite + Unpin + Send
{
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Line for T {}

/// The proof of which nodes the opener of a trunk may speak for.
#[derive(Debug)]
pub(in crate::rendezvous) enum Proved {
    /// The nodes that this certificate is for.
    Certificate(CertificateDer<'static>),
    /// Any node: nothing is proved.
    #[cfg(feature = "_plain-trunks")]
    Nothing,
}

impl Proved {
    /// Returns what was proved, as bytes.
    pub(in crate::rendezvous) fn bytes(&self) -> &[u8] {
        match self {
            Self::Certificate(certificate) => certificate,
            #[cfg(feature = "_plain-trunks")]
            Self::Nothing => &[],
        }
    }

    /// Returns whether the opener of the trunk may speak for this node.
    pub(in crate::rendezvous) fn is(&self, node: &NodeId) -> bool {
        match self {
            Self::Certificate(certificate) => is_for(certificate, node),
            #[cfg(feature = "_plain-trunks")]
            Self::Nothing => true,
        }
    }
}

impl fmt::Debug for TrunkTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrunkTls")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

/// Returns whether a certificate is for a node of this name.
fn is_for(certificate: &CertificateDer<'_>, node: &NodeId) -> bool {
    let Ok(certificate) = ParsedCertificate::try_from(certificate) else {
        return false;
    };
    let name = server_name(node);
    name.is_some_and(|name| verify_server_name(&certificate, &name).is_ok())
}

fn server_name(node: &NodeId) -> Option<ServerName<'static>> {
    ServerName::try_from(node.as_str().to_owned()).ok()
}

impl TrunkTls {
    /// Creates the TLS of a node from its own certificate and the certificates of the authority in PEM.
    ///
    /// # Errors
    /// If there is no certificate of an authority, or it cannot be used.
    pub fn new(own: TlsConfig, authority: &[u8]) -> Result<Self, TrunkTlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority) {
            let certificate = certificate.map_err(|error| TrunkTlsError::Pem(Cause::new(error)))?;
            roots
                .add(certificate)
                .map_err(|error| TrunkTlsError::Authority(Cause::new(error)))?;
        }
        if roots.is_empty() {
            return Err(TrunkTlsError::NoAuthority);
        }
        let roots = Arc::new(roots);
        let key = Arc::new(SingleCertAndKey::from(own.key()));
        let mut client = ClientConfig::builder_with_provider(crypto::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| TrunkTlsError::Authority(Cause::new(error)))?
            .with_root_certificates(roots.clone())
            .with_client_cert_resolver(key.clone());
        client.alpn_protocols = vec![ALPN.to_vec()];
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, crypto::provider());
        let verifier = verifier
            .build()
            .map_err(|error| TrunkTlsError::Verifier(Cause::new(error)))?;
        let mut server = ServerConfig::builder_with_provider(crypto::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| TrunkTlsError::Authority(Cause::new(error)))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(key);
        server.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            own,
            client: Arc::new(client),
            server: Arc::new(server),
            #[cfg(feature = "_plain-trunks")]
            is_plain: false,
        })
    }

    /// Checks that the certificate is valid now, and for a node of this name.
    pub(in crate::rendezvous) fn check(&self, node: &NodeId) -> Result<(), TrunkTlsError> {
        self.own.check_validity(std::time::SystemTime::now())?;
        let own = self.own.key();
        let is_its = own.cert.first().is_some_and(|own| is_for(own, node));
        is_its
            .then_some(())
            .ok_or_else(|| TrunkTlsError::OtherName(node.clone()))
    }

    /// Turns TLS off, for the benchmark only: a connection may then speak for any node.
    #[cfg(feature = "_plain-trunks")]
    #[doc(hidden)]
    #[must_use]
    pub fn without_tls(mut self) -> Self {
        self.is_plain = true;
        self
    }

    /// Opens the TLS of a trunk to a node.
    pub(in crate::rendezvous) async fn connect(
        &self,
        node: &NodeId,
        stream: TcpStream,
    ) -> io::Result<Box<dyn Line>> {
        #[cfg(feature = "_plain-trunks")]
        if self.is_plain {
            return Ok(Box::new(stream));
        }
        let name = server_name(node);
        let name =
            name.ok_or_else(|| io::Error::other("the node's name cannot be in a certificate"))?;
        let connector = TlsConnector::from(self.client.clone());
        Ok(Box::new(
            connector
                .connect_with(name, ReadAhead::new(stream), |tls| {
                    tls.set_buffer_limit(Some(AT_ONCE))
                })
                .await?,
        ))
    }

    /// Accepts the TLS of a trunk from another node.
    pub(in crate::rendezvous) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(Box<dyn Line>, Proved)> {
        #[cfg(feature = "_plain-trunks")]
        if self.is_plain {
            return Ok((Box::new(stream), Proved::Nothing));
        }
        let acceptor = TlsAcceptor::from(self.server.clone());
        let stream = acceptor
            .accept_with(ReadAhead::new(stream), |tls| {
                tls.set_buffer_limit(Some(AT_ONCE))
            })
            .await?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let certificate =
            certificate.ok_or_else(|| io::Error::other("the other end has no certificate"))?;
        let proved = Proved::Certificate(certificate.clone().into_owned());
        Ok((Box::new(stream), proved))
    }
}
