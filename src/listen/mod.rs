//! Accepting calls: HTTP/1.1 and h2c on one port, deadlines, drain.
//!
//! # Drain
//! Once told to stop, a listener accepts no more, tells its connections to end after the call under way
//! (`Connection: close`, GOAWAY); who owns the tasks waits for them, and bounds the wait.

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
mod waking;

use std::{
    convert::Infallible, future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::Service;

use self::{
    edge::Edge,
    socket::{Deadlines, Line, Socket},
    streams::Streams,
    waking::Waking,
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

/// Accepts until `stop`. The connections are `tasks`' own: they end after the call under way then, or at `cut`.
pub async fn serve<S: Answering>(
    listener: TcpListener,
    edge: Edge<S>,
    deadlines: Deadlines,
    tasks: Tasks,
    end: End,
) {
    let builder = builder(Streams::new(tasks.clone(), deadlines.write));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(&builder, stream, edge.of_connection(), deadlines);
                tasks.spawn(attend(connection, end.clone()));
            }
            Err(error) => {
                tracing::warn!(error = %error, "no connection accepted");
                // Out of descriptors, most likely: they come back when calls end.
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Drives a connection to its end: the client's, the one that `stop` asks for, or the one that `cut` makes.
async fn attend(connection: impl GracefulConnection<Error = BoxError>, end: End) {
    let mut connection = pin!(connection);
    let mut waking = Waking::default();
    // To ask a token whether it is cancelled takes a lock that all connections share, and a connection is polled for
    // every call; in here the tokens are asked when they have news.
    let mut news: FuturesUnordered<BoxFuture<'_, News>> = FuturesUnordered::new();
    news.push(Box::pin(end.stop.cancelled().map(|()| News::Stop)));
    news.push(Box::pin(end.cut.cancelled().map(|()| News::Cut)));
    loop {
        tokio::select! {
            biased;
            ended = poll_fn(|cx| waking.poll(cx, |cx| connection.as_mut().poll(cx))) => {
                // How a connection ends is the client's business; its calls are in the ledger.
                if let Err(error) = ended {
                    tracing::debug!(error = %error, "connection ended");
                }
                return;
            }
            Some(news) = news.next() => match news {
                News::Stop => connection.as_mut().graceful_shutdown(),
                News::Cut => return,
            },
        }
    }
}

/// What a connection is told.
enum News {
    Stop,
    Cut,
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
) -> impl GracefulConnection<Error = BoxError> + Send + 'static {
    // A lost option costs a little speed, and a dead connection shows itself soon enough.
    let _ = stream.set_nodelay(true);
    let line = Arc::new(Line::default());
    let socket = Socket::new(stream, line.clone(), deadlines);
    let service = service_fn(move |request| {
        let answering = edge.clone().handle(request, line.begin());
        answering.map(Ok::<_, Infallible>)
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
