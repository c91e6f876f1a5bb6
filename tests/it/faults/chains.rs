//! The chain of stand-ins, for every fault before the first byte: the next upstream, else a stale entry, else the apology,
//! else the error in its own words.

use super::{House, honest};
use crate::support::{
    client::{Answer, Request, assert_refused, assert_verdict, chat, chat_stream},
    faulty::{busy, failing, stream_with_error_after},
    gate,
    proxy::proxy,
    upstream::{Reply, Script, Upstream, completion, stream, upstream},
};

/// A fault before the first byte of a plain answer.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nobody listens any more.
    Gone,
    /// The connection is reset instead of an answer.
    Reset,
    /// The connection ends in the head.
    HalfHead,
    /// Nothing comes.
    Silence,
    /// A 500 of the upstream's own.
    Failing,
    /// A 503 of the upstream's own.
    Overloaded,
}

impl Fault {
    const ALL: [Self; 6] = [
        Self::Gone,
        Self::Reset,
        Self::HalfHead,
        Self::Silence,
        Self::Failing,
        Self::Overloaded,
    ];

    /// An upstream that answers its first call and meets with the fault from then on.
    async fn befalls(self) -> (Upstream, impl Sized) {
        let (first, never) = (completion("first"), gate());
        let then = match self {
            Self::Gone => first.clone(),
            Self::Reset => completion("").cut_before_the_head(),
            Self::HalfHead => completion("").garbled(b"HTTP/1.1 200 OK\r\ncontent-le"),
            Self::Silence => completion("").after(&never),
            Self::Failing => failing(500),
            Self::Overloaded => failing(503),
        };
        (upstream().answers(first).answers(then).start().await, never)
    }

    /// Lets it happen, once the first call has been answered.
    async fn happens(self, up: &mut Upstream) {
        if matches!(self, Self::Gone) {
            up.leave().await;
        }
    }

    /// The reason of the apology, which is the error's code where it is Refrain's own.
    fn reason(self) -> &'static str {
        match self {
            Self::Gone => "upstream_unreachable",
            Self::Reset | Self::HalfHead => "upstream_broken",
            Self::Silence => "upstream_timeout",
            Self::Failing | Self::Overloaded => "upstream_error",
        }
    }

    /// The status that who wants the error gets.
    fn status(self) -> u16 {
        match self {
            Self::Gone | Self::Reset | Self::HalfHead => 502,
            Self::Silence => 504,
            Self::Failing => 500,
            Self::Overloaded => 503,
        }
    }
}

/// An impatient upstream.
const SHORT: &str = "timeouts = { first_byte = \"2s\" }";
/// What takes over with a key of its own.
const SECOND: &str = "priority = 1\napi_key = \"sk-second\"";

fn metric_of(reason: &str) -> String {
    format!("reason=\"{reason}\"")
}

#[tokio::test]
async fn the_next_upstream_answers_for_one_that_fails() {
    for fault in Fault::ALL {
        let (mut up, _never) = fault.befalls().await;
        let other = upstream().answers(completion("second")).start().await;
        let proxy = proxy(&up).with_upstream(SHORT);
        let proxy = proxy.beside("second", &other, SECOND).start().await;
        assert_verdict(&proxy.send(&chat("first")).await, "MISS");
        fault.happens(&mut up).await;
        let answer = proxy.send(&chat("hi")).await;
        assert_verdict(&answer, "MISS");
        assert_eq!(answer.body, completion("second").bytes(), "{fault:?}");
        assert_eq!(answer.expect("x-upstream"), "second");
        let seen = other.last();
        assert_eq!(seen.headers.get("authorization"), Some("Bearer sk-second"));
    }
}

#[tokio::test]
async fn a_stale_entry_answers_where_there_is_no_other_upstream() {
    for fault in Fault::ALL {
        let (mut up, _never) = fault.befalls().await;
        let proxy = proxy(&up).with("[cache]\nttl = \"1ns\"");
        let proxy = proxy.with_upstream(SHORT).start().await;
        assert_verdict(&proxy.send(&chat("hi")).await, "MISS");
        fault.happens(&mut up).await;
        let answer = proxy.send(&chat("hi")).await;
        assert_verdict(&answer, "STALE");
        assert_eq!(answer.expect("x-cache-reason"), "upstream_failed");
        assert_eq!(answer.body, completion("first").bytes(), "{fault:?}");
    }
}

#[tokio::test]
async fn an_apology_answers_where_there_is_no_entry_and_is_not_kept() {
    for fault in Fault::ALL {
        let (mut up, _never) = fault.befalls().await;
        let proxy = proxy(&up).with_upstream(SHORT).start().await;
        assert_verdict(&proxy.send(&chat("first")).await, "MISS");
        fault.happens(&mut up).await;
        for count in [1.0, 2.0] {
            let answer = proxy.send(&chat("hi")).await;
            assert_verdict(&answer, "FALLBACK");
            assert_eq!(answer.expect("x-cache-reason"), fault.reason());
            let label = metric_of(fault.reason());
            proxy
                .counted_with("refrain_apologies_total", &[&label], count)
                .await;
        }
        proxy.assert_count("refrain_stored_total", &[], 1).await;
    }
}

#[tokio::test]
async fn who_wants_no_apology_gets_the_error() {
    for fault in Fault::ALL {
        let (mut up, _never) = fault.befalls().await;
        let proxy = proxy(&up).with_upstream(SHORT).start().await;
        assert_verdict(&proxy.send(&chat("first")).await, "MISS");
        fault.happens(&mut up).await;
        let answer = proxy.send(&honest(chat("hi"))).await;
        match fault {
            Fault::Failing | Fault::Overloaded => assert_passed(&answer, &failing(fault.status())),
            _ => assert_refused(&answer, fault.status(), fault.reason()),
        }
    }
}

#[track_caller]
fn assert_passed(answer: &Answer, reply: &Reply) {
    assert_eq!(answer.body, reply.bytes());
    assert_verdict(answer, "MISS");
}

#[tokio::test]
async fn a_429_goes_to_the_next_upstream_and_to_the_client_where_there_is_none() {
    let fault = busy(&[("Retry-After", "2")]);
    let script = || {
        upstream()
            .answers(completion("first"))
            .answers(fault.clone())
    };
    let up = script().start().await;
    let other = upstream().answers(completion("second")).start().await;
    let among = proxy(&up).with_upstream(SHORT);
    let among = among.beside("second", &other, SECOND).start().await;
    assert_verdict(&among.send(&chat("first")).await, "MISS");
    assert_eq!(among.send(&chat("hi")).await.expect("x-upstream"), "second");

    let house = House::new(script(), "").await;
    assert_verdict(&house.proxy.send(&chat("first")).await, "MISS");
    let answer = house.proxy.send(&chat("hi")).await;
    assert_eq!((answer.status, &answer.body), (429, &fault.bytes()));
    assert_eq!(answer.expect("retry-after"), "2");
    assert_eq!(house.up.count(), 2);
}

/// A house between an upstream that begins its second stream with `fault` and one that is well.
async fn streams(fault: Reply) -> (Upstream, Upstream, crate::support::proxy::Proxy) {
    let script: Script = upstream().answers(stream(&["first"])).answers(fault);
    let up = script.start().await;
    let other = upstream().answers(stream(&["second"])).start().await;
    let proxy = proxy(&up).with_upstream(SHORT);
    let proxy = proxy.beside("second", &other, SECOND).start().await;
    assert_verdict(&proxy.send(&chat_stream("first")).await, "MISS");
    (up, other, proxy)
}

#[tokio::test]
async fn a_stream_that_begins_with_an_error_goes_to_the_next_upstream() {
    let (up, other, proxy) = streams(stream_with_error_after(&[])).await;
    let answer = proxy.send(&chat_stream("hi")).await;
    assert_verdict(&answer, "MISS");
    assert_eq!(answer.body, stream(&["second"]).bytes());
    assert_eq!((up.count(), other.count()), (2, 1));
}

#[tokio::test]
async fn after_its_first_word_a_stream_is_nobody_elses_to_finish() {
    let word = stream(&["a", "b"]);
    for fault in [word.clone().cut_after(2), word.clone().closed_after(2)] {
        let (_up, other, proxy) = streams(fault).await;
        let call: Request = chat_stream("hi");
        let answer = proxy.send(&call).await;
        assert_eq!(answer.end, crate::support::client::End::Aborted);
        assert_eq!(answer.body, word.first(2));
        assert_eq!(other.count(), 0);
    }
    let (_up, other, proxy) = streams(stream_with_error_after(&["a"])).await;
    let answer = proxy.send(&chat_stream("hi")).await;
    assert_eq!(answer.body, stream_with_error_after(&["a"]).bytes());
    assert_eq!(other.count(), 0);
}
