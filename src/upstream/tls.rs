//! TLS to an upstream: whom it is believed to be vouched for by, and what the proxy shows of itself. Pure.
//!
//! # Scope
//! Certificates are always verified. With roots of the operator's, those alone count; else the system's do.

use std::{error::Error as StdError, io, sync::Arc};

use hyper_rustls::ConfigBuilderExt;
use rustls::{CertificateError, ClientConfig, RootCertStore, crypto::ring};

use crate::{
    config::Tls,
    error::{Error, Kind},
};

/// Returns how TLS is spoken.
///
/// # Errors
/// [`Kind::Internal`] where the system's roots cannot be read; what `tls` says has been found usable by the
/// configuration's check.
pub fn client_config(tls: &Tls) -> Result<ClientConfig, Error> {
    try_client_config(tls).map_err(|error| Error::with_source(Kind::Internal, "no TLS here", error))
}

fn try_client_config(tls: &Tls) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = if tls.roots.is_empty() {
        builder.try_with_platform_verifier()?
    } else {
        let mut roots = RootCertStore::empty();
        tls.roots
            .iter()
            .try_for_each(|root| roots.add(root.clone()))?;
        builder.with_root_certificates(roots)
    };
    match &tls.client {
        Some(shown) => builder.with_client_auth_cert(shown.chain.clone(), shown.key.clone_key()),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Returns why TLS failed, in words for a client, where it is TLS that `error` is about. Names and issuers of
/// certificates are for the log.
pub fn fault(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let mut causes = std::iter::successors(Some(error), |error| cause(*error));
    causes.find_map(|error| error.downcast_ref().map(told))
}

/// Returns what is behind `error`. An `io::Error` hides what it wraps from those who ask for its source.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn told(fault: &rustls::Error) -> &'static str {
    use rustls::Error::{AlertReceived, InvalidCertificate};
    match fault {
        InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is vouched for by nobody who is trusted"
        }
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name",
        InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid at this time",
        InvalidCertificate(_) => "its certificate cannot be accepted",
        AlertReceived(_) => "it refused to speak TLS with the proxy",
        _ => "TLS failed",
    }
}
