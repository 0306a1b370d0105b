//! The stages of opening a link to a rendezvous, one after the other, to find out what is wrong.
//!
//! A transport runs all stages at once, and reports the one that failed. A [`Probe`] runs the same stages with the same
//! [`Config`]: its proxies, its root certificates, its token.
//!
//! ```
//! use libp2p_websocket_star::{Config, StarAddr, error::LinkError, probe::Probe};
//!
//! async fn opens(star: &StarAddr) -> Result<(), LinkError> {
//!     let probe = Probe::new(&Config::default(), star);
//!     let mut wire = match probe.proxy()? {
//!         Some(proxy) => probe.connect_through(&proxy).await?,
//!         None => {
//!             let found = probe.resolve().await?;
//!             let first = found.into_iter().next();
//!             let first = first.ok_or(LinkError::NoAddress(star.rendezvous().host().to_string()))?;
//!             probe.connect(first).await?
//!         }
//!     };
//!     if star.rendezvous().is_secure() {
//!         wire = probe.encrypt(wire).await.outcome?.wire;
//!     }
//!     let open = probe.upgrade(wire).await?.opened().await?;
//!     println!("the rendezvous wants a heartbeat every {:?}", open.ping_interval);
//!     Ok(())
//! }
//! ```

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::TryFutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::{
    self, DigitallySignedStruct, ProtocolVersion, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{Io, WebSocket, connect_tcp, resolve, tls_builder, tls_handshake, upgrade};
#[cfg(feature = "proxy")]
use super::{checked_proxy, proxied};
use crate::{
    StarAddr,
    address::Rendezvous,
    config::Config,
    crypto,
    error::LinkError,
    link::{
        connect::Routes,
        socket::{Deadline, SocketConfig, begin, leave},
    },
    sync::lock,
};

/// The stages of opening a link to a rendezvous. Each stage may take the connect timeout of the configuration.
///
/// A probe also connects to addresses that are not public, because its creator names the rendezvous.
///
/// # Panics
/// The futures of its methods panic outside of a Tokio runtime with time and IO enabled.
///
/// # Cancel safety
/// Dropping any of the futures abandons the stage, and the connection that was passed to it.
pub struct Probe {
    rendezvous: Rendezvous,
    config: SocketConfig,
    /// `None` if no roots are trusted.
    verifier: Option<Arc<WebPkiServerVerifier>>,
    timeout: Duration,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("rendezvous", &self.rendezvous.to_string())
            .finish_non_exhaustive()
    }
}

/// The proxy that leads to a rendezvous. `Display` writes its URL without credentials.
#[cfg(feature = "proxy")]
#[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
pub struct Proxy(crate::proxy::Proxy, http::Uri);

#[cfg(feature = "proxy")]
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "proxy")]
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// A connection to a rendezvous, with or without TLS.
#[derive(Debug)]
pub struct Wire(Io);

/// The result of a TLS handshake.
#[derive(Debug)]
#[non_exhaustive]
pub struct Handshake {
    /// The server's own certificate in DER form, if the server has shown one. It may or may not have been accepted.
    pub certificate: Option<Vec<u8>>,
    /// The encrypted connection, or the reason why there is none.
    pub outcome: Result<Encrypted, LinkError>,
}

/// A connection with TLS.
#[derive(Debug)]
#[non_exhaustive]
pub struct Encrypted {
    /// The encrypted connection.
    pub wire: Wire,
    /// The version of TLS, such as "TLS 1.3".
    pub version: &'static str,
}

/// A WebSocket to a rendezvous, before any message.
pub struct Upgraded {
    ws: WebSocket,
    timeout: Duration,
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}

/// The data that a rendezvous sends when a link opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// The interval at which the rendezvous wants heartbeats.
    pub ping_interval: Duration,
    /// The maximum time for an answer to a heartbeat.
    pub ping_timeout: Duration,
}

impl Probe {
    /// Returns a probe of the rendezvous of `star`, with the settings of a transport with `config`.
    pub fn new(config: &Config, star: &StarAddr) -> Self {
        let roots = Arc::new(config.roots.store());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, crypto::provider());
        Self {
            rendezvous: star.rendezvous().clone(),
            config: SocketConfig::new(config),
            // There are no revocation lists, so this fails only without roots.
            verifier: verifier.build().ok(),
            timeout: config.connect_timeout,
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout)
    }

    /// Returns the proxy that leads to the rendezvous, if there is one. The proxy then looks up the name of the
    /// rendezvous.
    ///
    /// # Errors
    /// * [`LinkError::Resolve`] if no proxy can be asked for a host of that name.
    /// * [`LinkError::Proxy`] if there is a token, and no encryption that hides it from the proxy.
    #[cfg(feature = "proxy")]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
    pub fn proxy(&self) -> Result<Option<Proxy>, LinkError> {
        let proxy = checked_proxy(&self.rendezvous, &self.config)?;
        Ok(proxy.map(|(proxy, uri)| Proxy(proxy, uri)))
    }

    /// Connects to the rendezvous through a proxy.
    ///
    /// # Errors
    /// Returns [`LinkError::Proxy`] or [`LinkError::TimedOut`].
    #[cfg(feature = "proxy")]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
    pub async fn connect_through(&self, proxy: &Proxy) -> Result<Wire, LinkError> {
        let (through, tls) = ((proxy.0.clone(), proxy.1.clone()), &self.config.native.tls);
        let (mut routes, deadline) = (Routes::default(), self.deadline());
        let connecting = proxied::connect_through(&through, tls, &mut routes, &deadline);
        Ok(Wire(connecting.await?.0))
    }

    /// Returns the addresses of the host, at least one.
    ///
    /// # Errors
    /// Returns [`LinkError::Resolve`], [`LinkError::NoAddress`] or [`LinkError::TimedOut`].
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, LinkError> {
        let resolving = resolve(&self.rendezvous);
        self.deadline().stage("name resolution", resolving).await
    }

    /// Connects to one address.
    ///
    /// # Errors
    /// Returns [`LinkError::Connect`] or [`LinkError::TimedOut`].
    pub async fn connect(&self, addr: SocketAddr) -> Result<Wire, LinkError> {
        let (addresses, mut routes) = ([addr], Routes::default());
        let connecting = connect_tcp(&addresses, &mut routes);
        let connecting = connecting.map_err(|error| LinkError::Connect(Arc::new(error)));
        let (tcp, _) = self.deadline().stage("connecting", connecting).await?;
        Ok(Wire(Io::Plain(tcp)))
    }

    /// Does the TLS handshake, which comes first for a rendezvous at `wss`.
    ///
    /// The outcome may be [`LinkError::Tls`], [`LinkError::TlsWithoutName`], [`LinkError::NotTls`],
    /// [`LinkError::TlsHandshake`], [`LinkError::Resolve`] for a name that no certificate can have, or
    /// [`LinkError::TimedOut`].
    pub async fn encrypt(&self, wire: Wire) -> Handshake {
        let seen = Arc::new(Recording {
            verifier: self.verifier.clone(),
            algorithms: crypto::provider().signature_verification_algorithms,
            certificate: Mutex::default(),
        });
        let config = tls_builder()
            // The custom verifier verifies exactly as the transport does.
            .dangerous()
            .with_custom_certificate_verifier(seen.clone())
            .with_no_client_auth();
        let config = Arc::new(config);
        let handshake = tls_handshake(&self.rendezvous, &config, wire.0);
        let outcome = self.deadline().stage("the TLS handshake", handshake).await;
        let certificate = lock(&seen.certificate).take();
        Handshake {
            certificate,
            outcome: outcome.map(|tls| Encrypted {
                version: match tls.get_ref().1.protocol_version() {
                    Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
                    Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
                    _ => "TLS",
                },
                wire: Wire(Io::Tls(Box::new(tls))),
            }),
        }
    }

    /// Asks for a WebSocket, and sends the token for this rendezvous.
    ///
    /// # Errors
    /// Returns [`LinkError::Upgrade`] or [`LinkError::TimedOut`].
    pub async fn upgrade(&self, wire: Wire) -> Result<Upgraded, LinkError> {
        let upgrade = upgrade(&self.rendezvous, &self.config, wire.0);
        let upgraded = self
            .deadline()
            .stage("the WebSocket upgrade", upgrade)
            .await;
        upgraded.map(|ws| Upgraded {
            ws,
            timeout: self.timeout,
        })
    }
}

impl Upgraded {
    /// Waits for the packets that open a link, and then closes the WebSocket.
    ///
    /// # Errors
    /// Returns [`LinkError::Protocol`] if the server speaks another protocol over WebSocket. Also returns
    /// [`LinkError::Closed`], [`LinkError::TimedOut`], or any other error of a WebSocket.
    pub async fn opened(self) -> Result<Opened, LinkError> {
        let (ws, open) = begin(self.ws, &Deadline::after(self.timeout)).await?;
        leave(ws, &LinkError::Closed(None));
        Ok(Opened {
            ping_interval: open.ping_interval,
            ping_timeout: open.ping_timeout,
        })
    }
}

/// A verifier that keeps the server's certificate.
#[derive(Debug)]
struct Recording {
    /// `None` if no roots are trusted.
    verifier: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    certificate: Mutex<Option<Vec<u8>>>,
}

impl ServerCertVerifier for Recording {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *lock(&self.certificate) = Some(end_entity.to_vec());
        let Some(verifier) = &self.verifier else {
            return Err(rustls::CertificateError::UnknownIssuer.into());
        };
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
