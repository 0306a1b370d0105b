//! TLS between the server and its clients.

use std::{io, net::SocketAddr, sync::Arc};

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::TlsConfig;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto, pki_types::CertificateDer},
};

use crate::client::{Client, connect};

/// The address of a server, and its TLS connector if it uses TLS.
#[derive(Clone)]
pub struct Place {
    pub addr: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Place {
    /// Creates a place. `certificate` is the server's certificate in DER; without one, the server does not use TLS.
    pub fn new(addr: SocketAddr, certificate: Option<Vec<u8>>) -> io::Result<Self> {
        let tls = certificate.map(trusting).transpose()?;
        Ok(Self { addr, tls })
    }

    /// Connects and joins with a new key.
    pub async fn joined(&self, port: u16) -> io::Result<Client> {
        let Some(tls) = &self.tls else {
            return Client::joined(self.addr, port).await;
        };
        let stream = connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let stream = tls.connect(self.addr.ip().into(), stream).await?;
        let mut client = Client::begin_over(Box::new(stream), "").await?;
        client.join(&Keypair::generate_ed25519(), port).await?;
        Ok(client)
    }
}

fn trusting(certificate: Vec<u8>) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from(certificate);
    roots.add(certificate).map_err(io::Error::other)?;
    let provider = Arc::new(crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config).into())
}

/// Returns a self-signed certificate for the loopback address with its key, and the same certificate in DER.
pub fn self_signed() -> io::Result<(TlsConfig, Vec<u8>)> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let made = made.map_err(io::Error::other)?;
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = TlsConfig::from_pem(chain.as_bytes(), key.as_bytes());
    Ok((tls.map_err(io::Error::other)?, made.cert.der().to_vec()))
}
