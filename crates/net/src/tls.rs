//! TLS identities: an Ed25519 key in a self-signed certificate of which only the SubjectPublicKeyInfo counts.

use crate::error::NetError;
use crate::{ALPN, ClientKey};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureAlgorithm,
    SignatureScheme,
};
use std::sync::{Arc, OnceLock};
use tombola_core::key::{AccountKey, PublicKey, SecretKey, Signature};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The name asked for in the handshake and written into certificates; nobody reads it.
pub(crate) const SERVER_NAME: &str = "tombola";

/// DER in front of the 32 key bytes of an Ed25519 SubjectPublicKeyInfo (RFC 8410 section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key with its certificate, ready for handshakes of either side.
pub(crate) type Identity = Arc<CertifiedKey>;

/// Makes the TLS identity of a key.
pub(crate) fn identity(key: &SecretKey) -> Result<Identity, NetError> {
    let key = HandshakeKey::new(key);
    let names = vec![SERVER_NAME.to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .and_then(|params| params.self_signed(&key))
        .map_err(|_| NetError::Identity)?;
    Ok(identity_with(certificate.der().clone(), key))
}

/// A self-signed X.509 certificate (DER) of a key, as a client or server here shows it. Spec: N-02.
///
/// # Errors
/// [`NetError::Identity`].
pub fn certificate(key: &SecretKey) -> Result<Vec<u8>, NetError> {
    let identity = identity(key)?;
    let certificate = identity.cert.first().ok_or(NetError::Identity)?;
    Ok(certificate.to_vec())
}

fn identity_with(certificate: CertificateDer<'static>, key: HandshakeKey) -> Identity {
    Arc::new(CertifiedKey::new(vec![certificate], Arc::new(key)))
}

/// The client side of TLS for one server key, and where the key that answered is noted if it is another one.
pub(crate) fn client_config(
    pinned: AccountKey,
    identity: Option<&Identity>,
) -> Result<(quinn::ClientConfig, Arc<OnceLock<AccountKey>>), NetError> {
    let stranger = Arc::new(OnceLock::new());
    let verifier = PinnedServer {
        pinned,
        stranger: Arc::clone(&stranger),
    };
    let tls = rustls_client(Arc::new(verifier), identity)?;
    let crypto = QuicClientConfig::try_from(tls).map_err(|_| NetError::Identity)?;
    Ok((quinn::ClientConfig::new(Arc::new(crypto)), stranger))
}

fn rustls_client(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<&Identity>,
) -> Result<rustls::ClientConfig, NetError> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|_| NetError::Identity)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut tls = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity)))),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would not show the server's key again, and early data could be replayed.
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    Ok(tls)
}

/// The server side of TLS.
pub(crate) fn server_config(identity: &Identity, client_key: ClientKey) -> Result<quinn::ServerConfig, NetError> {
    let crypto = QuicServerConfig::try_from(rustls_server(identity, client_key)?).map_err(|_| NetError::Identity)?;
    Ok(quinn::ServerConfig::with_crypto(Arc::new(crypto)))
}

fn rustls_server(identity: &Identity, client_key: ClientKey) -> Result<rustls::ServerConfig, NetError> {
    let builder = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|_| NetError::Identity)?;
    let builder = match client_key {
        ClientKey::Required => builder.with_client_cert_verifier(Arc::new(AnyClient)),
        ClientKey::NotAsked => builder.with_no_client_auth(),
    };
    let mut tls = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity))));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    Ok(tls)
}

/// The key of an X.509 certificate (DER) that a peer shows, or `None` if it holds no acceptable Ed25519 key. Nothing else
/// of it counts. Spec: N-02.
#[must_use]
pub fn key_of(certificate: &[u8]) -> Option<PublicKey> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let key = parsed.public_key().raw.strip_prefix(&SPKI_PREFIX)?;
    AccountKey(key.try_into().ok()?).check().ok()
}

// Named wherever it is needed: a process-wide default could be another one.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The node's key, as rcgen and rustls want it.
#[derive(Debug, Clone)]
struct HandshakeKey {
    key: Arc<SecretKey>,
    public: AccountKey,
}

impl HandshakeKey {
    fn new(key: &SecretKey) -> Self {
        Self {
            key: Arc::new(SecretKey::from_seed(&key.seed())),
            public: key.account(),
        }
    }
}

impl rcgen::PublicKeyData for HandshakeKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for HandshakeKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign_bytes(message).0.to_vec())
    }
}

impl SigningKey for HandshakeKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ED25519)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for HandshakeKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.key.sign_bytes(message).0.to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// Accepts the one server whose key was pinned.
#[derive(Debug)]
struct PinnedServer {
    pinned: AccountKey,
    stranger: Arc<OnceLock<AccountKey>>,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let given = key_of(end_entity).ok_or(CertificateError::BadEncoding)?.account();
        if given == self.pinned {
            return Ok(ServerCertVerified::assertion());
        }
        // One connection attempt sees one certificate; a second note could only repeat it.
        let _ = self.stranger.set(given);
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_handshake(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Accepts every client that proves an acceptable key; who it is, is the application's business.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        key_of(end_entity).ok_or(CertificateError::BadEncoding)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_handshake(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Checks the handshake signature by the certificate's key, under the one acceptance rule for signatures.
fn verify_handshake(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    if signature.scheme != SignatureScheme::ED25519 {
        return Err(PeerIncompatible::NoSignatureSchemesInCommon.into());
    }
    let key = key_of(certificate).ok_or(CertificateError::BadEncoding)?;
    let bytes = signature
        .signature()
        .try_into()
        .map_err(|_| CertificateError::BadSignature)?;
    key.verify_bytes(message, &Signature(bytes))
        .map_err(|_| CertificateError::BadSignature)?;
    Ok(HandshakeSignatureValid::assertion())
}

#[cfg(test)]
mod tests;
