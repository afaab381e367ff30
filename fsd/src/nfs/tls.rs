//! Encryption in transit: TLS from the first byte, as EFS's mount helper wraps NFS, or when a client asks (RFC 9289).

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::{
    verify_tls12_signature, verify_tls13_signature, CryptoProvider, WebPkiSupportedAlgorithms,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, ServerConnection};
use rustls::{Error, SignatureScheme};
use serde::Deserialize;

/// RFC 9289 section 5.1.
const PROTOCOL: &[u8] = b"sunrpc";
/// What a handshake begins with; an RPC record that does would be far longer than any.
pub const HANDSHAKE: u8 = 22;

/// Who the server is to clients.
#[derive(Deserialize)]
pub struct Identity {
    /// The chain, PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

/// TLS that can start on connections.
#[derive(Clone, Debug)]
pub struct Tls {
    asked: Arc<ServerConfig>,
    first: Arc<ServerConfig>,
}

impl Tls {
    /// The identity that has the name which a client asks for is shown; where none has, the first to clients that ask
    /// for TLS and the last to those who begin with it.
    ///
    /// # Errors
    /// A sentence about the certificate or the key that cannot be used.
    pub fn new(identities: &[Identity]) -> Result<Tls, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let keys = identities
            .iter()
            .map(|identity| certified(identity, &provider))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err("identities: at least one is needed".to_owned());
        }
        let builder = || {
            ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| format!("tls: {error}"))
        };
        let backwards = keys.iter().rev().cloned().collect();
        let mut asked = builder()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName(keys)));
        asked.alpn_protocols = vec![PROTOCOL.to_vec()];
        let holder = AnyHolder(provider.signature_verification_algorithms);
        let mut first = builder()?
            .with_client_cert_verifier(Arc::new(holder))
            .with_cert_resolver(Arc::new(ByName(backwards)));
        first.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Tls {
            asked: Arc::new(asked),
            first: Arc::new(first),
        })
    }

    /// For a client that has asked.
    pub fn when_asked(&self) -> Result<ServerConnection, Error> {
        connection(&self.asked)
    }

    /// For a client that begins with a handshake; it may show a certificate.
    pub fn at_once(&self) -> Result<ServerConnection, Error> {
        connection(&self.first)
    }
}

fn connection(config: &Arc<ServerConfig>) -> Result<ServerConnection, Error> {
    let mut connection = ServerConnection::new(Arc::clone(config))?;
    // What is unsent is bounded by the connection itself.
    connection.set_buffer_limit(None);
    Ok(connection)
}

fn certified(identity: &Identity, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
        .map_err(|error| format!("key: {error}"))?;
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(|error| format!("certificate: {error}"))
}

/// The first that has the name asked for, or the very first.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| self.0.iter().find(|key| serves(key, &name)));
        named.or(self.0.first()).cloned()
    }
}

fn serves(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let Some(Ok(certificate)) = key.cert.first().map(ParsedCertificate::try_from) else {
        return false;
    };
    verify_server_name(&certificate, name).is_ok()
}

/// Takes any certificate whose key its owner holds: clients of EFS make theirs themselves, and what it says is judged by
/// who knows the principals.
#[derive(Debug)]
struct AnyHolder(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyHolder {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
