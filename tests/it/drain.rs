//! The end under load: who calls is told to go elsewhere before anybody is turned away, and nothing breaks off.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::watch};

use crate::support::{
    client::{Request, chat, chat_stream, request, send_h2},
    gate,
    proxy::{Proxy, proxy},
    spawn,
    upstream::{Upstream, completion, stream, upstream},
    within,
};

#[tokio::test]
async fn readiness_fails_while_calls_are_still_accepted() {
    let up = upstream().start().await;
    let limits = "[limits]\ndrain = \"2h\"\nmin_drain = \"1h\"";
    let proxy = proxy(&up).with(limits).start().await;
    let mut kept = proxy.open(&chat("before")).await;
    assert_eq!(kept.next().await.header("connection"), None);
    proxy.terminate();
    proxy.logged("draining").await;
    let told = async { while proxy.admin("/readyz").await.status == 200 {} };
    within("readiness to fail", told).await;
    let probe = request("GET", "/_refrain/readyz");
    for ready in [proxy.admin("/readyz").await, proxy.send(&probe).await] {
        assert_eq!((ready.status, ready.text().as_str()), (503, "draining\n"));
    }
    for call in [chat("a miss"), chat("a miss"), chat_stream("another")] {
        let answer = proxy.send(&call).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.expect("connection"), "close");
    }
    // Here a second signal comes in place of the hour's end.
    proxy.terminate();
    proxy.logged("stopped by a second signal").await;
    assert_eq!(proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn when_the_least_time_is_over_the_listener_closes_and_what_runs_is_finished() {
    let gate = gate();
    let reply = stream(&["a", "b"]);
    let up = upstream()
        .answers(reply.clone().pausing_after(2, &gate))
        .start()
        .await;
    let limits = "[limits]\nmin_drain = \"300ms\"";
    let proxy = proxy(&up).with(limits).start().await;
    let addr = proxy.addr;
    let h2 = spawn(async move { send_h2(addr, &chat_stream("hi")).await });
    gate.reached().await;
    proxy.terminate();
    proxy.refusing().await;
    gate.open();
    assert_eq!(h2.await.unwrap().body, reply.bytes());
    assert_eq!(proxy.exit().await.code(), Some(0));
}

/// What became of all clients' calls.
#[derive(Default)]
struct Tally {
    /// Answers that came whole and as they should be.
    whole: AtomicUsize,
    /// Whether the clients are to go elsewhere.
    leave: AtomicBool,
    /// Connections, kept and new, that were closed before a call, or under one that had not been answered with a byte.
    turned_away: AtomicUsize,
}

/// One of many clients, with a connection that it keeps.
struct Client {
    addr: SocketAddr,
    number: usize,
    kept: Option<SendRequest<Full<Bytes>>>,
    tally: Arc<Tally>,
    news: watch::Sender<()>,
}

impl Client {
    /// Makes calls until told to leave, or until nobody listens any more. An answer that is not whole fails the test.
    async fn run(mut self) {
        for turn in 0.. {
            if self.tally.leave.load(Ordering::SeqCst) || !self.ask(turn).await {
                return;
            }
            self.news.send_replace(());
        }
    }

    /// Makes one call; false when nobody listens any more.
    async fn ask(&mut self, turn: usize) -> bool {
        let (call, expected) = self.call(turn);
        loop {
            let kept = self.kept.take();
            let Some(mut sender) = (match kept {
                Some(sender) => Some(sender),
                None => connect(self.addr).await,
            }) else {
                return false;
            };
            let (head, body) = call.over_http2(self.addr);
            let mut asked = head.map(|()| Full::new(body));
            let host = self.addr.to_string().parse().unwrap();
            asked.headers_mut().insert("host", host);
            let answer = match sender.send_request(asked).await {
                Ok(answer) => answer,
                Err(why) => {
                    assert!(
                        why.is_canceled() || why.is_incomplete_message() || is_reset(&why),
                        "{why:?}"
                    );
                    self.tally.turned_away.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
            };
            assert_eq!(answer.status(), 200);
            let keeps = answer.headers().get("connection").is_none();
            let body = answer.into_body().collect().await;
            assert!(body.expect("a whole answer").to_bytes() == expected);
            self.tally.whole.fetch_add(1, Ordering::SeqCst);
            if keeps && sender.ready().await.is_ok() {
                self.kept = Some(sender);
            }
            return true;
        }
    }

    /// Mixes misses and hits, plain answers and streams.
    fn call(&self, turn: usize) -> (Request, Vec<u8>) {
        let prompt = match turn % 3 {
            0 => "the same".to_owned(),
            _ => format!("{} {turn}", self.number),
        };
        if turn.is_multiple_of(2) {
            (chat_stream(&prompt), words().bytes())
        } else {
            (
                chat(&prompt).header("X-Cache-Namespace", "plain"),
                completion("hello").bytes(),
            )
        }
    }
}

fn words() -> crate::support::upstream::Reply {
    stream(&["one ", "two ", "three ", "four ", "five "])
}

fn is_reset(why: &hyper::Error) -> bool {
    let Some(source) = std::error::Error::source(why) else {
        return false;
    };
    source.is::<std::io::Error>()
}

async fn connect(addr: SocketAddr) -> Option<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(addr).await.ok()?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    // How it ends, the calls tell.
    spawn(async move { drop(connection.await) });
    Some(sender)
}

const CLIENTS: usize = 32;

/// Starts the clients, and returns once they have had some hundred answers.
async fn under_load(
    settings: &str,
) -> (
    Upstream,
    Proxy,
    Arc<Tally>,
    Vec<tokio::task::JoinHandle<()>>,
) {
    let up = upstream().by(|seen, _| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        if body.contains("\"stream\":true") {
            words()
        } else {
            completion("hello")
        }
    });
    let up = up.start().await;
    let proxy = proxy(&up).with(settings).start().await;
    let tally = Arc::<Tally>::default();
    let (news, mut seen) = watch::channel(());
    let clients = (0..CLIENTS).map(|number| {
        let client = Client {
            addr: proxy.addr,
            number,
            kept: None,
            tally: tally.clone(),
            news: news.clone(),
        };
        spawn(client.run())
    });
    let clients = clients.collect();
    let busy = seen.wait_for(|()| tally.whole.load(Ordering::SeqCst) >= 300);
    drop(within("three hundred answers", busy).await.unwrap());
    (up, proxy, tally, clients)
}

async fn all_end(clients: Vec<tokio::task::JoinHandle<()>>) {
    for client in clients {
        within("a client's end", client).await.unwrap();
    }
}

/// Asserts that the end has come, and that all calls, `whole` of them, went well in the log, too.
async fn all_drained(proxy: &Proxy, whole: usize) {
    let stopped = proxy.logged("\"stopped\"").await;
    assert_eq!(stopped["drained"], true, "{stopped}");
    let lines = proxy.call_lines(whole).await;
    for line in &lines {
        assert_eq!(line["http.response.status_code"], 200, "{line}");
        assert_eq!(line.get("error.kind"), None, "{line}");
    }
}

#[tokio::test]
async fn under_load_nobody_fails_who_leaves_when_readiness_says_so() {
    let (_up, proxy, tally, clients) = under_load("[limits]\nmin_drain = \"3s\"").await;
    proxy.terminate();
    let unready = async { while proxy.admin("/readyz").await.status == 200 {} };
    within("readiness to fail", unready).await;
    tally.leave.store(true, Ordering::SeqCst);
    all_end(clients).await;
    assert_eq!(tally.turned_away.load(Ordering::SeqCst), 0);
    let whole = tally.whole.load(Ordering::SeqCst);
    all_drained(&proxy, whole).await;
    assert_eq!(proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn under_load_nothing_breaks_off_even_for_those_who_notice_nothing() {
    let (_up, proxy, tally, clients) = under_load("").await;
    proxy.terminate();
    all_end(clients).await;
    let whole = tally.whole.load(Ordering::SeqCst);
    all_drained(&proxy, whole).await;
    assert_eq!(proxy.exit().await.code(), Some(0));
}
