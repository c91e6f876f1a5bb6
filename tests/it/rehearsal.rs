//! The test house itself: what the client says about the scripted upstream is what the script says.

use crate::support::{
    client::{Answer, End, Exchange, Request, chat, request},
    gate,
    upstream::{Reply, Upstream, completion, json, sse, status, stream, upstream},
};

async fn direct(reply: Reply) -> (Upstream, Answer) {
    let up = upstream().answers(reply).start().await;
    let answer = chat("hi").send(up.addr).await;
    (up, answer)
}

#[tokio::test]
async fn what_is_sent_arrives_and_what_is_scripted_comes_back() {
    let reply = completion("hello")
        .header("X-Twice", "1")
        .header("x-twice", "2");
    let (up, answer) = direct(reply.clone()).await;
    assert_eq!((answer.status, &answer.end), (200, &End::Clean));
    assert_eq!(answer.body, reply.bytes());
    assert_eq!(answer.headers.all("X-Twice"), ["1", "2"]);
    let call = up.call(0);
    assert_eq!(
        (call.method.as_str(), call.target.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(call.body, chat("hi").body_bytes());
    assert!(call.whole && !call.hung_up);
    assert!(
        call.head
            .starts_with(b"POST /v1/chat/completions HTTP/1.1\r\n")
    );
}

#[tokio::test]
async fn every_framing_delivers_the_same_bytes_and_tells_how_they_ended() {
    let whole = stream(&["a", "b"]);
    let length = whole.bytes().len();
    let table = [
        (whole.clone(), End::Clean),
        (whole.clone().bytewise(), End::Clean),
        (whole.clone().close_delimited(), End::Unframed),
        (whole.clone().cut_after(5), End::Aborted),
        (whole.clone().closed_after(5), End::Aborted),
        (whole.clone().claiming(length + 1), End::Aborted),
    ];
    for (reply, end) in table {
        let (_, answer) = direct(reply.clone()).await;
        assert_eq!(answer.body, whole.bytes(), "{reply:?}");
        assert_eq!(answer.end, end, "{reply:?}");
    }
}

#[tokio::test]
async fn replies_come_in_their_order_and_the_last_one_stays() {
    let up = upstream()
        .answers(json("1"))
        .answers(status(404))
        .start()
        .await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(request("GET", "/").send(up.addr).await.status);
    }
    assert_eq!(seen, [200, 404, 404]);
    let by = upstream().by(|seen, number| json(&format!("{}{number}", seen.target)));
    let by = by.start().await;
    assert_eq!(request("GET", "/x").send(by.addr).await.text(), "/x0");
}

#[tokio::test]
async fn a_gate_holds_the_script_until_the_test_opens_it() {
    let gate = gate();
    let reply = sse(["one", "two"]).pausing_after(1, &gate);
    let up = upstream().answers(reply).start().await;
    let mut exchange = chat("hi").open(up.addr).await;
    assert_eq!(exchange.body(3).await, b"one");
    gate.reached().await;
    gate.open();
    assert_eq!(exchange.finish().await.text(), "onetwo");
}

#[tokio::test]
async fn a_client_that_hangs_up_is_noticed() {
    let up = upstream()
        .answers(stream(&["a"]).silent_after(1))
        .start()
        .await;
    let mut exchange = chat("hi").open(up.addr).await;
    exchange.body(1).await;
    assert!(!up.call(0).hung_up);
    drop(exchange);
    up.abandoned(0).await;
}

#[tokio::test]
async fn a_body_is_recorded_while_it_arrives_with_its_trailers_at_the_end() {
    let up = upstream().start().await;
    let upload = request("POST", "/v1/files").header("transfer-encoding", "chunked");
    let mut exchange = upload.open_head(up.addr).await;
    exchange.write(b"3\r\nabc\r\n").await;
    up.until("half of the body", |calls| {
        calls.first().is_some_and(|call| call.body == b"abc")
    })
    .await;
    assert!(!up.call(0).whole);
    exchange
        .write(b"1;ext=1\r\nd\r\n0\r\nX-Sum: 9\r\n\r\n")
        .await;
    assert_eq!(exchange.finish().await.status, 200);
    let call = up.call(0);
    assert_eq!(
        (call.body.as_slice(), call.trailers.get("x-sum")),
        (&b"abcd"[..], Some("9"))
    );
}

#[tokio::test]
async fn trailers_interim_answers_and_bodiless_answers_are_read_as_such() {
    let reply = sse(["x"]).trailer("X-Sum", "9");
    let (_, answer) = direct(reply.preceded_by(b"HTTP/1.1 100 Continue\r\n\r\n")).await;
    assert_eq!(
        (answer.status, answer.trailers.get("x-sum")),
        (200, Some("9"))
    );
    let up = upstream().answers(json("{}").bodiless().header("content-length", "2"));
    let up = up.start().await;
    let answer = request("HEAD", "/").send(up.addr).await;
    assert_eq!((answer.body.len(), answer.end), (0, End::Clean));
}

#[tokio::test]
async fn an_echo_speaks_both_ways() {
    let up = upstream().answers(status(101).echoing()).start().await;
    let mut exchange: Exchange = request("GET", "/").open(up.addr).await;
    assert_eq!(exchange.head().await.start, "HTTP/1.1 101 Scripted");
    exchange.write(b"ping").await;
    assert_eq!(exchange.tunnelled(4).await, b"ping");
    exchange.end_writing().await;
    exchange.closed().await;
}

#[tokio::test]
async fn a_request_is_sent_as_it_was_written() {
    let up = upstream().start().await;
    let odd: Request = request("PROPFIND", "/a%2Fb'?q=%20")
        .header("X-Odd", "a, b")
        .body("xyz");
    odd.send(up.addr).await;
    let host = up.addr;
    let head = format!(
        "PROPFIND /a%2Fb'?q=%20 HTTP/1.1\r\nHost: {host}\r\nX-Odd: a, b\r\nContent-Length: 3\r\n\r\n"
    );
    assert_eq!(String::from_utf8_lossy(&up.call(0).head), head);
}
