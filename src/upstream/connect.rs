//! Connecting to an upstream: TCP and TLS within one timer.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower::Service;

use super::{client::SIGNS, reuse::Noting, tls};
use crate::{
    config::{self, HttpVersion},
    error::Error,
};

/// Connects over TCP, with TLS where the scheme asks for it.
#[derive(Clone, Debug)]
pub struct Connector {
    inner: HttpsConnector<HttpConnector>,
    /// What will be spoken.
    http: HttpVersion,
    limit: Option<Duration>,
}

/// The connect timer ran out.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
pub struct TimedOut(pub Duration);

/// A connection that knows whether it has been used before.
type Stream = TokioIo<Noting<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Connector {
    /// Makes a connector to `upstream` that offers `http` by ALPN and gives up after `limit`.
    ///
    /// # Errors
    /// As [`tls::client_config`].
    pub fn new(
        upstream: &config::Upstream,
        http: HttpVersion,
        limit: Option<Duration>,
    ) -> Result<Self, Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(upstream.keepalive);
        tcp.set_keepalive_interval(upstream.keepalive);
        tcp.set_keepalive_retries(upstream.keepalive.map(|_| SIGNS));
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client_config(&upstream.tls)?)
            .https_or_http();
        let inner = match http {
            HttpVersion::Http1 => builder.enable_http1().wrap_connector(tcp),
            HttpVersion::Http2 => builder.enable_http2().wrap_connector(tcp),
        };
        Ok(Self { inner, http, limit })
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let (http, limit) = (self.http, self.limit);
        Box::pin(async move {
            let connected = match limit {
                Some(limit) => tokio::time::timeout(limit, connecting)
                    .await
                    .map_err(|_| TimedOut(limit))?,
                None => connecting.await,
            };
            Ok(TokioIo::new(Noting::new(TokioIo::new(connected?), http)))
        })
    }
}
