//! Whole answers that are none: cut off, mislabelled, too long, or an error in another's clothes.

use super::{House, honest};
use crate::support::{
    client::{Request, chat, request},
    faulty::{busy, error_object, failing, gzipped, truncated},
    upstream::{Reply, completion, json, upstream},
};

/// Asserts that `fault` is passed byte for byte and not kept, and that the next call is answered whole.
async fn passes(fault: Reply, reason: &str) {
    let whole = completion("hello");
    let house = House::with_fault(&fault, &whole, "").await;
    house.assert_passed(&chat("hi"), &fault, reason).await;
    house.assert_over(&chat("hi"), &whole).await;
}

#[tokio::test]
async fn json_that_stops_in_its_middle_passes_unchanged_and_unstored() {
    passes(truncated(&completion("hello")), "unreadable").await;
}

#[tokio::test]
async fn a_200_that_is_an_error_passes_unchanged_and_unstored() {
    passes(error_object(), "error_object").await;
}

#[tokio::test]
async fn a_200_that_is_no_completion_passes_unchanged_and_unstored() {
    passes(json("{}"), "empty").await;
}

#[tokio::test]
async fn an_answer_packed_unasked_passes_with_its_encoding_and_unstored() {
    let (whole, call) = (completion("hello"), chat("hi"));
    let packed = gzipped(&whole);
    let house = House::with_fault(&packed, &whole, "").await;
    let answer = house.assert_passed(&call, &packed, "encoded").await;
    assert_eq!(answer.expect("content-encoding"), "gzip");
    house.assert_over(&call, &whole).await;
}

#[tokio::test]
async fn fewer_bytes_than_announced_are_an_answer_that_breaks_off() {
    let (whole, call) = (completion("hello"), chat("hi"));
    let bytes = whole.bytes();
    let short = whole.clone().claiming(bytes.len() + 1);
    let house = House::with_fault(&short, &whole, "").await;
    house.assert_aborted(&call, &bytes).await;
    house.assert_over(&call, &whole).await;
}

/// What came too much must not be taken for the beginning of the next answer.
#[tokio::test]
async fn bytes_beyond_the_announced_end_up_in_nobodys_answer() {
    let (whole, call) = (completion("hello"), chat("hi"));
    let mut more = whole.bytes();
    more.extend(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen");
    let long = whole.clone().body(more).claiming_all_of(&whole);
    let house = House::with_fault(&long, &completion("other"), "").await;
    assert_eq!(house.proxy.send(&call).await.body, whole.bytes());
    let next = house.proxy.send(&chat("other")).await;
    assert_eq!(next.body, completion("other").bytes());
    assert_eq!(house.up.connections(), 2);
}

/// Half a gigabyte would take the test too long: what counts is that it is many times what may be held.
#[tokio::test]
async fn an_answer_without_bounds_is_passed_in_bounded_memory() {
    let (long, whole) = (completion(&"x".repeat(32 << 20)), completion("hello"));
    let config = "[store]\nmemory = \"1MiB\"\npath = \"off\"\n[cache]\nmax_entry = \"64KiB\"";
    let house = House::with_fault(&long, &whole, config).await;
    house.assert_passed(&chat("hi"), &long, "too_large").await;
    house.proxy.fell_to_zero("refrain_tape_bytes").await;
    house.assert_over(&chat("hi"), &whole).await;
}

#[tokio::test]
async fn a_429_passes_untouched_however_it_says_when_to_come_back() {
    let forms: [&[(&str, &str)]; 4] = [
        &[("Retry-After", "2")],
        &[("Retry-After", "Fri, 31 Dec 2094 23:59:59 GMT")],
        &[("retry-after-ms", "1500"), ("Retry-After", "2")],
        &[
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1m2.5s"),
        ],
    ];
    for fields in forms {
        let (fault, whole) = (busy(fields), completion("hello"));
        let house = House::with_fault(&fault, &whole, "").await;
        let answer = house.assert_passed(&chat("hi"), &fault, "status").await;
        assert_eq!(answer.status, 429);
        for (name, value) in fields {
            assert_eq!(answer.expect(name), *value);
        }
        assert_eq!(answer.header("x-should-retry"), None);
        let label = ["verdict=\"miss\"", "status_class=\"4xx\""];
        house.assert_moved("refrain_calls_total", &label).await;
        house.assert_over(&chat("hi"), &whole).await;
        assert_eq!(house.up.count(), 2);
    }
}

#[tokio::test]
async fn a_clients_own_mistake_passes_untouched() {
    for status in [400, 401, 403, 404, 409, 413, 422] {
        let (fault, whole) = (failing(status), completion("hello"));
        let house = House::with_fault(&fault, &whole, "").await;
        let answer = house.assert_passed(&chat("hi"), &fault, "status").await;
        assert_eq!((answer.status, house.up.count()), (status, 1));
        assert_eq!(answer.header("x-should-retry"), None);
        house.assert_over(&chat("hi"), &whole).await;
    }
}

#[tokio::test]
async fn an_upstreams_own_error_passes_untouched_to_who_wants_it() {
    for status in [500, 502, 503, 504, 529] {
        let (fault, whole) = (failing(status), completion("hello"));
        let house = House::with_fault(&fault, &whole, "").await;
        let call = honest(chat("hi"));
        let answer = house.assert_passed(&call, &fault, "status").await;
        assert_eq!(answer.status, status);
        house.assert_over(&call, &whole).await;
    }
}

#[tokio::test]
async fn a_burst_of_errors_is_over_when_the_upstream_is_well_again() {
    let (fault, whole) = (failing(503), completion("hello"));
    let script = upstream().answers_times(5, &fault).answers(whole.clone());
    let house = House::new(script, "").await;
    let call = honest(chat("hi"));
    for _ in 0..5 {
        let answer = house.proxy.send(&call).await;
        assert_eq!((answer.status, answer.body), (503, fault.bytes()));
    }
    house.proxy.call_lines(5).await;
    house.assert_over(&call, &whole).await;
    assert_eq!(house.up.count(), 6);
}

#[tokio::test]
async fn a_call_without_a_key_gets_the_same_errors() {
    let whole = completion("hello");
    for fault in [failing(500), busy(&[("Retry-After", "2")]), error_object()] {
        let house = House::with_fault(&fault, &whole, "").await;
        let call: Request = honest(request("GET", "/v1/models"));
        let answer = house.proxy.send(&call).await;
        assert_eq!(answer.body, fault.bytes());
        assert_eq!(house.proxy.send(&call).await.body, whole.bytes());
    }
}
