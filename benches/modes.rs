//! What a converted hit costs beyond one in the recorded mode: microseconds to tell an answer in another form.
//!
//! `cargo bench --bench modes`

use std::{
    fmt::Write as _,
    hint::black_box,
    io::{self, Write as _},
    time::Instant,
};

use refrain::dialect::chat::{convert, form::Form};

fn main() -> io::Result<()> {
    let telling = Form::Stream { usage: true };
    let silent = Form::Stream { usage: false };
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<28} {:>9} {:>9} {:>9} {:>9}",
        "stream", "bytes", "fold us", "unfold us", "strip us"
    )?;
    for (name, stream) in [
        ("50 deltas", stream(50, "")),
        ("500 deltas", stream(500, "")),
        ("500 deltas with logprobs", stream(500, LOGPROBS)),
    ] {
        let tell = |recording: &[u8], from, to| convert(recording, from, to).unwrap_or_default();
        let plain = tell(stream.as_bytes(), telling, Form::Plain);
        let fold = measure(|| tell(black_box(stream.as_bytes()), telling, Form::Plain));
        let unfold = measure(|| tell(black_box(&plain), Form::Plain, telling));
        let strip = measure(|| tell(black_box(stream.as_bytes()), telling, silent));
        writeln!(
            out,
            "{name:<28} {:>9} {fold:>9.1} {unfold:>9.1} {strip:>9.1}",
            stream.len()
        )?;
    }
    Ok(())
}

/// Returns a stream of as many deltas as OpenAI sends for a text of so many tokens; `beside` stands beside each.
fn stream(deltas: usize, beside: &str) -> String {
    let mut stream = String::new();
    for _ in 0..deltas {
        // Writing to a string does not fail.
        let _ = write!(
            stream,
            "data: {{{HEAD},\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word\"}}{beside},\"finish_reason\":null}}],\"usage\":null}}\n\n"
        );
    }
    let _ = write!(
        stream,
        "data: {{{HEAD},\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}],\"usage\":null}}\n\n\
         data: {{{HEAD},\"choices\":[],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":9}}}}\n\n\
         data: [DONE]\n\n"
    );
    stream
}

/// Returns the least mean of several rounds, in microseconds: what disturbs a round only makes it longer.
fn measure<T>(mut work: impl FnMut() -> T) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..TIMES {
                black_box(work());
            }
            start.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES)
        })
        .fold(f64::INFINITY, f64::min)
}

const HEAD: &str = r#""id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_44709d6fcb""#;
const LOGPROBS: &str = r#","logprobs":{"content":[{"token":" word","logprob":-0.10000000149011612,"bytes":[32,119,111,114,100],"top_logprobs":[]}],"refusal":null}"#;
const ROUNDS: u32 = 20;
const TIMES: u32 = 50;
