//! Certificates made on the spot, and a TLS server that shows and asks for them.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};

use super::spawn;

/// Somebody who vouches for others, with a directory for what it makes.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    place: TempDir,
}

/// A certificate and its key, as PEM files.
pub(crate) struct Certified {
    /// The certificate.
    pub(crate) cert: PathBuf,
    /// The key.
    pub(crate) key: PathBuf,
}

/// A TLS server in front of a server without; it ends with its value.
pub(crate) struct Front {
    addr: SocketAddr,
    server: JoinHandle<()>,
}

impl Authority {
    /// Makes one of this name.
    pub(crate) fn called(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a new key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate of its own");
        let place = TempDir::new().expect("a temporary directory");
        std::fs::write(place.path().join("ca.pem"), issuer.pem()).expect("a writable directory");
        Self { issuer, place }
    }

    /// Returns the file with its own certificate.
    pub(crate) fn pem(&self) -> PathBuf {
        self.place.path().join("ca.pem")
    }

    /// Vouches for `name`, a host or an address.
    pub(crate) fn vouch_for(&self, name: &str) -> Certified {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a new key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |kind: &str| self.place.path().join(format!("{name}.{kind}.pem"));
        let certified = Certified {
            cert: path("cert"),
            key: path("key"),
        };
        std::fs::write(&certified.cert, cert.pem()).expect("a writable directory");
        std::fs::write(&certified.key, key.serialize_pem()).expect("a writable directory");
        certified
    }

    /// Returns what asks clients for a certificate of its own.
    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        let provider = Arc::new(ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .expect("one root")
    }
}

impl Certified {
    fn shown_by(&self, verifier: Arc<dyn ClientCertVerifier>) -> ServerConfig {
        let chain = CertificateDer::from_pem_file(&self.cert).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a key");
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![chain], key)
            .expect("a certificate and its key")
    }
}

impl Front {
    /// Starts a server that shows `shown` and passes everything on to `behind`.
    pub(crate) async fn start(shown: &Certified, behind: SocketAddr) -> Self {
        Self::with(shown.shown_by(Arc::new(NoClientAuth)), behind).await
    }

    /// Starts a server that moreover asks for a certificate of `authority`.
    pub(crate) async fn asking(
        shown: &Certified,
        authority: &Authority,
        behind: SocketAddr,
    ) -> Self {
        Self::with(shown.shown_by(authority.verifier()), behind).await
    }

    /// Starts a server that speaks nothing but HTTP/2.
    pub(crate) async fn over_http2(shown: &Certified, behind: SocketAddr) -> Self {
        let mut config = shown.shown_by(Arc::new(NoClientAuth));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::with(config, behind).await
    }

    /// Returns the base URL that an SDK would be given.
    pub(crate) fn base_url(&self) -> String {
        format!("https://{}/v1", self.addr)
    }

    async fn with(config: ServerConfig, behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound listener");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn(pass(acceptor.clone(), stream, behind));
            }
        });
        Self { addr, server }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(acceptor: TlsAcceptor, stream: TcpStream, behind: SocketAddr) {
    match acceptor.accept(stream).into_fallible().await {
        Ok(mut client) => {
            let mut server = TcpStream::connect(behind).await.expect("somebody behind");
            // A hang-up on either side is what a test may want.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
        Err((_, mut refused)) => {
            // Whoever closes on unread bytes takes its last words back, and these say why.
            let _ = refused.shutdown().await;
            let _ = refused.read_to_end(&mut Vec::new()).await;
        }
    }
}
