//! The fault matrix, one test a row: what the client sees of a fault, what is kept of it, what is counted, and that the
//! next call is answered.
//!
//! Rows that need more than that stand with their nouns: files and databases in `disk`, followers in `coalesce`, what
//! clients do in `patience` and `stream`, the end in `shutdown`.

mod answers;
mod chains;
mod connections;
mod heads;
mod stand_ins;
mod streams;

use crate::support::{
    client::{Answer, End, Request, assert_refused, assert_verdict},
    proxy::{Proxy, proxy},
    upstream::{Reply, Script, Upstream, upstream},
};

/// An upstream with a fault, and a proxy in front of it.
struct House {
    up: Upstream,
    proxy: Proxy,
}

impl House {
    /// A house whose proxy tries no call twice: what a fault comes to is what its first try comes to.
    async fn new(script: Script, config: &str) -> Self {
        let up = script.start().await;
        let proxy = proxy(&up).with("[retry]\nattempts = 0").with(config);
        let proxy = proxy.start().await;
        Self { up, proxy }
    }

    /// An upstream that answers by `fault` once, and by `whole` from then on.
    async fn with_fault(fault: &Reply, whole: &Reply, config: &str) -> Self {
        let script = upstream().answers(fault.clone()).answers(whole.clone());
        Self::new(script, config).await
    }

    /// Asserts that `call` is told of the fault in Refrain's own words, and that it counts as a call without an answer.
    async fn assert_refused(&self, call: &Request, status: u16, code: &str) {
        assert_refused(&self.proxy.send(call).await, status, code);
        let line = self.proxy.call_line(1).await;
        assert_eq!(line["error.kind"], code, "{line}");
        let labels = ["verdict=\"none\"", "status_class=\"5xx\""];
        self.assert_moved("refrain_calls_total", &labels).await;
    }

    /// Asserts that the answer to `call` breaks off after `prefix`, and that it is not kept.
    async fn assert_aborted(&self, call: &Request, prefix: &[u8]) {
        let answer = self.proxy.send(call).await;
        assert_verdict(&answer, "MISS");
        assert_eq!(answer.end, End::Aborted);
        assert_eq!(String::from_utf8_lossy(prefix), answer.text());
        self.assert_not_stored("broken").await;
    }

    /// Asserts that `reply` reaches whoever sends `call` byte for byte, and that it is not kept, for `reason`.
    async fn assert_passed(&self, call: &Request, reply: &Reply, reason: &str) -> Answer {
        let answer = self.proxy.send(call).await;
        assert_verdict(&answer, "MISS");
        assert_eq!(answer.end, End::Clean);
        assert_eq!(answer.body, reply.bytes());
        self.assert_not_stored(reason).await;
        answer
    }

    /// Asserts that the first call was not stored, for `reason`, in its line and in the metrics.
    async fn assert_not_stored(&self, reason: &str) {
        let line = self.proxy.call_line(1).await;
        assert_eq!(line["cache.not_stored"], reason, "{line}");
        let label = format!("reason=\"{reason}\"");
        self.assert_moved("refrain_not_stored_total", &[&label])
            .await;
        assert_eq!(self.proxy.metric("refrain_stored_total", &[]).await, 0.0);
    }

    /// Asserts that a counter has gone from nothing to one.
    async fn assert_moved(&self, name: &str, labels: &[&str]) {
        self.proxy.counted_with(name, labels, 1.0).await;
        let seen = self.proxy.metric(name, labels).await;
        assert_eq!(seen, 1.0, "{name} {labels:?}");
    }

    /// Asserts that nothing is left of the fault: the next call gets `whole` from the upstream, the one after from the
    /// cache, and no call is under way.
    async fn assert_over(&self, call: &Request, whole: &Reply) {
        for verdict in ["MISS", "HIT"] {
            let answer = self.proxy.send(call).await;
            assert_verdict(&answer, verdict);
            assert_eq!((answer.status, &answer.end), (200, &End::Clean));
            assert_eq!(answer.body, whole.bytes());
        }
        self.proxy.call_line(3).await;
        for gauge in ["refrain_calls_under_way", "refrain_flights"] {
            self.proxy.fell_to_zero(gauge).await;
        }
    }
}

/// Wants the fault itself, not an apology for it.
fn honest(call: Request) -> Request {
    call.header("X-Fallback", "error")
}
