//! Accepting calls: HTTP/1.1 and h2c on one port, deadlines, drain.
//!
//! # Drain
//! Once told to stop, a listener accepts no more, tells its connections to end after the call under way
//! (`Connection: close`, GOAWAY), and waits for them; the caller bounds the wait.

pub mod arriving;
pub mod breaking;
pub mod cors;
pub mod departing;
pub mod edge;
mod ids;
pub mod incoming;
pub mod origin;
pub mod outgoing;
pub mod own;
pub mod socket;
mod streams;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::Service;

use self::{
    edge::Edge,
    socket::{Deadlines, Line, Socket},
    streams::Streams,
};
use crate::{
    answer::tasks::Tasks,
    error::{Error, Kind},
    ledger::{Arrival, Recorded},
};

/// What the edge hands its calls to, such that a connection can carry it.
pub trait Answering:
    Service<Arrival, Response = Recorded, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Answering for S where
    S: Service<Arrival, Response = Recorded, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Opens a listening socket at `address`, `host:port`.
pub async fn bind(address: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| {
        let message = format!("no way to listen on `{address}`");
        Error::with_source(Kind::Internal, message, error)
    })
}

/// Returns the address that a socket really listens on.
pub fn address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener
        .local_addr()
        .map_err(|error| Error::with_source(Kind::Internal, "a listener without an address", error))
}

/// How listening ends.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// No more calls are accepted; those under way go on.
    pub stop: CancellationToken,
    /// Those under way are cut off. Their records are written like any other's.
    pub cut: CancellationToken,
}

/// Accepts and answers until `stop`, then until the calls under way have ended.
pub async fn serve<S: Answering>(
    listener: TcpListener,
    edge: Edge<S>,
    deadlines: Deadlines,
    tasks: Tasks,
    end: End,
) {
    let connections = GracefulShutdown::new();
    let builder = builder(Streams::new(tasks.clone(), deadlines.write));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(&builder, stream, edge.clone(), deadlines);
                let watched = connections.watch(connection);
                let cut = end.cut.clone();
                tasks.spawn(async move {
                    // How a connection ends is the client's business; its calls are in the ledger.
                    if let Some(Err(error)) = cut.run_until_cancelled(watched).await {
                        tracing::debug!(error = %error, "connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "no connection accepted");
                // Out of descriptors, most likely: they come back when calls end.
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

fn builder(streams: Streams) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    builder.http1().header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING);
    builder
}

fn connection<S: Answering>(
    builder: &auto::Builder<Streams>,
    stream: TcpStream,
    edge: Edge<S>,
    deadlines: Deadlines,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = BoxError> + Send + 'static {
    // A lost option costs a little speed, and a dead connection shows itself soon enough.
    let _ = stream.set_nodelay(true);
    let line = Arc::new(Line::default());
    let socket = Socket::new(stream, line.clone(), deadlines);
    let service = service_fn(move |request| {
        let edge = edge.clone();
        let call = line.begin();
        async move { Ok::<_, Infallible>(edge.handle(request, call).await) }
    });
    builder
        .serve_connection_with_upgrades(TokioIo::new(socket), service)
        .into_owned()
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Pause after a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(50);
/// Calls at a time on an h2 connection.
const STREAMS: u32 = 1024;
/// Between pings on an h2 connection.
const PING: Duration = Duration::from_secs(30);
