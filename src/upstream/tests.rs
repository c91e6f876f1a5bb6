//! The leaf without a network: what would be sent, and how long it is waited.

use std::future::pending;

use bytes::Bytes;
use futures_util::poll;
use http::{HeaderMap, HeaderName, Method, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::{
    call::{
        Fixed,
        caller::Caller,
        key::Secret,
        route::{Asked as Wanted, Routes, Way},
    },
    config::{CREDENTIALS, Config, Glob},
    dialect::Dialect,
};

/// A primary that gets callers' credentials, one that stands in elsewhere, one that stands in at the primary's origin.
const CONFIG: &str = r#"
    [[upstream]]
    name = "primary"
    base_url = "https://one.example/v1"
    [[upstream]]
    name = "elsewhere"
    base_url = "https://two.example/openai/v1"
    api_key = "sk-proxy"
    rename = { gpt-4o = "the \"other\"" }
    priority = 1
    [[upstream]]
    name = "beside"
    base_url = "https://one.example/other"
    priority = 2
"#;
const BODY: &str = r#"{"messages":[],  "model" : "gpt-4o","x":{"model":"gpt-4o"}}"#;
/// What must not leave for an upstream that stands in elsewhere.
const CANARY: &str = "canary";
/// Where callers' accounts, tenants and keys may stand beside the credentials that are known.
const ACCOUNTS: [&str; 9] = [
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
    "x-amz-security-token",
    "x-corp-token",
    "helicone-property-user",
    "x-portkey-config",
    "proxy-authorization",
    "sec-websocket-protocol",
];

const SECOND: Duration = Duration::from_secs(1);
const OFF: Timeouts = Timeouts {
    connect: None,
    first_byte: None,
    idle: None,
    total: None,
};

/// Returns the upload of what comes out of `pieces`.
fn upload(pieces: UnboundedReceiver<Bytes>, progress: &Progress) -> Upload {
    let frames = futures_util::stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((Ok(Frame::data(piece)), pieces))
    });
    Upload::new(StreamBody::new(frames).boxed_unsync(), progress.clone())
}

/// Waits for an upstream that never answers a call that begins now.
async fn never_answered(progress: &Progress, timeouts: Timeouts) -> Elapsed {
    let now = Instant::now();
    let deadline = timeouts.total;
    let deadline = deadline.map(|total| Deadline::new(now, total, now));
    let mut never = pin!(pending::<()>());
    let waiting = first_byte(never.as_mut(), progress, timeouts.first_byte, deadline);
    waiting.await.unwrap_err()
}

/// A call with a canary in every header that may be the caller's own, and in the query.
fn call(config: &Config) -> Call {
    let mut headers = HeaderMap::new();
    for name in CREDENTIALS.iter().chain(&ACCOUNTS) {
        headers.append(*name, HeaderValue::from_static("Bearer canary-1"));
        headers.append(
            *name,
            HeaderValue::from_static("openai-insecure-api-key.canary-2"),
        );
    }
    for (name, value) in [
        ("content-type", "application/json"),
        ("content-length", "1"),
        ("user-agent", "sdk"),
        ("x-request-id", "r1"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = policy(config);
    Call::new(
        Fixed {
            id: HeaderValue::from_static("id"),
            method: Method::POST,
            target: PathAndQuery::from_static("/v1/chat/completions?key=canary"),
            caller: Caller::of(&headers, &Secret::from_bytes([0; 32])),
            plan: policy.plan(&headers).unwrap(),
            headers,
            dialect: Some(Dialect::Chat),
            keyed: Err(Unkeyed::Bypass),
            rule: None,
            read: None,
            upgrade: false,
        },
        Payload::Whole(Bytes::from_static(BODY.as_bytes())),
        route(config),
    )
}

fn route(config: &Config) -> Arc<crate::call::route::Route> {
    let way = |upstream: &config::Upstream| Way {
        name: upstream.name.clone(),
        base_url: upstream.base_url.clone(),
        models: vec![Glob::new("*")],
        rename: upstream.rename.clone(),
        priority: upstream.priority,
        weight: upstream.weight,
        own_key: upstream.api_key.is_some(),
    };
    let ways: Vec<_> = config.upstreams.iter().map(way).collect();
    let wanted = Wanted {
        addressed: None,
        dialect: Some(Dialect::Chat),
        model: Some("gpt-4o"),
        body: BODY.as_bytes(),
        stable: b"",
    };
    Routes::new(&ways).route(&wanted).unwrap()
}

fn policy(config: &Config) -> Policy {
    Policy::new(&config.cache, &config.upstreams, Duration::from_secs(1))
}

/// Returns what is sent to candidate number `at`: the URI, the header lines, the body.
async fn sent(at: usize) -> (String, Vec<String>, String) {
    let config: Config = CONFIG.parse().unwrap();
    let upstream = &config.upstreams[at];
    let upstream = Upstream::new(upstream, &[], Arc::new(policy(&config))).unwrap();
    let mut call = Call {
        at,
        ..call(&config)
    };
    let request = upstream.0.request(&mut call, &Progress::default()).unwrap();
    let (head, body) = request.into_parts();
    let line =
        |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    let mut lines: Vec<_> = head.headers.iter().map(line).collect();
    lines.sort();
    let body = body.collect().await.unwrap().to_bytes();
    (
        head.uri.to_string(),
        lines,
        String::from_utf8(body.into()).unwrap(),
    )
}

#[tokio::test]
async fn nothing_of_the_callers_own_leaves_for_another_origin_than_the_primarys() {
    let (uri, lines, body) = sent(1).await;
    assert_eq!(uri, "https://two.example/openai/v1/chat/completions");
    let length = format!("content-length: {}", body.len());
    assert_eq!(
        lines,
        [
            "authorization: Bearer sk-proxy",
            &length,
            "content-type: application/json",
            "user-agent: sdk",
            "x-refrain-hops: 1",
            "x-request-id: r1",
        ]
    );
    assert!(!body.contains(CANARY));
}

#[tokio::test]
async fn the_primary_and_who_lies_beside_it_get_what_the_caller_sent() {
    for (at, path) in [(0, "v1"), (2, "other")] {
        let (uri, lines, body) = sent(at).await;
        let expected = format!("https://one.example/{path}/chat/completions?key=canary");
        assert_eq!((uri, body.as_str()), (expected, BODY));
        for name in CREDENTIALS {
            let values = lines
                .iter()
                .filter(|line| line.starts_with(&format!("{name}: ")));
            assert_eq!(values.count(), 2, "{name}");
        }
    }
}

#[tokio::test]
async fn a_model_is_renamed_in_its_bytes_alone() {
    let (_, _, body) = sent(1).await;
    let renamed = r#"{"messages":[],  "model" : "the \"other\"","x":{"model":"gpt-4o"}}"#;
    assert_eq!(body, renamed);
}

#[tokio::test]
async fn a_body_that_cannot_be_renamed_is_not_sent() {
    let config: Config = CONFIG.parse().unwrap();
    let upstream = Upstream::new(&config.upstreams[1], &[], Arc::new(policy(&config))).unwrap();
    for body in [r#"{"model":"gpt-4o","Model":"x"}"#, "{}", ""] {
        let mut call = Call {
            at: 1,
            payload: Payload::Whole(Bytes::from_static(body.as_bytes())),
            ..call(&config)
        };
        let request = upstream.0.request(&mut call, &Progress::default());
        assert_eq!(request.unwrap_err().kind(), Kind::Internal, "{body}");
    }
}

#[tokio::test]
async fn only_the_primarys_answer_to_the_callers_own_key_speaks_of_that() {
    let config: Config = CONFIG.parse().unwrap();
    for (at, expected) in [(0, (true, false)), (1, (false, true)), (2, (false, false))] {
        let upstream =
            Upstream::new(&config.upstreams[at], &[], Arc::new(policy(&config))).unwrap();
        let asked = upstream.0.asked(&Call {
            at,
            ..call(&config)
        });
        assert_eq!((asked.by_caller, asked.other_model), expected, "{at}");
    }
}

#[tokio::test]
async fn an_answer_made_without_what_the_key_covers_is_marked() {
    let config: Config = CONFIG.parse().unwrap();
    let bare = |target, name| {
        let mut call = call(&config);
        let fixed = call.fixed_mut();
        fixed.target = PathAndQuery::from_static(target);
        for name in ACCOUNTS {
            fixed.headers.remove(name);
        }
        fixed.headers.insert(name, HeaderValue::from_static("1"));
        call
    };
    let path = "/v1/chat/completions";
    let organization = "openai-organization";
    for (call, withheld, why) in [
        (bare(path, "openai-beta"), false, "all that counts is sent"),
        (bare(path, "x-mine"), false, "it counts where it is shared"),
        (
            bare("/v1/chat/completions?v=7", "x-mine"),
            true,
            "the query",
        ),
        (bare(path, organization), true, "a header of `[cache] vary`"),
    ] {
        for (at, expected) in [(0, false), (1, withheld), (2, false)] {
            let call = Call {
                at,
                ..call.again().unwrap()
            };
            let upstream = &config.upstreams[at];
            let upstream = Upstream::new(upstream, &[], Arc::new(policy(&config))).unwrap();
            assert_eq!(upstream.0.asked(&call).withheld, expected, "{at}: {why}");
        }
    }
}

#[tokio::test]
async fn past_the_last_candidate_nobody_is_asked() {
    let config: Config = CONFIG.parse().unwrap();
    let upstream = Upstream::new(&config.upstreams[0], &[], Arc::new(policy(&config))).unwrap();
    let mut call = Call {
        at: 3,
        ..call(&config)
    };
    let request = upstream.0.request(&mut call, &Progress::default());
    assert_eq!(request.unwrap_err().kind(), Kind::Internal);
}

#[tokio::test(start_paused = true)]
async fn no_time_for_the_first_byte_passes_while_the_client_owes_a_piece() {
    let progress = Progress::default();
    let (client, pieces) = unbounded_channel();
    let mut upload = upload(pieces, &progress);
    let began = Instant::now();
    let sending = async {
        client.send(Bytes::from_static(b"half")).unwrap();
        assert!(upload.frame().await.unwrap().is_ok());
        assert!(poll!(upload.frame()).is_pending());
        tokio::time::sleep(SECOND * 7).await;
        client.send(Bytes::from_static(b"rest")).unwrap();
        assert!(upload.frame().await.unwrap().is_ok());
    };
    let timeouts = Timeouts {
        first_byte: Some(SECOND * 2),
        ..OFF
    };
    let (elapsed, ()) = tokio::join!(never_answered(&progress, timeouts), sending);
    assert_eq!((elapsed.timer, elapsed.by_client), ("first_byte", false));
    assert_eq!(began.elapsed(), SECOND * 9);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_client_sends_until_its_time_is_over_is_the_clients() {
    // When the client sends what it owes, and whose doing it is that ten seconds are not enough.
    for (sent, by_client) in [(1, false), (4, false), (6, true), (9, true), (20, true)] {
        let progress = Progress::default();
        let (client, pieces) = unbounded_channel();
        let mut upload = upload(pieces, &progress);
        let sending = async {
            assert!(poll!(upload.frame()).is_pending());
            tokio::time::sleep(SECOND * sent).await;
            client.send(Bytes::from_static(b"all")).unwrap();
            assert!(upload.frame().await.unwrap().is_ok());
        };
        let timeouts = Timeouts {
            total: Some(SECOND * 10),
            ..OFF
        };
        let (elapsed, ()) = tokio::join!(never_answered(&progress, timeouts), sending);
        assert_eq!(
            (elapsed.timer, elapsed.by_client),
            ("total", by_client),
            "{sent}"
        );
    }
}

#[test]
fn a_call_that_its_client_held_up_is_a_slow_request() {
    let config: Config = CONFIG.parse().unwrap();
    let upstream = Upstream::new(&config.upstreams[0], &[], Arc::new(policy(&config))).unwrap();
    for (by_client, kind) in [(true, Kind::SlowRequest), (false, Kind::Timeout)] {
        let elapsed = Elapsed {
            timer: "total",
            after: SECOND,
            by_client,
            over: None,
        };
        assert_eq!(upstream.0.timed_out(&elapsed).kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_time_was_over_while_it_waited_for_a_place_is_not_sent_and_no_failure() {
    let mut config: Config = CONFIG.parse().unwrap();
    config.upstreams[0].timeouts.total = Some(SECOND);
    let upstream = Upstream::new(&config.upstreams[0], &[], Arc::new(policy(&config))).unwrap();
    let since = Some(Instant::now().into_std());
    tokio::time::advance(SECOND).await;
    let call = Call {
        since,
        ..call(&config)
    };
    assert_eq!(upstream.0.send(call).await.unwrap_err().kind(), Kind::Busy);
}

#[tokio::test(start_paused = true)]
async fn a_total_time_that_was_almost_over_blames_nobody() {
    let (started, total) = (Instant::now(), Duration::from_secs(1));
    for (millis, excused) in [(0, false), (500, false), (501, true), (999, true)] {
        let asked = started + Duration::from_millis(millis);
        let deadline = Deadline::new(started, total, asked);
        assert!(!deadline.is_over(asked));
        assert!(deadline.is_over(started + total));
        let error = deadline.excuses(Error::new(Kind::Timeout, "late"));
        assert_eq!(error.blames_nobody(), excused, "{millis}");
    }
}
