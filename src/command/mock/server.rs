//! The mock's listener: accepts, speaks HTTP/1.1 and h2c, flushes every event.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    Options,
    route::{Calls, Router},
};

/// The mock before it listens.
pub(super) struct Server {
    router: Arc<Router>,
}

impl Server {
    /// Makes a server that answers as `options` say.
    pub(super) fn new(options: Options) -> Self {
        Self {
            router: Arc::new(Router::new(options)),
        }
    }

    /// Returns the counters.
    pub(super) fn calls(&self) -> Arc<Calls> {
        self.router.calls()
    }

    /// Serves until `shutdown` is ready; then cuts the connections that are left and waits for their tasks.
    pub(super) async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        connections.spawn(serve(socket, Arc::clone(&self.router)));
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
        connections.shutdown().await;
    }
}

/// Serves one connection to its end.
async fn serve(socket: TcpStream, router: Arc<Router>) {
    // Without it Nagle's algorithm would hold small events back; a socket that refuses the option still works.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let router = Arc::clone(&router);
        async move { Ok::<_, Infallible>(router.answer(request).await) }
    });
    // A connection ends in an error when the client hangs up or a cut was asked for: both are its normal end here.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(socket), service)
        .await;
}

/// Pause after a failed `accept`, which is mostly a lack of file descriptors and would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
