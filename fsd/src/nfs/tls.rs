//! Encryption in transit: TLS from the first byte, as EFS's mount helper wraps NFS, or when a client asks (RFC 9289).

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use serde::Deserialize;

/// RFC 9289 section 5.1.
const PROTOCOL: &[u8] = b"sunrpc";

/// What a listener is told of TLS.
#[derive(Deserialize)]
pub struct Identity {
    /// The chain, PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// Every connection begins with a handshake; else clients may ask for one.
    #[serde(default)]
    pub first: bool,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

/// TLS that can start on connections.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    pub first: bool,
}

impl Tls {
    /// # Errors
    /// A sentence about the certificate or the key that cannot be used.
    pub fn new(identity: &Identity) -> Result<Tls, String> {
        let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("tls.certificate: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
            .map_err(|error| format!("tls.key: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("tls: {error}"))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| format!("tls.certificate: {error}"))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Tls {
            config: Arc::new(config),
            first: identity.first,
        })
    }

    pub fn connection(&self) -> Result<ServerConnection, rustls::Error> {
        let mut connection = ServerConnection::new(Arc::clone(&self.config))?;
        // What is unsent is bounded by the connection itself.
        connection.set_buffer_limit(None);
        Ok(connection)
    }
}
