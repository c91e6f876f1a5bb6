//! The edge over a real connection, above layers of the test's own.

use std::{convert::Infallible, io::Write, net::SocketAddr, sync::Mutex};

use futures_util::{StreamExt, future::Either};
use http_body_util::BodyExt;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::timeout,
};
use tower::{Layer, Service, ServiceExt as _, service_fn};

use super::*;
use crate::{
    answer::{
        Answer, Eventual,
        replay::Replay,
        retold::Teller,
        tape::{Limits, Tapes},
        verdict::{NotStored, Served},
    },
    call::{Call, Unkeyed, key::Secret},
    config::Config,
    guard::coalesce::{Flights, Judge},
    ledger::{Ledger, RecordLayer, log::Log, metrics::Metrics},
    listen::{self, End, Terms, connections::Connections, socket::Deadlines},
    store::{
        generations::Generations, memory::Memory, proofs::Proofs, purge::Purger, tiered::Tiered,
    },
};

/// What was logged.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn now(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn secret() -> Secret {
    Secret::from_bytes([7; 32])
}

fn edge(stack: impl Answering, tasks: &Tasks) -> Edge<impl Answering> {
    let config = Config::default();
    let secret = secret();
    let policy = Arc::new(Policy::new(
        &config.cache,
        &config.upstreams,
        Duration::from_secs(1),
    ));
    let readiness = Readiness::default();
    readiness.ready();
    let (log, _flush) = Log::start(&config.log, false, std::io::sink());
    Edge::new(Parts {
        stack,
        ledger: Ledger::new(log, Metrics::new()),
        own: own(&config, tasks),
        callers: Callers::new(&config.callers, &secret),
        guard: Guard::new(false, &[]),
        cors: Cors::new(&config.cors),
        keying: Keying::new(&config, secret, policy.clone()),
        policy,
        budget: Budget::new(config.limits.buffered),
        pause: config.limits.body,
        tasks: tasks.clone(),
        readiness,
    })
    .unwrap()
}

/// What callers may do over a store of its own.
fn own(config: &Config, tasks: &Tasks) -> Own {
    let limits = Limits {
        max_entry: 1 << 10,
        share: 1 << 20,
        window: 1 << 10,
        stall: config.cache.stall,
        finish: true,
        linger: Duration::from_secs(1),
    };
    let generations = Generations::new(std::time::UNIX_EPOCH);
    let store = Tiered::new(
        Memory::new(1 << 20, 1 << 10),
        None,
        generations,
        Teller::new(Tasks::default()),
    );
    let tapes = Tapes::new(limits, tasks.clone(), Box::new(|_| {}));
    let never: Judge = Arc::new(|_| Err(NotStored::NoStore));
    Own {
        purger: Purger::new(store.clone(), false),
        flights: Flights::new(tapes, store, never, |_, _, _| false, None),
        may_purge: true,
        proofs: Proofs::new(secret(), &[], Duration::from_secs(1), None, &[]),
        judges: Vec::new(),
    }
}

/// A listener with an edge over `stack`, and what it takes to end it.
struct Running {
    address: SocketAddr,
    tasks: Tasks,
    end: End,
    readiness: Readiness,
}

impl Running {
    /// Starts it; what `before` does with the address and the end comes before the first look at either.
    async fn start(stack: impl Answering, before: impl AsyncFnOnce(SocketAddr, &End)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, end) = (Tasks::default(), End::default());
        before(address, &end).await;
        let edge = edge(stack, &tasks);
        let readiness = edge.0.parts.readiness.clone();
        let terms = Terms {
            deadlines: Deadlines {
                header: Duration::from_secs(10),
                idle: Duration::from_secs(10),
                write: Duration::from_secs(10),
            },
            connections: Connections::new(None),
            tasks: tasks.clone(),
            end: end.clone(),
        };
        tasks.spawn(listen::serve(listener, edge, terms));
        Self {
            address,
            tasks,
            end,
            readiness,
        }
    }

    async fn stop(self) {
        self.end.stop.cancel();
        assert!(self.tasks.finish(Duration::from_secs(10)).await);
    }
}

async fn connect_and_ask(address: SocketAddr, headers: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /v1/models HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

async fn read_to_end(mut client: TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Sends one call through the edge to `stack` and returns the answer as it came.
async fn answered_by(stack: impl Answering) -> String {
    let running = Running::start(stack, async |_, _| {}).await;
    let client = connect_and_ask(running.address, "Connection: close\r\n").await;
    let answer = read_to_end(client).await;
    running.stop().await;
    answer
}

fn saying(body: Body) -> Answer {
    Answer {
        head: crate::answer::Head {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            framed: true,
            upstream: HeaderValue::from_static("up"),
            asked: crate::answer::Asked::default(),
            timing: None,
        },
        body,
        served: Served::bypass(Unkeyed::Endpoint),
    }
}

/// Layers that answer every call with the word `fine`.
fn answering() -> impl Answering {
    let (log, _flush) = Log::start(&Config::default().log, false, std::io::sink());
    let answer = service_fn(|_: Call| async {
        let body = Body::Replay(Replay::new(Bytes::from_static(b"fine"), None));
        Ok(saying(body))
    });
    RecordLayer::new(Ledger::new(log, Metrics::new())).layer(answer.map_future(in_its_time))
}

/// Returns an answer as one that comes in its time.
fn in_its_time(
    answering: impl Future<Output = Result<Answer, Error>> + Send + 'static,
) -> Eventual {
    Either::Right(Box::pin(answering))
}

/// A body whose first piece comes and whose second is a fault of our own.
fn faulty() -> Body {
    let pieces = futures_util::stream::iter([false, true]).map(|fails| {
        assert!(!fails, "a fault of our own");
        Ok(http_body::Frame::data(Bytes::from_static(b"a piece")))
    });
    Body::Stream(http_body_util::StreamBody::new(pieces).boxed_unsync())
}

/// Layers that answer `/v1/faulty` with a [`faulty`] body, and everything else with the word `fine`.
fn answering_faultily() -> impl Answering {
    let (log, _flush) = Log::start(&Config::default().log, false, std::io::sink());
    let answer = service_fn(|call: Call| async move {
        let is_faulty = call.target.path() == "/v1/faulty";
        Ok(saying(if is_faulty {
            faulty()
        } else {
            Body::Replay(Replay::new(Bytes::from_static(b"fine"), None))
        }))
    });
    RecordLayer::new(Ledger::new(log, Metrics::new())).layer(answer.map_future(in_its_time))
}

#[tokio::test]
async fn a_body_that_panics_is_aborted_and_other_connections_go_on() {
    let running = Running::start(answering_faultily(), async |_, _| {}).await;
    let other = connect_and_ask(running.address, "").await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    let request = b"GET /v1/faulty HTTP/1.1\r\nHost: x\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.contains("\r\n0\r\n"), "a clean end: {answer}");
    let mut other = other;
    let request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    other.write_all(request).await.unwrap();
    let answers = read_to_end(other).await;
    assert_eq!(answers.matches("fine").count(), 2, "{answers}");
    running.stop().await;
}

#[tokio::test]
async fn a_body_that_panics_on_http2_ends_its_stream_and_no_other() {
    let running = Running::start(answering_faultily(), async |_, _| {}).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    running.tasks.spawn(async move { drop(connection.await) });
    let mut sender = sender.ready().await.unwrap();
    for (path, is_whole) in [("/v1/faulty", false), ("/v1/models", true)] {
        let request = Request::get(format!("http://x{path}")).body(()).unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        let mut end = Ok(());
        // A stream that was reset says so for ever.
        while let Some(piece) = body.data().await
            && end.is_ok()
        {
            end = piece.map(drop);
        }
        assert_eq!(end.is_ok(), is_whole, "{path}: {end:?}");
    }
    drop(sender);
    running.stop().await;
}

#[tokio::test]
async fn who_has_connected_before_the_end_is_still_answered() {
    let mut client = None;
    let running = Running::start(answering(), async |address, end| {
        client = Some(connect_and_ask(address, "Connection: close\r\n").await);
        end.stop.cancel();
    });
    let running = running.await;
    let answer = read_to_end(client.unwrap()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn a_request_on_its_way_when_the_end_begins_is_answered_on_its_kept_connection() {
    let running = Running::start(answering(), async |_, _| {}).await;
    let mut client = connect_and_ask(running.address, "").await;
    let mut first = [0; 64];
    assert!(client.read(&mut first).await.unwrap() > 0);
    running.readiness.draining();
    running.end.stop.cancel();
    // The listener hears of the end before it can hear of the request.
    tokio::task::yield_now().await;
    let request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n";
    client.write_all(request).await.unwrap();
    let rest = read_to_end(client).await;
    assert!(rest.contains("HTTP/1.1 200 "), "{rest}");
    assert!(rest.contains("connection: close\r\n"), "{rest}");
    running.stop().await;
}

#[tokio::test]
async fn while_draining_every_answer_asks_for_another_connection() {
    let running = Running::start(answering(), async |_, _| {}).await;
    running.readiness.draining();
    let client = connect_and_ask(running.address, "").await;
    let answer = read_to_end(client).await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    running.stop().await;
}

/// A layer below that panics, at once or when it is waited for.
fn panicking(
    at_once: bool,
) -> impl Service<Call, Response = Answer, Error = Error, Future = Eventual>
+ Clone
+ Send
+ Sync
+ 'static {
    let answer = service_fn(move |_: Call| {
        assert!(!at_once, "a fault of our own");
        async move { panic!("a fault of our own") }
    });
    answer.map_future(in_its_time)
}

/// Lines are written where somebody listens at INFO. Whether somebody does is found out once for all threads, by any of
/// them: a listener for this one alone could be overlooked.
fn listen_at_info() {
    let listener = tracing_subscriber::fmt().with_writer(std::io::sink);
    let _ = listener.try_init();
}

#[tokio::test]
async fn a_call_that_panics_is_a_500_and_leaves_exactly_one_line() {
    listen_at_info();
    for at_once in [true, false] {
        let lines = Lines::default();
        let (log, flush) = Log::start(&Config::default().log, false, lines.clone());
        let record = RecordLayer::new(Ledger::new(log, Metrics::new()));
        let answer = answered_by(record.layer(panicking(at_once))).await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains("\"code\":\"internal\""), "{answer}");
        drop(flush);
        // That waits for the log's thread, but not for long.
        let written = async {
            while lines.now().is_empty() {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), written).await.unwrap();
        let lines = lines.now();
        let [line] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        assert!(line.contains("\"error.kind\":\"internal\""), "{line}");
    }
}

#[tokio::test]
async fn what_panics_above_the_record_is_a_500_too() {
    let stack = service_fn(|arrival: Arrival| async move {
        assert!(arrival.call.is_err(), "a fault of our own");
        let (log, _flush) = Log::start(&Config::default().log, false, std::io::sink());
        let mut record = RecordLayer::new(Ledger::new(log, Metrics::new())).layer(panicking(true));
        record.call(arrival).await
    });
    let stack = tower::util::MapErr::new(stack, |never: Infallible| never);
    let answer = answered_by(stack).await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
}
