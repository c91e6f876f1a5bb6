//! The bare pass-through that Refrain's misses are measured against: hyper takes the call, reqwest makes it.
//!
//! It keeps connections on both sides, passes method, path, query, headers and bodies on, and does nothing else.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use crate::report;

/// What makes this program the pass-through; the upstream's address follows.
pub(crate) const ARGUMENT: &str = "pass-server";

type Body = UnsyncBoxBody<Bytes, reqwest::Error>;

/// Serves until it is killed.
pub(crate) async fn serve(upstream: SocketAddr) -> Result<()> {
    // reqwest has no cryptography of its own here, and wants some even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    report::text(&format!("proxy http://{}", listener.local_addr()?))?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let client = client.clone();
                async move { Ok::<_, Infallible>(answer(&client, upstream, request).await) }
            });
            // How a connection ends is the client's business.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    client: &reqwest::Client,
    upstream: SocketAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    pass(client, upstream, request).await.unwrap_or_else(|_| {
        let nothing = Full::default().map_err(|never| match never {});
        let mut response = Response::new(nothing.boxed_unsync());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    })
}

async fn pass(
    client: &reqwest::Client,
    upstream: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.headers.remove(header::HOST);
    head.headers.remove(header::CONNECTION);
    let asked = client
        .request(head.method, format!("http://{upstream}{path}"))
        .headers(head.headers)
        .body(reqwest::Body::wrap(body))
        .send()
        .await?;
    let mut answered: Response<reqwest::Body> = asked.into();
    answered.headers_mut().remove(header::CONNECTION);
    Ok(answered.map(BodyExt::boxed_unsync))
}
