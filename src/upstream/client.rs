//! The HTTP clients that an upstream is called by: their connections, how many are kept and how long.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

use super::connect::Connector;
use crate::{
    config::{self, HttpVersion, Rule, Timeouts},
    error::Error,
};

/// What is sent, and what is read.
pub(super) type Content = UnsyncBoxBody<Bytes, Error>;
pub(super) type HttpClient = Client<Connector, Content>;

/// Makes a client that speaks `http` to `upstream`, and that waits for a connection for at most `connect`.
pub(super) fn client(
    upstream: &config::Upstream,
    http: HttpVersion,
    connect: Option<Duration>,
) -> Result<HttpClient, Error> {
    let connector = Connector::new(upstream, http, connect)?;
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(upstream.pool_idle)
        .pool_max_idle_per_host(upstream.pool_max_idle as usize)
        .http2_only(http == HttpVersion::Http2)
        .http2_adaptive_window(true);
    if let Some(silence) = upstream.keepalive {
        builder
            .http2_keep_alive_interval(silence)
            .http2_keep_alive_timeout(silence * SIGNS)
            // Only while a call is under way would do, but hyper may look for calls just before it notes a new one, and
            // then never again.
            .http2_keep_alive_while_idle(true);
    }
    Ok(builder.build(connector))
}

/// Returns the longest that any call may wait for a connection. The connector keeps to it also where the call that wanted
/// the connection has long got another one.
pub(super) fn longest_connect(timeouts: &Timeouts, rules: &[Rule]) -> Option<Duration> {
    let limits = rules
        .iter()
        .map(|rule| rule.timeouts.over(*timeouts).connect);
    limits.fold(timeouts.connect, |most, limit| Some(most?.max(limit?)))
}

/// How many signs of life may fail to come before a connection is given up.
pub(super) const SIGNS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Timer, Timers};

    #[test]
    fn the_connector_is_as_patient_as_any_rule() {
        let timeouts = Config::default().first_upstream().timeouts;
        let rule = |connect| Rule {
            timeouts: Timers {
                connect,
                ..Timers::default()
            },
            ..Rule::default()
        };
        let after = |seconds| Some(Timer::After(Duration::from_secs(seconds)));
        let longest = |rules: &[Rule]| longest_connect(&timeouts, rules);
        assert_eq!(longest(&[]), timeouts.connect);
        assert_eq!(longest(&[rule(None), rule(after(1))]), timeouts.connect);
        let nine = Some(Duration::from_secs(9));
        assert_eq!(longest(&[rule(after(9)), rule(after(7))]), nine);
        assert_eq!(longest(&[rule(Some(Timer::Off)), rule(after(9))]), None);
    }
}
