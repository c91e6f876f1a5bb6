//! One entry answers plain calls and streams: what is recorded in one form is told in the others, with its usage exact or
//! absent.

use serde_json::{Value, json};

use crate::support::{
    Gate,
    client::{Answer, End, Request, asking, assert_verdict, chat, chat_stream},
    gate,
    proxy::{Proxy, proxy},
    upstream::{Reply, Upstream, chunk, completion, json as reply_json, sse, upstream},
};

/// The forms that an answer can be asked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    /// A stream with `include_usage`.
    Telling,
    /// A stream without.
    Silent,
}

const FORMS: [Form; 3] = [Form::Plain, Form::Telling, Form::Silent];

/// What the upstream answers, whatever the form.
const TEXT: &str = "Grüße \"aus\"\ndem Cache";

impl Form {
    fn request(self) -> Request {
        match self {
            Self::Plain => chat("hi"),
            Self::Silent => chat_stream("hi"),
            Self::Telling => options(&json!({"include_usage": true})),
        }
    }

    fn reply(self) -> Reply {
        match self {
            Self::Plain => completion(TEXT),
            Self::Silent => sse(told(false)),
            Self::Telling => sse(told(true)),
        }
    }

    /// Returns whether a recording in this form serves a call for `asked`.
    fn serves(self, asked: Self) -> bool {
        self != Self::Silent || asked == Self::Silent
    }
}

fn options(options: &Value) -> Request {
    asking(&json!({
        "model": "gpt-test",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": true,
        "stream_options": options,
    }))
}

/// Returns the events that tell [`TEXT`], with or without their usage; they differ in nothing else.
fn told(usage: bool) -> Vec<String> {
    let (first, second) = TEXT.split_at(9);
    let mut events = vec![
        chunk(&json!({"role": "assistant", "content": ""}), None),
        chunk(&json!({"content": first}), None),
        chunk(&json!({"content": second}), None),
        chunk(&json!({}), Some("stop")),
    ];
    if usage {
        for event in &mut events {
            *event = event.replace("}\n\n", ",\"usage\":null}\n\n");
        }
        events.push(format!("data: {USAGE}\n\n"));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

const USAGE: &str = concat!(
    r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-test","choices":[],"#,
    r#""usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}"#
);

/// An upstream that answers in the form asked for.
async fn house() -> (Upstream, Proxy) {
    let up = upstream().by(|seen, _| form_of(&seen.body).reply());
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    (up, proxy)
}

fn form_of(body: &[u8]) -> Form {
    let body: Value = serde_json::from_slice(body).expect("a call");
    match (&body["stream"], &body["stream_options"]["include_usage"]) {
        (Value::Bool(true), Value::Bool(true)) => Form::Telling,
        (Value::Bool(true), _) => Form::Silent,
        _ => Form::Plain,
    }
}

/// Asserts that `answer` is [`TEXT`] in the form asked for, whole and with the usage that belongs to it.
#[track_caller]
fn assert_told(answer: &Answer, asked: Form) {
    assert_eq!((answer.status, &answer.end), (200, &End::Clean));
    let length = answer.header("content-length").map(str::parse);
    assert!(length.is_none_or(|length| length == Ok(answer.body.len())));
    let content_type = answer.expect("content-type");
    if asked == Form::Plain {
        assert_eq!(content_type, "application/json");
        let (told, direct) = (
            answer.json(),
            serde_json::from_slice(&asked.reply().bytes()),
        );
        let direct: Value = direct.expect("a completion");
        assert_eq!(told["usage"], direct["usage"]);
        assert_eq!(
            told["choices"][0]["message"],
            direct["choices"][0]["message"]
        );
        assert_eq!(told["object"], "chat.completion");
        return;
    }
    assert!(
        content_type.starts_with("text/event-stream"),
        "{content_type}"
    );
    let text = answer.text();
    let events: Vec<_> = text.split_terminator("\n\n").collect();
    assert_eq!(events.last(), Some(&"data: [DONE]"));
    let chunks = events[..events.len() - 1].iter().map(|event| {
        let data = event.strip_prefix("data: ").expect("an event of one line");
        serde_json::from_str::<Value>(data).expect("a chunk")
    });
    let chunks: Vec<_> = chunks.collect();
    let said = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(said.collect::<String>(), TEXT);
    let finishes = chunks
        .iter()
        .filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop");
    assert_eq!(finishes.count(), 1);
    assert_eq!(text.contains("\"usage\""), asked == Form::Telling, "{text}");
    if asked == Form::Telling {
        let last = &chunks[chunks.len() - 1];
        assert_eq!(
            (&last["choices"], &last["usage"]["total_tokens"]),
            (&json!([]), &json!(18))
        );
    }
}

#[tokio::test]
async fn an_entry_serves_every_form_whose_usage_it_has() {
    for recorded in FORMS {
        for asked in FORMS {
            let (up, proxy) = house().await;
            assert_verdict(&proxy.send(&recorded.request()).await, "MISS");
            let answer = proxy.send(&asked.request()).await;
            assert_told(&answer, asked);
            if recorded.serves(asked) {
                assert_verdict(&answer, "HIT");
            } else {
                assert_verdict(&answer, "MISS");
                assert_eq!(answer.expect("x-cache-reason"), "usage_missing");
                assert!(
                    answer
                        .expect("cache-status")
                        .starts_with("refrain; fwd=request; detail=usage_missing")
                );
            }
            assert_eq!(up.count(), if recorded.serves(asked) { 1 } else { 2 });
            if recorded == asked {
                assert_eq!(answer.body, asked.reply().bytes(), "the recorded bytes");
            }
        }
    }
}

#[tokio::test]
async fn both_forms_name_the_same_key_and_say_how_old_the_answer_is() {
    let (_up, proxy) = house().await;
    let cold = proxy.send(&Form::Plain.request()).await;
    let warm = proxy.send(&Form::Telling.request()).await;
    assert_eq!(warm.expect("x-cache-key"), cold.expect("x-cache-key"));
    assert_eq!(warm.expect("x-cache-tier"), "memory");
    assert!(warm.expect("age").parse::<u64>().is_ok());
}

#[tokio::test]
async fn a_richer_answer_takes_the_place_of_one_without_usage() {
    let (up, proxy) = house().await;
    for form in [Form::Silent, Form::Plain] {
        assert_verdict(&proxy.send(&form.request()).await, "MISS");
    }
    for form in FORMS {
        let answer = proxy.send(&form.request()).await;
        assert_verdict(&answer, "HIT");
        assert_told(&answer, form);
    }
    assert_eq!(up.count(), 2);
}

#[tokio::test]
async fn a_stream_loses_its_usage_and_no_other_byte() {
    let (_up, proxy) = house().await;
    proxy.send(&Form::Telling.request()).await;
    let silent = proxy.send(&Form::Silent.request()).await;
    assert_verdict(&silent, "HIT");
    assert_eq!(silent.text(), told(false).concat());
    let telling = proxy.send(&Form::Telling.request()).await;
    assert_eq!(telling.text(), told(true).concat());
}

#[tokio::test]
async fn a_plain_answer_without_usage_serves_every_form_without_inventing_one() {
    let mut body: Value = serde_json::from_slice(&completion(TEXT).bytes()).expect("a completion");
    body.as_object_mut().expect("an object").remove("usage");
    let up = upstream()
        .answers(reply_json(&body.to_string()))
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    assert_verdict(&proxy.send(&Form::Plain.request()).await, "MISS");
    for form in FORMS {
        let answer = proxy.send(&form.request()).await;
        assert_verdict(&answer, "HIT");
        assert!(!answer.text().contains("usage"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_stream_that_was_asked_for_its_usage_and_has_none_does_not_answer_a_plain_call() {
    let up = upstream().by(|seen, _| match form_of(&seen.body) {
        Form::Plain => completion(TEXT),
        _ => sse(told(false)),
    });
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    assert_verdict(&proxy.send(&Form::Telling.request()).await, "MISS");
    assert_verdict(&proxy.send(&Form::Telling.request()).await, "HIT");
    let plain = proxy.send(&Form::Plain.request()).await;
    assert_eq!(plain.expect("x-cache-reason"), "usage_missing");
    assert_verdict(&proxy.send(&Form::Plain.request()).await, "HIT");
}

#[tokio::test]
async fn other_stream_options_keep_a_place_of_their_own() {
    let (up, proxy) = house().await;
    proxy.send(&Form::Plain.request()).await;
    let table = [
        (json!({}), "HIT"),
        (json!({"include_usage": false}), "HIT"),
        (json!({"include_obfuscation": false}), "MISS"),
        (
            json!({"include_obfuscation": true, "include_usage": true}),
            "MISS",
        ),
        (json!({"x_vendor": 1}), "MISS"),
        (json!({"include_usage": null}), "MISS"),
    ];
    for (extra, verdict) in table {
        assert_verdict(&proxy.send(&options(&extra)).await, verdict);
    }
    assert_eq!(up.count(), 5);
    let same = options(&json!({"include_usage": false, "include_obfuscation": true}));
    let answer = proxy.send(&same).await;
    assert_verdict(&answer, "HIT");
    assert!(!answer.text().contains("usage"));
}

#[tokio::test]
async fn headers_of_the_recorded_bytes_do_not_outlive_them() {
    let reply = completion(TEXT)
        .header("ETag", "\"1\"")
        .header("Content-MD5", "x")
        .header("X-Vendor", "kept");
    let up = upstream().answers(reply).start().await;
    let proxy = proxy(&up).start().await;
    proxy.send(&Form::Plain.request()).await;
    let plain = proxy.send(&Form::Plain.request()).await;
    assert_eq!(plain.expect("etag"), "\"1\"");
    let stream = proxy.send(&Form::Silent.request()).await;
    assert_verdict(&stream, "HIT");
    assert_eq!(
        stream.expect("content-type"),
        "text/event-stream; charset=utf-8"
    );
    assert_eq!(stream.headers.all("content-type").len(), 1);
    assert_eq!(
        (stream.header("etag"), stream.header("content-md5")),
        (None, None)
    );
    assert_eq!(stream.expect("x-vendor"), "kept");
}

#[tokio::test]
async fn an_entry_that_cannot_be_told_in_the_form_asked_for_is_a_miss() {
    let calls = |id: &str| {
        chunk(
            &json!({"tool_calls": [{"index": 0, "id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
            None,
        )
    };
    let stream = [
        calls("a"),
        calls("b"),
        chunk(&json!({}), Some("tool_calls")),
        format!("data: {USAGE}\n\n"),
        "data: [DONE]\n\n".to_owned(),
    ];
    let up = upstream()
        .answers(sse(stream))
        .answers(completion(TEXT))
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    proxy.send(&Form::Telling.request()).await;
    assert_verdict(&proxy.send(&Form::Telling.request()).await, "HIT");
    let plain = proxy.send(&Form::Plain.request()).await;
    assert_verdict(&plain, "MISS");
    assert_eq!(plain.expect("x-cache-reason"), "unconvertible");
    assert_told(&plain, Form::Plain);
    assert_verdict(&proxy.send(&Form::Plain.request()).await, "HIT");
}

#[tokio::test]
async fn only_if_cached_says_that_the_usage_is_missing() {
    let (up, proxy) = house().await;
    proxy.send(&Form::Silent.request()).await;
    let only = |form: Form| form.request().header("Cache-Control", "only-if-cached");
    let refused = proxy.send(&only(Form::Plain)).await;
    assert_eq!(refused.status, 504);
    assert!(
        refused.text().contains("usage_missing"),
        "{}",
        refused.text()
    );
    assert_verdict(&proxy.send(&only(Form::Silent)).await, "HIT");
    assert_eq!(up.count(), 1);
}

/// A house whose first answer waits at a gate, after its head where that is a stream; later answers do not.
async fn gated() -> (Upstream, Proxy, Gate) {
    let gate = gate();
    let first = gate.clone();
    let up = upstream().by(move |seen, number| {
        let form = form_of(&seen.body);
        match (number, form) {
            (0, Form::Plain) => form.reply().after(&first),
            (0, _) => form.reply().pausing_after(2, &first),
            _ => form.reply(),
        }
    });
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    (up, proxy, gate)
}

#[tokio::test]
async fn a_call_joins_a_flight_of_another_form_only_if_that_will_have_its_usage() {
    for flown in FORMS {
        for asked in FORMS {
            let (up, proxy, gate) = gated().await;
            let leader = proxy.open(&flown.request()).await;
            up.arrived(1).await;
            let follower = proxy.open(&asked.request()).await;
            if flown.serves(asked) {
                proxy.joined(1).await;
                gate.open();
            } else {
                up.arrived(2).await;
            }
            let follower = follower.finish().await;
            gate.open();
            let leader = leader.finish().await;
            assert_verdict(&leader, "MISS");
            assert_eq!(leader.body, flown.reply().bytes());
            assert_told(&follower, asked);
            assert_verdict(
                &follower,
                if flown.serves(asked) {
                    "COLLAPSED"
                } else {
                    "MISS"
                },
            );
            assert_eq!(up.count(), if flown.serves(asked) { 1 } else { 2 });
            // Whichever lands last, the entry that stays is one with usage, if there was any.
            let has_usage = flown.serves(Form::Plain) || asked.serves(Form::Plain);
            let warm = proxy.send(&Form::Plain.request()).await;
            assert_verdict(&warm, if has_usage { "HIT" } else { "MISS" });
        }
    }
}

#[tokio::test]
async fn a_stream_that_follows_one_with_usage_reads_it_live() {
    let (up, proxy, gate) = gated().await;
    let mut leader = proxy.open(&Form::Telling.request()).await;
    leader.body(told(true)[..2].concat().len()).await;
    let mut follower = proxy.open(&Form::Silent.request()).await;
    let first = told(false)[..2].concat();
    assert_eq!(follower.body(first.len()).await, first.as_bytes());
    gate.open();
    let follower = follower.finish().await;
    assert_eq!(
        (follower.text(), &follower.end),
        (told(false).concat(), &End::Clean)
    );
    assert_verdict(&follower, "COLLAPSED");
    assert_eq!(leader.finish().await.text(), told(true).concat());
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn a_follower_in_another_form_goes_on_by_itself_where_the_flight_does_not_serve_it() {
    let cases = [
        ("no end mark", sse(told(true).into_iter().take(4))),
        ("no usage", sse(told(false))),
        (
            "an error of the stream's own",
            reply_json(r#"{"error":{"message":"no streams here"}}"#).status(400),
        ),
    ];
    for (why, first) in cases {
        let gate = gate();
        let reply = first.after(&gate);
        let up = upstream().by(move |_, number| {
            if number == 0 {
                reply.clone()
            } else {
                completion(TEXT)
            }
        });
        let up = up.start().await;
        let proxy = proxy(&up).start().await;
        let leader = proxy.open(&Form::Telling.request()).await;
        up.arrived(1).await;
        let follower = proxy.open(&Form::Plain.request()).await;
        proxy.joined(1).await;
        gate.open();
        let follower = follower.finish().await;
        assert_told(&follower, Form::Plain);
        assert_verdict(&follower, "MISS");
        leader.finish().await;
        assert_eq!(up.count(), 2, "{why}");
    }
}

#[tokio::test]
async fn a_follower_in_another_form_gets_the_upstreams_failure() {
    let gate = gate();
    let reply = sse(told(true)).pausing_after(2, &gate).cut_after(3);
    let up = upstream().answers(reply).start().await;
    let proxy = proxy(&up).honest().start().await;
    let leader = proxy.open(&Form::Telling.request()).await;
    up.arrived(1).await;
    let follower = proxy.open(&Form::Plain.request()).await;
    proxy.joined(1).await;
    gate.open();
    assert_eq!(leader.finish().await.end, End::Aborted);
    let follower = follower.finish().await;
    assert_eq!(follower.status, 502);
    assert_eq!(follower.json()["error"]["code"], "upstream_broken");
}

#[tokio::test]
async fn followers_and_hits_get_a_large_stream_whole_in_another_form() {
    let word = "Wörter ".repeat(20);
    let mut events = vec![chunk(&json!({"role": "assistant", "content": ""}), None)];
    events.extend((0..1_000).map(|_| chunk(&json!({"content": word}), None)));
    events.push(chunk(&json!({}), Some("stop")));
    events.push(format!("data: {USAGE}\n\n"));
    events.push("data: [DONE]\n\n".to_owned());
    let gate = gate();
    let up = upstream().answers(sse(events).pausing_after(2, &gate));
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    let leader = proxy.open(&Form::Telling.request()).await;
    up.arrived(1).await;
    let mut followers = Vec::new();
    for _ in 0..8 {
        followers.push(proxy.open(&Form::Plain.request()).await);
    }
    proxy.joined(8).await;
    gate.open();
    leader.finish().await;
    for follower in followers {
        let follower = follower.finish().await;
        assert_verdict(&follower, "COLLAPSED");
        let completion = follower.json();
        let content = completion["choices"][0]["message"]["content"].as_str();
        assert_eq!(content.map(str::len), Some(word.len() * 1_000));
        assert_eq!(completion["usage"]["total_tokens"], 18);
    }
    assert_verdict(&proxy.send(&Form::Plain.request()).await, "HIT");
    assert_verdict(&proxy.send(&Form::Silent.request()).await, "HIT");
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn a_refresh_in_one_form_is_a_refresh_in_all() {
    let gate = gate();
    let old = sse(told(true)).after(&gate);
    let up = upstream().by(move |seen, number| match number {
        0 => old.clone(),
        _ => form_of(&seen.body).reply(),
    });
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    let slow = proxy.open(&Form::Telling.request()).await;
    up.arrived(1).await;
    let refresh = Form::Plain.request().header("Cache-Control", "no-cache");
    assert_verdict(&proxy.send(&refresh).await, "MISS");
    assert_verdict(&proxy.send(&Form::Telling.request()).await, "HIT");
    gate.open();
    slow.finish().await;
    let plain = proxy.send(&Form::Plain.request()).await;
    assert_verdict(&plain, "HIT");
    assert_eq!(
        plain.body,
        Form::Plain.reply().bytes(),
        "the older stream replaced nothing"
    );
    assert_eq!(up.count(), 2);
}
