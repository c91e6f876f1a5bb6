//! What the canonical body of a chat request is, told by examples; [`suite`] has the JSON, [`properties`] the rest.

mod properties;
mod suite;

use super::*;
use crate::config::Temperature;

fn canon_with(body: &[u8], options: &Options) -> Result<Canonical, Unkeyed> {
    canonicalise(body, Dialect::Chat, options, &mut Scratch::default())
}

fn canon(body: impl AsRef<[u8]>) -> Result<Canonical, Unkeyed> {
    canon_with(body.as_ref(), &Options::default())
}

/// Returns a body with these members besides a model and a message.
fn chat(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"hi"}}]{comma}{members}}}"#)
}

/// Returns a body with these messages.
fn talk(messages: &str) -> String {
    format!(r#"{{"model":"gpt-4o","messages":{messages}}}"#)
}

fn request(members: &str) -> Request {
    canon(chat(members)).unwrap().request
}

#[test]
fn spellings_of_one_request_have_one_form() {
    let groups: [&[&str]; 9] = [
        &[
            r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"temperature":1}"#,
            r#"{"temperature":1.0,"messages":[{"content":"hi","role":"user"}],"model":"gpt-4o"}"#,
            "\t{ \"model\" : \"gpt-4o\" , \"messages\" :\r\n[ { \"role\":\"user\",\"content\":\"hi\" } ],\n\"temperature\":1e0 } ",
            r#"{"\u006dodel":"gpt\u002d4o","messages":[{"role":"us\u0065r","content":"\u0068i"}],"temperature":10e-1}"#,
            r#"{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"temperature":1}"#,
            r#"{"model":"gpt-4o","messages":[{"role":"user","content":[{"text":"hi","type":"text"}]}],"temperature":1}"#,
        ],
        &[
            &chat(""),
            &chat(r#""seed":null"#),
            &chat(r#""temperature":null,"top_p":null,"n":null"#),
        ],
        &[
            &chat(""),
            &chat(r#""user":"u1","metadata":{"a":[1,2]}"#),
            &chat(r#""user":null,"prompt_cache_key":7"#),
        ],
        &[
            &chat(""),
            &chat(r#""stream":true"#),
            &chat(r#""stream":true,"stream_options":{"include_usage":true}"#),
        ],
        &[&chat(r#""stop":"END""#), &chat(r#""stop":["END"]"#)],
        &[&chat(""), &chat(r#""stop":null"#)],
        &[
            &talk(r#"[{"role":"assistant","tool_calls":[]}]"#),
            &talk(r#"[{"role":"assistant","content":null,"tool_calls":[]}]"#),
            &talk(
                r#"[{"content":null,"refusal":null,"audio":null,"function_call":null,"tool_calls":[],"role":"assistant"}]"#,
            ),
        ],
        &[
            &talk(r#"[{"role":"function","name":"f"}]"#),
            &talk(r#"[{"role":"function","name":"f","content":null}]"#),
        ],
        &[
            &chat(
                r#""tools":[{"type":"function","function":{"name":"f","parameters":{"b":{},"a":{"d":1,"c":2}}}}]"#,
            ),
            &chat(
                r#""tools":[{"function":{"parameters":{"a":{"c":2,"d":1},"b":{}},"name":"f"},"type":"function"}]"#,
            ),
        ],
    ];
    for group in groups {
        let expected = canon(group[0]).unwrap().body;
        for spelling in group {
            assert_eq!(canon(spelling).unwrap().body, expected, "{spelling}");
        }
    }
}

#[test]
fn requests_that_may_be_answered_differently_have_different_forms() {
    let cases = [
        chat(""),
        chat(r#""temperature":0.1"#),
        chat(r#""temperature":0.1001"#),
        chat(r#""temperature":0.10009"#),
        chat(r#""temperature":"0.1""#),
        chat(r#""seed":9007199254740992"#),
        chat(r#""seed":9007199254740993"#),
        chat(r#""seed":18446744073709551616"#),
        chat(r#""seed":18446744073709551617"#),
        chat(r#""num_ctx":4096"#),
        chat(r#""num_ctx":null"#),
        chat(r#""tools":null"#),
        chat(r#""Temperature":0.1"#),
        chat(r#""User":"u1""#),
        chat(r#""stop":"END""#),
        chat(r#""stop":["end"]"#),
        chat(r#""stop":["END","END"]"#),
        chat(r#""stop":"""#),
        chat(r#""x":{"user":"u1"}"#),
        chat(r#""x":{"user":"u2"}"#),
        chat(r#""x":{"stop":"END"}"#),
        chat(r#""x":{"stop":["END"]}"#),
        chat(r#""x":{"content":"a"}"#),
        chat(r#""x":{"content":[{"type":"text","text":"a"}]}"#),
        chat(r#""x":{"seed":null}"#),
        chat(r#""x":{}"#),
        chat(r#""x":[]"#),
        chat(r#""x":[[]]"#),
        chat(r#""x":[[],[]]"#),
        chat(r#""x":[1,2]"#),
        chat(r#""x":[2,1]"#),
        chat(r#""x":[12]"#),
        chat(r#""x":false"#),
        chat(r#""x":0"#),
        chat(r#""x":-0"#),
        chat(r#""x":"null""#),
        talk("[]"),
        talk(r#"["hi"]"#),
        talk(r#"[{"role":"user","content":"HI"}]"#),
        talk(r#"[{"role":"user","content":"hi "}]"#),
        talk(r#"[{"role":"user","content":""}]"#),
        talk(r#"[{"role":"user","content":[]}]"#),
        talk(r#"[{"role":"user","content":null}]"#),
        talk(r#"[{"role":"user"}]"#),
        talk(r#"[{"role":"user","content":[{"type":"text","text":"hi","x":1}]}]"#),
        talk(
            r#"[{"role":"user","content":[{"type":"text","text":"h"},{"type":"text","text":"i"}]}]"#,
        ),
        talk(r#"[{"role":"user","content":["hi"]}]"#),
        talk(r#"[{"role":"user","content":"e\u0301"}]"#),
        talk(r#"[{"role":"user","content":"\u00e9"}]"#),
        talk(r#"[{"role":"user","content":"hi","user":"u1"}]"#),
        talk(r#"[{"role":"user","content":"hi","refusal":null}]"#),
        talk(r#"[{"role":"assistant","content":"hi"}]"#),
        talk(r#"[{"role":"assistant","name":null}]"#),
        talk(r#"[{"role":"assistant"}]"#),
        talk(r#"[{"role":"system","content":"hi"},{"role":"user","content":"hi"}]"#),
        talk(r#"[{"role":"user","content":"hi"},{"role":"system","content":"hi"}]"#),
    ];
    let forms: Vec<_> = cases.iter().map(|body| canon(body).unwrap().body).collect();
    for (at, form) in forms.iter().enumerate() {
        let twin = forms.iter().position(|other| other == form);
        assert_eq!(
            twin,
            Some(at),
            "{} and {}",
            cases[twin.unwrap_or(at)],
            cases[at]
        );
    }
}

#[test]
fn kept_fields_count() {
    let options = Options {
        keep: vec!["user".to_owned(), "stream".to_owned()],
        ..Options::default()
    };
    let form = |members: &str| canon_with(chat(members).as_bytes(), &options).unwrap().body;
    assert_ne!(form(r#""user":"u1""#), form(r#""user":"u2""#));
    assert_ne!(form(r#""user":"u1""#), form(""));
    assert_ne!(form(r#""stream":true"#), form(""));
    assert_eq!(form(r#""metadata":{"a":"b"}"#), form(""), "not kept");
}

#[test]
fn defaults_are_folded_only_when_asked() {
    let options = Options {
        fold_openai_defaults: true,
        ..Options::default()
    };
    let folded = |members: &str| canon_with(chat(members).as_bytes(), &options).unwrap().body;
    let defaults = [
        r#""temperature":1.0"#,
        r#""top_p":1"#,
        r#""n":1"#,
        r#""presence_penalty":0"#,
        r#""frequency_penalty":0.0"#,
        r#""logprobs":false"#,
        r#""store":false"#,
        r#""parallel_tool_calls":true"#,
        r#""service_tier":"auto""#,
        r#""verbosity":"medium""#,
        r#""modalities":["text"]"#,
        r#""response_format":{ "type" : "text" }"#,
    ];
    for member in defaults {
        assert_eq!(folded(member), folded(""), "{member}");
        assert_ne!(
            canon(chat(member)).unwrap().body,
            canon(chat("")).unwrap().body,
            "{member}, not asked"
        );
    }
    for member in [
        r#""temperature":0.7"#,
        r#""n":2"#,
        r#""service_tier":"flex""#,
        r#""tool_choice":"auto""#,
    ] {
        assert_ne!(folded(member), folded(""), "{member}");
    }
}

#[test]
fn every_openai_default_is_a_value_that_can_be_compared() {
    use crate::dialect::chat::request::Field;

    let options = Options {
        fold_openai_defaults: true,
        ..Options::default()
    };
    let bare = canon_with(chat("").as_bytes(), &options).unwrap().body;
    for field in Field::ALL {
        let Some(default) = field.openai_default() else {
            continue;
        };
        let body = chat(&format!(r#""{}":{default}"#, field.as_str()));
        assert_eq!(
            canon_with(body.as_bytes(), &options).unwrap().body,
            bare,
            "{body}"
        );
    }
}

#[test]
fn delivery_tells_how_the_answer_travels() {
    let delivery = |members: &str| canon(chat(members)).unwrap().delivery;
    for plain in [
        "",
        r#""stream":false"#,
        r#""stream":null"#,
        r#""stream":false,"stream_options":{"include_usage":true}"#,
        r#""stream":true"#,
        r#""stream":true,"stream_options":null"#,
        r#""stream":true,"stream_options":{}"#,
        r#""stream":true,"stream_options":{"include_usage":false}"#,
        r#""stream_options":{"include_\u0075sage":true},"stream":true"#,
    ] {
        assert_eq!(delivery(plain), b"", "{plain}");
    }
    let usage = delivery(
        r#""stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}"#,
    );
    assert_eq!(
        delivery(
            r#""stream_options":{"include_obfuscation":false,"include_usage":true},"stream":true"#
        ),
        usage,
        "order does not matter"
    );
    assert_eq!(
        delivery(r#""stream":true,"stream_options":{"include_obfuscation":false}"#),
        usage,
        "the usage does not matter"
    );
    let all = [
        delivery(""),
        delivery(r#""stream":1"#),
        delivery(r#""stream":"true""#),
        delivery(r#""stream":true,"stream_options":[]"#),
        delivery(r#""stream":true,"stream_options":{"include_usage":null}"#),
        delivery(r#""stream":true,"stream_options":{"include_obfuscation":true}"#),
        usage,
    ];
    for (at, one) in all.iter().enumerate() {
        assert_eq!(all.iter().position(|other| other == one), Some(at));
    }
}

#[test]
fn facts_are_taken_on_the_way() {
    let plain = Request {
        model: "gpt-4o".to_owned(),
        temperature: Some(Temperature::DEFAULT),
        ..Request::default()
    };
    assert_eq!(request(""), plain);
    assert_eq!(
        request(r#""tools":[],"functions":[],"store":false,"response_format":{"type":"text"}"#),
        plain
    );
    assert_eq!(
        request(
            r#""store":null,"web_search_options":null,"stream_options":{"include_usage":true}"#
        ),
        plain
    );
    assert_eq!(
        request(r#""x":{"stream":true,"store":true,"tools":[{"type":"mcp"}]}"#),
        plain,
        "top level only"
    );

    let everything = request(
        r#""n":3,"stream":true,"stream_options":{"include_usage":true},"store":true,"tools":[{"type":"function"}],
        "response_format":{"json_schema":{"type":"object"},"type":"json_schema"},"web_search_options":{}"#,
    );
    let expected = Request {
        model: "gpt-4o".to_owned(),
        stream: true,
        include_usage: true,
        wants_json: true,
        stateful: true,
        live_tools: true,
        tools: true,
        shaped: true,
        choices: Some(3),
        temperature: Some(Temperature::DEFAULT),
    };
    assert_eq!(everything, expected);
}

#[test]
fn what_is_no_prose_is_told_by_what_asks_for_it() {
    for (fields, shaped) in [
        ("", false),
        (r#""response_format":null"#, false),
        (r#""response_format":{"type":"text"}"#, false),
        (r#""response_format":{"type":"json_object"}"#, true),
        (
            r#""response_format":{"type":"json_schema","json_schema":{}}"#,
            true,
        ),
        (r#""response_format":{"type":"grammar"}"#, true),
        (r#""response_format":{}"#, true),
        (r#""response_format":"json""#, true),
        (r#""audio":null"#, false),
        (r#""audio":{"voice":"alloy","format":"wav"}"#, true),
        (r#""guided_choice":["a","b"]"#, true),
        (r#""guided_choice":null"#, false),
        (r#""GRAMMAR":"root ::= [0-9]""#, true),
        (r#""x":{"grammar":"root"}"#, false),
    ] {
        assert_eq!(request(fields).shaped, shaped, "{fields}");
    }
}

#[test]
fn the_number_of_choices_is_a_whole_one_or_none() {
    for (fields, expected) in [
        ("", None),
        (r#""n":null"#, None),
        (r#""n":1"#, Some(1)),
        (r#""n": 128 "#, Some(128)),
        (r#""n":-1"#, None),
        (r#""n":1.5"#, None),
        (r#""n":"2""#, None),
        (r#""n":100000"#, None),
    ] {
        assert_eq!(request(fields).choices, expected, "{fields}");
    }
}

#[test]
fn the_temperature_is_the_number_that_is_stated_or_the_default() {
    for (fields, expected) in [
        ("", Some("1")),
        (r#""temperature": null"#, Some("1")),
        (r#""temperature": 0.7"#, Some("0.7")),
        (r#""temperature" :\n 7e-1 ,"n":1"#, Some("0.7")),
        (r#""temperature":-0.0"#, Some("0")),
        (
            r#""temperature":0.30000000000000004"#,
            Some("0.30000000000000004"),
        ),
        (r#""temperature":"0.7""#, None),
        (r#""temperature":[0.7]"#, None),
        (r#""x":{"temperature":0.7}"#, Some("1")),
    ] {
        let fields = fields.replace("\\n", "\n");
        let expected = expected.and_then(Temperature::parse);
        assert_eq!(request(&fields).temperature, expected, "{fields}");
    }
}

#[test]
fn tools_that_the_caller_does_not_run_are_live() {
    let cases = [
        (
            r#"[{"type":"function","function":{"name":"f"}}]"#,
            false,
            "the caller runs functions",
        ),
        (
            r#"[{"type":"custom","custom":{"name":"f"}}]"#,
            false,
            "and custom tools",
        ),
        (
            r#"[{"function":{"type":"mcp"},"type":"function"}]"#,
            false,
            "the tool's own type is meant",
        ),
        (
            r#"[{"type":"function"},{"type":"web_search"}]"#,
            true,
            "one is enough",
        ),
        (
            r#"[{"type":"code_interpreter"}]"#,
            true,
            "run by the vendor",
        ),
        (r#"[{"google_search":{}}]"#, true, "no type, so not known"),
        (r#"[{"type":null}]"#, true, "no type, so not known"),
        (r#"["web_search"]"#, true, "no object, so not known"),
        (r#"{"web_search":{}}"#, true, "no array, so not known"),
    ];
    for (tools, live, why) in cases {
        let request = request(&format!(r#""tools":{tools}"#));
        assert_eq!(
            (request.tools, request.live_tools),
            (true, live),
            "{tools}: {why}"
        );
    }
    let body = r#"{"messages":[],"model":"gpt-4o-search-preview"}"#;
    assert!(
        canon(body).unwrap().request.live_tools,
        "a model that searches by itself"
    );
}

#[test]
fn what_every_request_has_must_be_there() {
    let cases = [
        ("", Unkeyed::InvalidJson),
        ("  ", Unkeyed::InvalidJson),
        ("[]", Unkeyed::NotAnObject),
        ("\"{}\"", Unkeyed::NotAnObject),
        ("17", Unkeyed::NotAnObject),
        ("null", Unkeyed::NotAnObject),
        ("[1] x", Unkeyed::InvalidJson),
        ("{}", Unkeyed::NoModel),
        (r#"{"messages":[]}"#, Unkeyed::NoModel),
        (r#"{"model":null,"messages":[]}"#, Unkeyed::NoModel),
        (r#"{"model":["m"],"messages":[]}"#, Unkeyed::NoModel),
        (r#"{"MODEL":"m","messages":[]}"#, Unkeyed::NoModel),
        (r#"{"model":"m"}"#, Unkeyed::NoMessages),
        (r#"{"model":"m","messages":null}"#, Unkeyed::NoMessages),
        (r#"{"model":"m","messages":"hi"}"#, Unkeyed::NoMessages),
        (
            r#"{"model":"m","messages":{"role":"user"}}"#,
            Unkeyed::NoMessages,
        ),
        (r#"{"x":{"model":"m","messages":[]}}"#, Unkeyed::NoModel),
    ];
    for (body, expected) in cases {
        assert_eq!(
            canon(body).map(|canonical| canonical.request),
            Err(expected),
            "{body}"
        );
    }
    assert_eq!(
        canon(r#"{"model":"","messages":[]}"#)
            .unwrap()
            .request
            .model,
        "",
        "an empty name is the upstream's matter"
    );
}

#[test]
fn doubles_are_refused_wherever_they_are() {
    let bodies = [
        r#"{"model":"a","messages":[],"model":"a"}"#,
        r#"{"model":"a","messages":[],"\u006dodel":"b"}"#,
        r#"{"model":"a","messages":[],"MODEL":"b"}"#,
        r#"{"model":"a","messages":[],"me\u017fsages":[]}"#,
        r#"{"model":"a","messages":[],"user":"u","user":"u"}"#,
        r#"{"model":"a","messages":[],"user":null,"User":"u"}"#,
        r#"{"model":"a","messages":[],"stream":false,"stream":true}"#,
        r#"{"model":"a","messages":[],"stream_options":{"include_usage":true,"include_usage":true}}"#,
        r#"{"model":"a","messages":[{"role":"user","content":"x","content":"x"}]}"#,
        r#"{"model":"a","messages":[{"role":"assistant","refusal":null,"refusal":null}]}"#,
        r#"{"model":"a","messages":[],"metadata":{"k":1,"k":1}}"#,
        r#"{"model":"a","messages":[],"x":[[{"":1,"":2}]]}"#,
        r#"{"model":"a","messages":[],"x":{"tok":1,"to\u212a":2}}"#,
        r#"{"model":"a","messages":[],"x":{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"A":7}}"#,
        r#"{"model":"a","messages":[],"x":{"parallel_tool_calls":1,"parallel_TOOL_calls":2}}"#,
        r#"{"model":"a","messages":[],"tools":[{"type":"function","type":"mcp"}]}"#,
    ];
    for body in bodies {
        assert_eq!(canon(body), Err(Unkeyed::DuplicateKey), "{body}");
    }
    assert!(
        canon(r#"{"model":"a","messages":[{"x":1},{"x":1}],"y":{"x":{"x":1}}}"#).is_ok(),
        "different objects"
    );
}

#[test]
fn hostile_bodies_are_refused_or_copied_once() {
    let nested = |depth: usize| {
        chat(&format!(
            r#""x":{}{}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        ))
    };
    assert!(canon(nested(127)).is_ok(), "128 with the body itself");
    assert_eq!(canon(nested(128)), Err(Unkeyed::TooDeep));
    assert_eq!(canon(nested(500)), Err(Unkeyed::TooDeep));
    assert_eq!(
        canon(chat(&format!(r#""x":{}"#, "[".repeat(1_000_000)))),
        Err(Unkeyed::TooDeep)
    );
    assert_eq!(
        canon(chat(&format!(r#""x":{}"#, r#"{"a":"#.repeat(1_000_000)))),
        Err(Unkeyed::TooDeep)
    );

    let objects = format!(r#""x":[{}{{}}]"#, r#"{"b":0,"a":0},"#.repeat(1 << 17));
    assert_eq!(
        canon(chat(&objects)),
        Err(Unkeyed::TooComplex),
        "too many members"
    );
    let unsorted = (0..120).fold(
        format!(r#"{{"b":"{}","a":1}}"#, "x".repeat(1_000_000)),
        |inner, _| format!(r#"{{"b":{inner},"a":1}}"#),
    );
    let form = canon(chat(&format!(r#""x":{unsorted}"#))).unwrap().body;
    assert!(
        form.len() < unsorted.len() + 1000,
        "every level is out of order, and the text is copied once"
    );
}

#[test]
fn a_scratch_that_was_used_for_anything_is_as_good_as_new() {
    let mut scratch = Scratch::default();
    let options = Options::default();
    let body =
        chat(r#""tools":[{"type":"function","function":{"b":{"d":1,"c":2},"a":1}}],"seed":7"#);
    let expected = canon(&body).unwrap();
    for other in [
        r#"{"b":{"a":[{"#,
        r#"{"z":1,"y":{"x":1,"w":2},"y":3}"#,
        &chat(r#""x":{"b":1,"a":2}"#),
        "",
        "[[[[\"",
        &body,
    ] {
        let _ = canonicalise(other.as_bytes(), Dialect::Chat, &options, &mut scratch);
        let again = canonicalise(body.as_bytes(), Dialect::Chat, &options, &mut scratch);
        assert_eq!(again.as_ref(), Ok(&expected), "after {other}");
    }
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let mut names: Vec<_> = Unkeyed::ALL.iter().map(|reason| reason.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Unkeyed::ALL.len());
    assert!(names.iter().all(|name| {
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'0'..=b'9'))
    }));
    assert_eq!(Unkeyed::LoneSurrogate.to_string(), "lone_surrogate");
}
