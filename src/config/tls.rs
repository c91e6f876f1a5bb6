//! `tls` of `[[upstream]]`: whom it has to be known by, and what it knows the proxy by. Pure.
//!
//! # Scope
//! PEM is read here, into what the TLS library has tried and found usable; whose file it was, is told by `check`. The
//! private key is shown nowhere.

use std::{error::Error, sync::Arc};

use rustls::{
    InconsistentKeys, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::problem::Complaint;

/// `tls` of `[[upstream]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that may vouch for it; none where those of the system may.
    pub roots: Vec<CertificateDer<'static>>,
    /// What the proxy shows when it is asked who it is.
    pub client: Option<ClientCertificate>,
}

/// A certificate of the proxy's own and its key, which belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, then those that vouch for it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: Arc<PrivateKeyDer<'static>>,
}

/// Reads the certificates of authorities.
pub(super) fn roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Complaint> {
    let certificates = certificates(pem)?;
    let mut store = RootCertStore::empty();
    for (i, certificate) in certificates.iter().enumerate() {
        store.add(certificate.clone()).map_err(|error| {
            let what = format!(
                "has a certificate, number {}, of no authority: {error}",
                i + 1
            );
            Complaint::new(what, "expected X.509 certificates, as PEM")
        })?;
    }
    Ok(certificates)
}

/// Reads the certificates of a chain.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Complaint> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| {
            Complaint::new(
                "holds no certificate that could be read",
                "expected a PEM file with `-----BEGIN CERTIFICATE-----`",
            )
        })
}

/// Reads a private key. What cannot be read is not repeated.
pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Complaint> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        Complaint::new(
            "holds no private key that could be read",
            "expected a PEM file with `-----BEGIN PRIVATE KEY-----`, not encrypted",
        )
    })
}

/// Returns certificate and key, if they belong together.
pub(super) fn client(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientCertificate, Complaint> {
    CertifiedKey::from_der(chain.clone(), key.clone_key(), &ring::default_provider()).map_err(
        |error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Complaint::new(
                "is the certificate of another key",
                "name the certificate and the key that were made together",
            ),
            error => Complaint::new(
                format!("cannot be used with its key: {error}{}", cause(&error)),
                "expected an X.509 certificate and its RSA, ECDSA or Ed25519 key",
            ),
        },
    )?;
    Ok(ClientCertificate {
        chain,
        key: Arc::new(key),
    })
}

fn cause(error: &dyn Error) -> String {
    error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default()
}
