//! What a key depends on, and what it does not.

use std::collections::HashSet;

use super::*;
use crate::{
    call::canon::{self, Canonical, Options, Scratch},
    dialect::{
        Dialect,
        chat::request::{Class, Field},
    },
};

const MATERIAL: Material<'static> = Material {
    version: "1",
    scope: b"scope",
    namespace: "prompts-v2",
    upstream: "openai",
    base_url: "https://api.openai.com/v1",
    model: "gpt-4o",
    method: "POST",
    path_and_query: "/v1/chat/completions?a=b",
    vary: &[("openai-organization", b"org-1"), ("openai-beta", b"x")],
    body: &Digest([1; 32]),
};

const PARTS: [Part; 10] = [
    Part::Version,
    Part::Scope,
    Part::Namespace,
    Part::Upstream,
    Part::BaseUrl,
    Part::Model,
    Part::Method,
    Part::PathAndQuery,
    Part::Vary,
    Part::Body,
];

fn secret() -> Secret {
    Secret::from_bytes([7; 32])
}

fn key(material: &Material<'_>) -> Key {
    material.key(&secret(), Mask::NONE)
}

/// Returns the material with one part changed.
fn changed(part: Part) -> Material<'static> {
    let mut material = MATERIAL;
    match part {
        Part::Version => material.version = "2",
        Part::Scope => material.scope = b"other",
        Part::Namespace => material.namespace = "prompts-v3",
        Part::Upstream => material.upstream = "azure",
        Part::BaseUrl => material.base_url = "https://api.openai.com/v2",
        Part::Model => material.model = "gpt-4o-mini",
        Part::Method => material.method = "PUT",
        Part::PathAndQuery => material.path_and_query = "/v1/chat/completions?a=c",
        Part::Vary => material.vary = &[("openai-organization", b"org-2"), ("openai-beta", b"x")],
        Part::Body => material.body = &Digest([2; 32]),
    }
    material
}

fn canonical(body: &str) -> Canonical {
    canon::canonicalise(
        body.as_bytes(),
        Dialect::Chat,
        &Options::default(),
        &mut Scratch::default(),
    )
    .unwrap()
}

/// Returns the key of a call with this body.
fn key_of(body: &str) -> Key {
    let canonical = canonical(body);
    key(&Material {
        model: &canonical.request.model,
        body: &Digest::of(&canonical.body),
        ..MATERIAL
    })
}

/// Returns a body with these members besides its messages.
fn chat(members: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{members}}}"#)
}

fn assert_all_different(bodies: &[String]) {
    let keys: HashSet<_> = bodies.iter().map(|body| key_of(body)).collect();
    assert_eq!(keys.len(), bodies.len(), "{bodies:#?}");
}

#[test]
fn different_models_different_keys() {
    let models = [
        "gpt-4o",
        "gpt-4o-mini",
        "GPT-4o",
        "gpt-4o ",
        "",
        "gpt-4o-2024-08-06",
    ];
    assert_all_different(&models.map(|model| chat(&format!(r#""model":"{model}""#))));
}

#[test]
fn different_temperatures_different_keys() {
    let temperatures = [
        "0",
        "0.1",
        "0.1001",
        "0.10009",
        "0.10000000149",
        "0.7",
        "1",
        "2",
        "\"0.1\"",
        "[0.1]",
    ];
    let mut bodies: Vec<_> = temperatures
        .map(|value| chat(&format!(r#""model":"m","temperature":{value}"#)))
        .into();
    bodies.push(chat(r#""model":"m""#));
    assert_all_different(&bodies);
    let same = ["0.1", "1e-1", "0.10", "10e-2"]
        .map(|value| key_of(&chat(&format!(r#""model":"m","temperature":{value}"#))));
    assert!(
        same.iter().all(|key| *key == same[0]),
        "spellings of one temperature"
    );
}

#[test]
fn different_max_tokens_different_keys() {
    let mut bodies = vec![chat(r#""model":"m""#)];
    for name in ["max_tokens", "max_completion_tokens"] {
        let limits = [
            "1",
            "2",
            "10",
            "100",
            "9007199254740992",
            "9007199254740993",
        ];
        bodies.extend(limits.map(|limit| chat(&format!(r#""model":"m","{name}":{limit}"#))));
    }
    assert_all_different(&bodies);
}

/// Returns two values of a field that differ, neither of them null.
fn samples(field: Field) -> [&'static str; 2] {
    match field {
        Field::Messages => [
            r#"[{"role":"user","content":"a"}]"#,
            r#"[{"role":"developer","content":"a"}]"#,
        ],
        Field::Model => [r#""gpt-4o""#, r#""o3""#],
        Field::Audio => [r#"{"voice":"ash"}"#, r#"{"voice":"ballad"}"#],
        Field::FunctionCall | Field::ToolChoice => [r#""auto""#, r#""none""#],
        Field::Functions => [r#"[{"name":"f"}]"#, r#"[{"name":"g"}]"#],
        Field::LogitBias => [r#"{"50256":-100}"#, r#"{"50256":-99}"#],
        Field::Logprobs | Field::ParallelToolCalls | Field::Store | Field::Stream => {
            ["true", "false"]
        }
        Field::FrequencyPenalty | Field::PresencePenalty | Field::Temperature | Field::TopP => {
            ["0.1", "0.10001"]
        }
        Field::MaxCompletionTokens
        | Field::MaxTokens
        | Field::N
        | Field::Seed
        | Field::TopLogprobs => ["1", "2"],
        Field::Metadata => [r#"{"a":"b"}"#, r#"{"a":"c"}"#],
        Field::Modalities => [r#"["text"]"#, r#"["text","audio"]"#],
        Field::Prediction => [
            r#"{"type":"content","content":"a"}"#,
            r#"{"type":"content","content":"b"}"#,
        ],
        Field::PromptCacheKey | Field::SafetyIdentifier | Field::User => [r#""u1""#, r#""u2""#],
        Field::PromptCacheRetention => [r#""in_memory""#, r#""24h""#],
        Field::ReasoningEffort | Field::Verbosity => [r#""low""#, r#""high""#],
        Field::ResponseFormat => [r#"{"type":"text"}"#, r#"{"type":"json_object"}"#],
        Field::ServiceTier => [r#""auto""#, r#""flex""#],
        Field::Stop => [r#""a""#, r#"["a","b"]"#],
        Field::StreamOptions => [r#"{"include_usage":true}"#, r#"{"include_usage":false}"#],
        Field::Tools => [
            r#"[{"type":"function","function":{"name":"f","strict":true}}]"#,
            r#"[{"type":"function","function":{"name":"f","strict":false}}]"#,
        ],
        Field::WebSearchOptions => ["{}", r#"{"search_context_size":"low"}"#],
    }
}

/// Returns a streaming call in which a field has this value, or is absent.
fn with(field: Field, value: Option<&str>) -> String {
    let others = [
        (Field::Model, r#""m""#),
        (Field::Messages, "[]"),
        (Field::Stream, "true"),
    ];
    let others = others.into_iter().filter(|(other, _)| *other != field);
    let members = others.chain(value.map(|value| (field, value)));
    let members: Vec<_> = members
        .map(|(field, value)| format!(r#""{}":{value}"#, field.as_str()))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn serialization_handles_all_fields() {
    for field in Field::ALL {
        let name = field.as_str();
        let required = matches!(field, Field::Model | Field::Messages);
        let mut values = samples(field).map(Some).to_vec();
        if !required {
            values.push(None);
        }
        let bodies: Vec<_> = values.iter().map(|value| with(field, *value)).collect();
        let keys: HashSet<_> = bodies.iter().map(|body| key_of(body)).collect();
        let deliveries: HashSet<_> = bodies.iter().map(|body| canonical(body).delivery).collect();
        let expected = match field.class() {
            Class::Keyed => (bodies.len(), 1),
            // A plain answer and a stream, with and without its usage, are one place.
            Class::Ignored | Class::Delivery => (1, 1),
        };
        assert_eq!((keys.len(), deliveries.len()), expected, "{name}");
        if field.nullable() {
            assert_eq!(
                key_of(&with(field, Some("null"))),
                key_of(&with(field, None)),
                "null {name}"
            );
        } else if field.class() == Class::Keyed && !required {
            assert_ne!(
                key_of(&with(field, Some("null"))),
                key_of(&with(field, None)),
                "null {name}"
            );
        }
    }
}

#[test]
fn fields_that_nobody_has_heard_of_count() {
    let bodies = [
        r#""model":"m""#,
        r#""model":"m","num_ctx":4096"#,
        r#""model":"m","num_ctx":8192"#,
        r#""model":"m","num_ctx":null"#,
        r#""model":"m","extra":{"deep":[{"er":1}]}"#,
        r#""model":"m","extra":{"deep":[{"er":2}]}"#,
    ];
    assert_all_different(&bodies.map(chat));
}

#[test]
fn the_same_bytes_a_thousand_times_have_one_key() {
    let body = chat(
        r#""model":"m","tools":[{"type":"function","function":{"b":1,"a":{"d":1,"c":2}}}],"seed":1"#,
    );
    let keys: HashSet<_> = (0..1000).map(|_| key_of(&body)).collect();
    assert_eq!(keys.len(), 1);
}

#[test]
fn every_part_counts_unless_it_is_masked() {
    let mut keys = HashSet::from([key(&MATERIAL)]);
    for part in PARTS {
        let mask = Mask::NONE.without(part);
        assert!(keys.insert(key(&changed(part))), "{part:?} counts");
        assert!(
            keys.insert(MATERIAL.key(&secret(), mask)),
            "without {part:?} the key is another"
        );
        assert_eq!(
            changed(part).key(&secret(), mask),
            MATERIAL.key(&secret(), mask),
            "{part:?} is masked"
        );
        for other in PARTS.into_iter().filter(|other| *other != part) {
            assert_ne!(
                changed(other).key(&secret(), mask),
                MATERIAL.key(&secret(), mask),
                "{other:?} without {part:?}"
            );
        }
    }
}

#[test]
fn nothing_moves_between_neighbouring_parts() {
    let shifted = [
        Material {
            version: "1s",
            scope: b"cope",
            ..MATERIAL
        },
        Material {
            scope: b"scop",
            namespace: "eprompts-v2",
            ..MATERIAL
        },
        Material {
            namespace: "",
            upstream: "prompts-v2openai",
            ..MATERIAL
        },
        Material {
            upstream: "openaih",
            base_url: "ttps://api.openai.com/v1",
            ..MATERIAL
        },
        Material {
            base_url: "https://api.openai.com/v1gpt-4o",
            model: "",
            ..MATERIAL
        },
        Material {
            model: "gpt-4oPOST",
            method: "",
            ..MATERIAL
        },
        Material {
            method: "POST/v1",
            path_and_query: "/chat/completions?a=b",
            ..MATERIAL
        },
        Material {
            vary: &[("openai-organization", b"org-1openai-beta"), ("", b"x")],
            ..MATERIAL
        },
        Material {
            vary: &[("openai-organizationorg-1", b""), ("openai-beta", b"x")],
            ..MATERIAL
        },
        Material {
            vary: &[("openai-organization", b"org-1")],
            ..MATERIAL
        },
        Material {
            vary: &[("openai-beta", b"x"), ("openai-organization", b"org-1")],
            ..MATERIAL
        },
        Material {
            vary: &[],
            ..MATERIAL
        },
        MATERIAL,
    ];
    let keys: HashSet<_> = shifted.iter().map(key).collect();
    assert_eq!(keys.len(), shifted.len());
}

#[test]
fn keys_of_two_secrets_are_unrelated() {
    let other = Secret::from_bytes([8; 32]);
    assert_ne!(MATERIAL.key(&other, Mask::NONE), key(&MATERIAL));
    assert_ne!(
        Secret::random().unwrap().expose(),
        Secret::random().unwrap().expose()
    );
    let copy = Secret::from_bytes(other.expose());
    assert_eq!(
        MATERIAL.key(&copy, Mask::NONE),
        MATERIAL.key(&other, Mask::NONE)
    );
}

/// Computed by another program. Where this changes, entries of older versions are lost or, worse, confused: raise
/// `FORMAT_VERSION`.
#[test]
fn the_format_is_the_one_of_its_version() {
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"h\u00e9"}],"temperature":0.50,"stop":"x","n":null,"x":[true,-10]}"#;
    let canonical = canonical(body);
    let material = Material {
        body: &Digest::of(&canonical.body),
        ..MATERIAL
    };
    assert_eq!(
        key(&material).to_string(),
        "8f9bf0525308c243303bc8d7e82ff2ef9414d9e72629068dc129e821db021c43"
    );
    let fingerprint = secret().fingerprint("credential", &[b"authorization", b"Bearer sk-1"]);
    assert_eq!(fingerprint.to_string(), "9b22681c3a5c4ce20c376170321670f0");
}

#[test]
fn fingerprints_tell_labels_and_parts_apart() {
    let secret = secret();
    let all = [
        secret.fingerprint("credential", &[]),
        secret.fingerprint("credential", &[b""]),
        secret.fingerprint("credential", &[b"ab"]),
        secret.fingerprint("credential", &[b"a", b"b"]),
        secret.fingerprint("credential", &[b"b", b"a"]),
        secret.fingerprint("credential", &[b"ab", b""]),
        secret.fingerprint("credentia", &[b"l", b"ab"]),
        secret.fingerprint("proof", &[b"ab"]),
        Secret::from_bytes([8; 32]).fingerprint("credential", &[b"ab"]),
    ];
    let different: HashSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
    assert_eq!(secret.fingerprint("credential", &[b"ab"]), all[2]);
}

#[test]
fn keys_are_shown_and_read_as_hexadecimal_digits() {
    let key = Key::from_bytes(std::array::from_fn(|at| u8::try_from(at * 8 + 7).unwrap()));
    let hex = "070f171f272f373f474f575f676f777f878f979fa7afb7bfc7cfd7dfe7eff7ff";
    assert_eq!(key.to_string(), hex);
    assert_eq!(key.hex().as_str(), hex);
    assert_eq!(key.short().to_string(), "070f171f272f");
    assert_eq!(hex.parse(), Ok(key));
    assert_eq!(hex.to_uppercase().parse(), Ok(key));
    assert_eq!(format!("{key:?}"), "Key(070f171f272f)");
    for wrong in [
        "",
        "07",
        &hex[1..],
        &format!("{hex}0"),
        &hex.replace('7', "g"),
        &hex.replacen("07", "+7", 1),
    ] {
        assert_eq!(wrong.parse::<Key>(), Err(InvalidKey), "{wrong}");
    }
}

#[test]
fn a_secret_is_not_shown() {
    assert_eq!(format!("{:?}", Secret::from_bytes([7; 32])), "Secret(..)");
}
