//! Accepting calls: HTTP/1.1 and h2c on one port, deadlines, drain.
//!
//! # Drain
//! Once told to stop, a listener takes who has connected already and closes. Those for whom there is no room wait for it, as
//! before: from now on places only become free. Its connections end after the call under way
//! (`Connection: close`, GOAWAY); those without one are kept a little longer, for a request that is on its way to be answered
//! and not reset. Who owns the tasks waits for them, and bounds the wait.

pub mod arriving;
pub mod breaking;
pub mod connections;
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
    connections::{Connected, Connections},
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

/// What the listeners have in common.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long a client may take.
    pub deadlines: Deadlines,
    /// How many clients there may be.
    pub connections: Connections,
    /// Owner of the connections.
    pub tasks: Tasks,
    /// When it is all over.
    pub end: End,
}

/// Accepts until `stop`. The connections end after the call under way then, or at `cut`.
pub async fn serve<S: Answering>(listener: TcpListener, edge: Edge<S>, terms: Terms) {
    let streams = Streams::new(terms.tasks.clone(), terms.deadlines.write);
    let reception = Reception {
        builder: builder(streams),
        edge,
        terms,
    };
    let End { stop, cut } = reception.terms.end.clone();
    let mut parked = None;
    stop.run_until_cancelled(reception.accept_from(&listener, &mut parked))
        .await;
    let mut last = Vec::from_iter(parked);
    if let Ok(listener) = listener.into_std() {
        last.extend(the_last(&listener));
    }
    cut.run_until_cancelled(reception.attend_the_last(last))
        .await;
}

/// Who takes in connections.
struct Reception<S> {
    builder: auto::Builder<Streams>,
    edge: Edge<S>,
    terms: Terms,
}

impl<S: Answering> Reception<S> {
    /// Accepts for ever. Whoever is accepted and has no place yet is `parked`, for the case that it ends just then.
    async fn accept_from(&self, listener: &TcpListener, parked: &mut Option<TcpStream>) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // It may wait here, accepted and unread, and the others behind it in the system's queue.
                    *parked = Some(stream);
                    let connected = self.terms.connections.enter().await;
                    if let Some(stream) = parked.take() {
                        self.attend(stream, connected);
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "no connection accepted");
                    // Out of descriptors, most likely: they come back when calls end.
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Attends to who came last, as there is room for them.
    async fn attend_the_last(&self, last: Vec<TcpStream>) {
        for stream in last {
            let connected = self.terms.connections.enter().await;
            self.attend(stream, connected);
        }
    }

    fn attend(&self, stream: TcpStream, connected: Connected) {
        let Terms {
            deadlines,
            tasks,
            end,
            ..
        } = &self.terms;
        // A lost option costs a little speed, and a dead connection shows itself soon enough.
        let _ = stream.set_nodelay(true);
        let line = Arc::new(Line::default());
        let socket = Socket::new(stream, line.clone(), *deadlines, connected);
        let connection = connection(&self.builder, socket, line, self.edge.of_connection());
        tasks.spawn(attend(connection, end.clone()));
    }
}

/// Accepts who stands in the system's queue: they would be reset, and their requests may have been sent already.
fn the_last(listener: &std::net::TcpListener) -> impl Iterator<Item = TcpStream> + '_ {
    std::iter::from_fn(|| {
        let (stream, _) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        TcpStream::from_std(stream).ok()
    })
    .take(LAST)
}

/// Drives a connection to its end: the client's, the one that `stop` asks for, or the one that `cut` makes.
async fn attend(connection: impl GracefulConnection<Error = BoxError>, end: End) {
    let mut connection = pin!(connection);
    let mut waking = Waking::default();
    // To ask a token whether it is cancelled takes a lock that all connections share, and a connection is polled for
    // every call; in here the tokens are asked when they have news.
    let mut news: FuturesUnordered<BoxFuture<'_, News>> = FuturesUnordered::new();
    let stopped = end.stop.cancelled().then(|()| tokio::time::sleep(GRACE));
    news.push(Box::pin(stopped.map(|()| News::Stop)));
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
    socket: Socket,
    line: Arc<Line>,
    edge: Edge<S>,
) -> impl GracefulConnection<Error = BoxError> + Send + 'static {
    let service = service_fn(move |request| {
        let answering = edge.clone().handle(request, line.begin());
        answering.map(Ok::<_, Infallible>)
    });
    builder
        .serve_connection_with_upgrades(TokioIo::new(socket), service)
        .into_owned()
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// For a request that is on its way when a listener closes: a connection without a call is kept as long.
const GRACE: Duration = Duration::from_millis(100);
/// Clients that are accepted last, at most: more than a system's queue holds, so that no flood keeps a listener open.
const LAST: usize = 4096;
/// Pause after a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(50);
/// Calls at a time on an h2 connection.
const STREAMS: u32 = 1024;
/// Between pings on an h2 connection.
const PING: Duration = Duration::from_secs(30);
