//! What a key costs: nanoseconds for the canonical form and for the key (SHA-256 of the form, and the HMAC) of typical bodies.
//!
//! `cargo bench --bench key`

use std::{
    hint::black_box,
    io::{self, Write as _},
    time::Instant,
};

use refrain::{
    call::{
        canon::{self, Options, Scratch},
        key::{Digest, Mask, Material, Secret},
    },
    dialect::Dialect,
};

fn main() -> io::Result<()> {
    let bodies = [
        ("2 KB chat", chat(6, 280)),
        ("2 KB tools", tools(4)),
        ("49 KB chat", chat(40, 1_150)),
        ("49 KB tools", tools(118)),
    ];
    let secret = Secret::from_bytes([7; 32]);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<12} {:>7} {:>12} {:>12}",
        "body", "bytes", "canonical ns", "key ns"
    )?;
    for (name, body) in bodies {
        let mut scratch = Scratch::default();
        let canonical = measure(|| canonicalise(&body, &mut scratch));
        let form = canonicalise(&body, &mut scratch);
        let key = measure(|| material(&Digest::of(&form)).key(&secret, Mask::NONE));
        writeln!(
            out,
            "{name:<12} {:>7} {canonical:>12.0} {key:>12.0}",
            body.len()
        )?;
    }
    Ok(())
}

/// Returns the least mean of several rounds, in nanoseconds: what disturbs a round only makes it longer.
fn measure<T>(mut work: impl FnMut() -> T) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..TIMES {
                black_box(work());
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
        })
        .fold(f64::INFINITY, f64::min)
}

fn canonicalise(body: &str, scratch: &mut Scratch) -> Vec<u8> {
    let canonical = canon::canonicalise(
        black_box(body.as_bytes()),
        Dialect::Chat,
        &Options::default(),
        scratch,
    );
    canonical
        .map(|canonical| canonical.body)
        .unwrap_or_default()
}

fn material(body: &Digest) -> Material<'_> {
    Material {
        version: "",
        scope: &[1; 16],
        namespace: "",
        upstream: "openai",
        base_url: "https://api.openai.com/v1",
        model: "gpt-4o-mini",
        method: "POST",
        path_and_query: "/v1/chat/completions",
        vary: &[],
        body,
    }
}

/// A conversation as the SDKs send it: compact, with line feeds and quotes in its text.
fn chat(messages: usize, length: usize) -> String {
    let line = r#"The quick brown fox said \"jump\" over the lazy dog.\n"#;
    let text: String = line
        .chars()
        .cycle()
        .take(length / line.len() * line.len())
        .collect();
    let messages: Vec<_> = (0..messages)
        .map(|at| {
            ["system", "user", "assistant"]
                .get(at % 3)
                .copied()
                .unwrap_or_default()
        })
        .map(|role| format!(r#"{{"role":"{role}","content":"{text}"}}"#))
        .collect();
    format!(
        r#"{{"messages":[{}],"model":"gpt-4o-mini","max_tokens":512,"temperature":0.7,"top_p":1,"stream":true,"stream_options":{{"include_usage":true}}}}"#,
        messages.join(",")
    )
}

/// A short question with many tools: small members, deep nesting, keys out of order.
fn tools(count: usize) -> String {
    let tool = r#"{"type":"function","function":{"name":"get_weather","description":"Current weather at a location.","parameters":{"type":"object","properties":{"location":{"type":"string","description":"City and country, such as Bogota, Colombia"},"units":{"type":"string","enum":["celsius","fahrenheit"]}},"required":["location","units"],"additionalProperties":false},"strict":true}}"#;
    format!(
        r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"What is the weather like in Paris today?"}}],"temperature":0,"tools":[{}],"tool_choice":"auto"}}"#,
        vec![tool; count].join(",")
    )
}

const ROUNDS: u32 = 20;
const TIMES: u32 = 2_000;
