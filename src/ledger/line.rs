//! The line that the log has for every call. Its fields are listed in `docs/telemetry.md`.
//!
//! # Scope
//! Facts and sizes only: no credential, prompt or completion, at any level.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use super::{
    date,
    object::{self, Object},
};

/// The facts of one call.
#[derive(Debug)]
pub struct Line<'a> {
    /// When the call ended.
    pub timestamp: SystemTime,
    /// `INFO`.
    pub level: &'static str,
    /// `call`, or `refresh`.
    pub message: &'static str,
    /// The request id.
    pub id: &'a str,
    /// Fingerprint of the credential, or `anonymous`.
    pub caller: &'a str,
    /// The dialect, or `other`.
    pub dialect: &'static str,
    /// The model asked for, where the call has a key.
    pub model: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The path, without the query, which may hold secrets.
    pub path: &'a str,
    /// The status; 499 where the client hung up before there was one.
    pub status: u16,
    /// How the answer came to be; `none` where there was none.
    pub verdict: &'static str,
    /// Why it was not served from the cache.
    pub reason: Option<&'static str>,
    /// First 12 digits of the key.
    pub key: Option<&'a str>,
    /// Name of the operator's rule for the call.
    pub rule: Option<&'a str>,
    /// Whether the answer was stored, where that was this call's to bring about.
    pub stored: Option<bool>,
    /// Why it was not.
    pub not_stored: Option<&'static str>,
    /// Name of the upstream.
    pub upstream: Option<&'a str>,
    /// How many tries failed before the one that was answered.
    pub retries: Option<u32>,
    /// How the last of them failed.
    pub retry_reason: Option<&'static str>,
    /// What went wrong; `client_gone` where the client hung up, `cut_off` where the time to drain was over.
    pub error: Option<&'static str>,
    /// Tokens of the prompt.
    pub input_tokens: Option<u64>,
    /// Tokens of the completion.
    pub output_tokens: Option<u64>,
    /// Bytes of the body that went to the client.
    pub bytes: u64,
    /// Time to the first byte of the body.
    pub ttfb: Option<Duration>,
    /// Time to the end.
    pub total: Duration,
}

impl Line<'_> {
    /// Writes the line as JSON, or as text.
    pub fn write(&self, json: bool, out: &mut Vec<u8>) {
        if json {
            self.write_json(out);
        } else {
            // Writing to a Vec does not fail.
            let _ = self.write_text(out);
        }
        out.push(b'\n');
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        let Self {
            timestamp,
            level,
            message,
            id,
            caller,
            dialect,
            model,
            method,
            path,
            status,
            verdict,
            reason,
            key,
            rule,
            stored,
            not_stored,
            upstream,
            retries,
            retry_reason,
            error,
            input_tokens,
            output_tokens,
            bytes,
            ttfb,
            total,
        } = *self;
        let mut object = Object::open(out);
        object.date("timestamp", timestamp);
        object.word("level", level);
        object.word("message", message);
        object.text("call.id", id);
        object.text("caller", caller);
        object.word("dialect", dialect);
        object.text("model", model);
        object.word("http.request.method", method);
        object.text("url.path", path);
        object.value("http.response.status_code", Some(status));
        object.word("cache.verdict", verdict);
        object.word("cache.reason", reason);
        object.word("cache.key", key);
        object.text("rule", rule);
        object.value("cache.stored", stored);
        object.word("cache.not_stored", not_stored);
        object.text("upstream", upstream);
        object.value("retries", retries);
        object.word("retry.reason", retry_reason);
        object.word("error.kind", error);
        object.value("gen_ai.usage.input_tokens", input_tokens);
        object.value("gen_ai.usage.output_tokens", output_tokens);
        object.value("bytes", Some(bytes));
        object.millis("ttfb_ms", ttfb);
        object.millis("total_ms", Some(total));
        object.close();
    }

    fn write_text(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let Self {
            timestamp,
            level,
            message,
            id,
            caller,
            dialect,
            model,
            method,
            path,
            status,
            verdict,
            reason,
            key,
            rule,
            stored,
            not_stored,
            upstream,
            retries,
            retry_reason,
            error,
            input_tokens,
            output_tokens,
            bytes,
            ttfb,
            total,
        } = self;
        date::write(out, *timestamp);
        write!(out, " {level:>5} {message} {method} {path} {status}")?;
        write!(out, " cache.verdict={verdict}")?;
        text(out, "cache.reason", reason.as_ref())?;
        text(out, "cache.key", key.as_ref())?;
        text(out, "rule", rule.as_ref())?;
        text(out, "cache.stored", stored.as_ref())?;
        text(out, "cache.not_stored", not_stored.as_ref())?;
        text(out, "error.kind", error.as_ref())?;
        write!(out, " dialect={dialect}")?;
        text(out, "model", model.map(str::escape_default).as_ref())?;
        text(out, "upstream", upstream.as_ref())?;
        text(out, "retries", retries.as_ref())?;
        text(out, "retry.reason", retry_reason.as_ref())?;
        write!(out, " caller={caller} call.id={id} bytes={bytes}")?;
        text(out, "gen_ai.usage.input_tokens", input_tokens.as_ref())?;
        text(out, "gen_ai.usage.output_tokens", output_tokens.as_ref())?;
        if let Some(ttfb) = ttfb {
            write!(out, " ttfb_ms=")?;
            object::write_millis(out, *ttfb);
        }
        write!(out, " total_ms=")?;
        object::write_millis(out, *total);
        Ok(())
    }
}

fn text(
    out: &mut Vec<u8>,
    name: &str,
    value: Option<&impl std::fmt::Display>,
) -> std::io::Result<()> {
    match value {
        Some(value) => write!(out, " {name}={value}"),
        None => Ok(()),
    }
}
