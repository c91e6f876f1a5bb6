//! An upstream that numbers its answers, and a proxy in front of it: so each answer tells where it came from.

use super::{
    client::{Request, assert_verdict},
    proxy::{Proxy, proxy},
    upstream::{Upstream, completion, upstream},
};

/// An upstream that numbers its answers, and a proxy with these lines of configuration.
pub(crate) async fn house(config: &str) -> (Upstream, Proxy) {
    let up = upstream()
        .by(|_, number| completion(&format!("answer {number}")))
        .start()
        .await;
    let proxy = proxy(&up).with(config).start().await;
    (up, proxy)
}

/// Sends `call` and asserts its verdict and the number of the answer it got.
pub(crate) async fn ask(proxy: &Proxy, call: &Request, verdict: &str, number: usize) {
    let answer = proxy.send(call).await;
    assert_verdict(&answer, verdict);
    let wanted = format!("answer {number}\"");
    assert!(
        answer.text().contains(&wanted),
        "{wanted} in {}",
        answer.text()
    );
}
