//! The two forms of a chat completion: one object, or a stream of chunks.

use std::fmt;

use serde_json::{Map, Value, json};

use super::{
    dice::Dice,
    reply::Piece,
    say::{Said, ToolCall},
};

/// A completion before it takes a form.
pub(super) struct Completion {
    /// Fresh id, `chatcmpl-…`.
    pub(super) id: String,
    /// When it was made, Unix seconds.
    pub(super) created: u64,
    /// The model's name, as asked for.
    pub(super) model: String,
    /// Length of the prompt, tokens.
    pub(super) prompt_tokens: usize,
    /// Alternatives per token, if log probabilities are wanted.
    pub(super) logprobs: Option<usize>,
    /// The choices.
    pub(super) choices: Vec<Said>,
}

impl Completion {
    /// Returns the object "chat completion" (OpenAI API reference).
    pub(super) fn to_json(&self) -> Value {
        let choices = self.choices.iter().enumerate();
        let choices: Vec<_> = choices
            .map(|(index, said)| self.choice(index, said))
            .collect();
        let mut object = self.head("chat.completion");
        object.insert("choices".into(), choices.into());
        object.insert("usage".into(), self.usage());
        Value::Object(object)
    }

    /// Returns the events of a stream, choices interleaved, `data: [DONE]` at the end (OpenAI API reference, "chat
    /// completion chunk").
    pub(super) fn to_events(&self, include_usage: bool) -> Vec<Piece> {
        let mut events = Vec::new();
        let usage = include_usage.then_some(Value::Null);
        let parts: Vec<_> = self.choices.iter().map(|said| self.deltas(said)).collect();
        let longest = parts.iter().map(Vec::len).max().unwrap_or_default();
        for round in 0..longest {
            let mut waits = round > 0;
            for (index, parts) in parts.iter().enumerate() {
                let Some((delta, logprobs)) = parts.get(round) else {
                    continue;
                };
                let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": null});
                events.push(self.chunk(json!([choice]), usage.clone()).paced(waits));
                // The choices are made side by side: only the first of a round takes time.
                waits = false;
            }
        }
        for (index, said) in self.choices.iter().enumerate() {
            let reason = said.finish_reason();
            let choice =
                json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": reason});
            events.push(self.chunk(json!([choice]), usage.clone()));
        }
        if include_usage {
            events.push(self.chunk(json!([]), Some(self.usage())));
        }
        events.push(event("[DONE]"));
        events
    }

    fn choice(&self, index: usize, said: &Said) -> Value {
        let (message, logprobs) = match said {
            Said::Text { tokens, .. } => {
                let content = tokens.concat();
                let message = json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
                (message, self.logprobs(tokens))
            }
            Said::Calls(calls) => {
                let calls: Vec<_> = calls.iter().map(ToolCall::to_json).collect();
                let message = json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": calls});
                (message, Value::Null)
            }
        };
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": said.finish_reason()})
    }

    /// Returns the deltas of a choice, each with its log probabilities; the first names the role.
    fn deltas(&self, said: &Said) -> Vec<(Value, Value)> {
        match said {
            Said::Text { tokens, .. } => {
                let role = json!({"role": "assistant", "content": "", "refusal": null});
                let pieces = tokens.iter().map(|token| {
                    let logprobs = self.logprobs(std::slice::from_ref(token));
                    (json!({"content": token}), logprobs)
                });
                std::iter::once((role, Value::Null)).chain(pieces).collect()
            }
            Said::Calls(calls) => {
                let role = json!({"role": "assistant", "content": null, "refusal": null});
                let pieces = calls
                    .iter()
                    .enumerate()
                    .flat_map(|(index, call)| call.deltas(index));
                std::iter::once(role)
                    .chain(pieces)
                    .map(|delta| (delta, Value::Null))
                    .collect()
            }
        }
    }

    fn chunk(&self, choices: Value, usage: Option<Value>) -> Piece {
        let mut chunk = self.head("chat.completion.chunk");
        chunk.insert("choices".into(), choices);
        if let Some(usage) = usage {
            chunk.insert("usage".into(), usage);
        }
        event(Value::Object(chunk))
    }

    fn head(&self, object: &str) -> Map<String, Value> {
        [
            ("id", json!(self.id)),
            ("object", json!(object)),
            ("created", json!(self.created)),
            ("model", json!(self.model)),
            ("service_tier", json!("default")),
            ("system_fingerprint", json!("fp_mock")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
    }

    fn usage(&self) -> Value {
        let completion: usize = self.choices.iter().map(Said::tokens).sum();
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        })
    }

    fn logprobs(&self, tokens: &[String]) -> Value {
        let Some(alternatives) = self.logprobs else {
            return Value::Null;
        };
        let content: Vec<_> = tokens
            .iter()
            .map(|token| logprob(token, alternatives))
            .collect();
        json!({"content": content, "refusal": null})
    }
}

impl ToolCall {
    fn to_json(&self) -> Value {
        let function = json!({"name": self.name, "arguments": self.arguments.concat()});
        json!({"id": self.id, "type": "function", "function": function})
    }

    /// Returns the deltas of the call at `index`: the name first, then the arguments in fragments.
    fn deltas(&self, index: usize) -> Vec<Value> {
        let function = json!({"name": self.name, "arguments": ""});
        let opening =
            json!({"index": index, "id": self.id, "type": "function", "function": function});
        let fragment = |piece| json!({"index": index, "function": {"arguments": piece}});
        let calls = std::iter::once(opening).chain(self.arguments.iter().map(fragment));
        calls.map(|call| json!({"tool_calls": [call]})).collect()
    }
}

/// Returns a plausible log probability of `token`: a likely one, and less likely others.
fn logprob(token: &str, alternatives: usize) -> Value {
    let mut dice = Dice::of(token, 0);
    let likely = -dice.fraction();
    let others = (1..alternatives)
        .map(|rank| scored(&format!(" other{rank}"), likely - 1.0 - dice.fraction()));
    let top = std::iter::once(scored(token, likely)).chain(others);
    let top: Vec<_> = top.take(alternatives).collect();
    json!({"token": token, "logprob": likely, "bytes": token.as_bytes(), "top_logprobs": top})
}

fn scored(token: &str, logprob: f32) -> Value {
    json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()})
}

/// Returns one server-sent event.
fn event(data: impl fmt::Display) -> Piece {
    Piece::new(format!("data: {data}\n\n"))
}
