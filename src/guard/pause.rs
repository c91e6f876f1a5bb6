//! What an answer says of when to come again. Pure.
//!
//! # Scope
//! It reads `x-should-retry`, `retry-after-ms`, `Retry-After` (RFC 9110 §10.2.3: seconds or a date) and the `x-ratelimit-reset-*`
//! of limits that have nothing remaining. What cannot be read says nothing. What to do about it is `retry`'s decision.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

/// How long to stay away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The answer does not say.
    Unsaid,
    /// So long.
    For(Duration),
    /// For good: the same call will fail again (`x-should-retry: false`).
    Never,
}

impl Pause {
    /// Reads `headers`; `now` is the wall clock, for dates in an answer that does not tell its own.
    pub fn of(headers: &HeaderMap, now: SystemTime) -> Self {
        if text(headers, SHOULD_RETRY).is_some_and(|value| value.eq_ignore_ascii_case("false")) {
            return Self::Never;
        }
        let said = retry_after_ms(headers)
            .or_else(|| retry_after(headers, now))
            .or_else(|| resets(headers));
        said.map_or(Self::Unsaid, Self::For)
    }
}

fn retry_after_ms(headers: &HeaderMap) -> Option<Duration> {
    let millis = number(text(headers, "retry-after-ms")?)?;
    Duration::try_from_secs_f64(millis / 1_000.0).ok()
}

fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = text(headers, header::RETRY_AFTER.as_str())?;
    if let Some(seconds) = number(value) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let then = httpdate::parse_http_date(value).ok()?;
    // Measured by the clock that the date was read off, where the answer tells it.
    let told = text(headers, header::DATE.as_str());
    let told = told.and_then(|date| httpdate::parse_http_date(date).ok());
    Some(then.duration_since(told.unwrap_or(now)).unwrap_or_default())
}

/// Returns when the last of the limits that are used up is reset.
fn resets(headers: &HeaderMap) -> Option<Duration> {
    let reset = |(remaining, reset)| {
        let used_up = text(headers, remaining)? == "0";
        used_up.then(|| span(text(headers, reset)?))?
    };
    LIMITS.into_iter().filter_map(reset).max()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Reads a number without sign or exponent; every other spelling of a float is no header's.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| text.parse().ok())?
}

/// Reads a span as `1s`, `6m0s`, `120ms` or `1h2m3.5s`; a number alone counts seconds.
fn span(text: &str) -> Option<Duration> {
    if let Some(seconds) = number(text) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (mut total, mut rest) = (0.0, text);
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, tail) = rest.split_at_checked(digits)?;
        let end = tail.find(|c: char| c.is_ascii_digit());
        let (unit, tail) = tail.split_at_checked(end.unwrap_or(tail.len()))?;
        let (_, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        total += number(value)? * seconds;
        if tail.is_empty() {
            return Duration::try_from_secs_f64(total).ok();
        }
        rest = tail;
    }
}

/// `false` asks for no further try of the same call, as the official SDKs read it.
pub const SHOULD_RETRY: &str = "x-should-retry";

/// What is left of a limit, and when it is whole again.
const LIMITS: [(&str, &str); 2] = [
    (
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
];

/// Units of a span, in seconds.
const UNITS: [(&str, f64); 4] = [("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001)];

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(lines: &[(&'static str, &str)]) -> Pause {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        Pause::of(&headers, now)
    }

    fn millis(millis: u64) -> Pause {
        Pause::For(Duration::from_millis(millis))
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        for (value, expected) in [
            ("0", millis(0)),
            ("2", millis(2_000)),
            (" 2.5 ", millis(2_500)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", millis(3_000)),
            ("Sunday, 06-Nov-94 08:49:40 GMT", millis(3_000)),
            ("Sun Nov  6 08:49:40 1994", millis(3_000)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", millis(0)),
            ("-1", Pause::Unsaid),
            ("1e3", Pause::Unsaid),
            ("inf", Pause::Unsaid),
            ("NaN", Pause::Unsaid),
            (".", Pause::Unsaid),
            ("soon", Pause::Unsaid),
            ("", Pause::Unsaid),
        ] {
            assert_eq!(pause(&[("retry-after", value)]), expected, "{value:?}");
        }
    }

    #[test]
    fn a_number_too_large_for_a_time_says_nothing() {
        let huge = "9".repeat(400);
        for name in ["retry-after", "retry-after-ms"] {
            assert_eq!(pause(&[(name, &huge)]), Pause::Unsaid, "{name}");
        }
    }

    #[test]
    fn a_date_is_measured_by_the_answers_own_clock() {
        let dates = [
            ("date", "Sun, 06 Nov 1994 10:00:00 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 10:00:07 GMT"),
        ];
        assert_eq!(pause(&dates), millis(7_000));
    }

    #[test]
    fn the_finer_header_counts_before_the_coarser() {
        let both = [("retry-after-ms", "1250.5"), ("retry-after", "2")];
        let expected = Pause::For(Duration::from_secs_f64(1.2505));
        assert_eq!(pause(&both), expected);
        let unreadable = [("retry-after-ms", "x"), ("retry-after", "2")];
        assert_eq!(pause(&unreadable), millis(2_000));
    }

    #[test]
    fn a_reset_counts_where_nothing_remains() {
        let of = |remaining, reset| {
            pause(&[
                ("x-ratelimit-remaining-requests", remaining),
                ("x-ratelimit-reset-requests", reset),
            ])
        };
        for (reset, expected) in [
            ("1s", millis(1_000)),
            ("6m0s", millis(360_000)),
            ("120ms", millis(120)),
            ("1h2m3.5s", millis(3_723_500)),
            ("7", millis(7_000)),
            ("1s5", Pause::Unsaid),
            ("5 parsecs", Pause::Unsaid),
            ("s", Pause::Unsaid),
            ("", Pause::Unsaid),
        ] {
            assert_eq!(of("0", reset), expected, "{reset:?}");
        }
        assert_eq!(of("1", "1s"), Pause::Unsaid);
        let both = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "2s"),
        ];
        assert_eq!(pause(&both), millis(2_000));
    }

    #[test]
    fn no_further_try_means_none_whatever_else_is_said() {
        let headers = [("x-should-retry", "False"), ("retry-after", "1")];
        assert_eq!(pause(&headers), Pause::Never);
        assert_eq!(pause(&[("x-should-retry", "true")]), Pause::Unsaid);
    }
}
