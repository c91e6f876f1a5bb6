//! `POST /v1/embeddings`: small vectors, the same for the same text.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{dice::Dice, refusal::Refusal};

/// Answers the call with this body (OpenAI API reference, "Create embeddings").
pub(super) fn answer(body: &[u8]) -> Result<Value, Refusal> {
    let ask: Ask = serde_json::from_slice(body).map_err(|error| Refusal::bad_json(&error))?;
    let dimensions = ask.dimensions.unwrap_or(DIMENSIONS);
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        let message = format!("`dimensions` must be in 1..={MAX_DIMENSIONS}.");
        return Err(Refusal::bad_request(&message));
    }
    let inputs = ask.inputs();
    let tokens: usize = inputs.iter().map(|text| text.len().div_ceil(4)).sum();
    let data: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": ask.form(&vector(text, dimensions))}))
        .collect();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(json!({"object": "list", "data": data, "model": ask.model, "usage": usage}))
}

#[derive(Deserialize)]
struct Ask {
    model: String,
    input: Value,
    dimensions: Option<usize>,
    encoding_format: Option<String>,
}

impl Ask {
    /// Returns the texts: one, or each of a list; tokens (numbers) stand for their own text.
    fn inputs(&self) -> Vec<String> {
        match &self.input {
            Value::Array(items) if !items.iter().any(Value::is_number) => {
                items.iter().map(text).collect()
            }
            one => vec![text(one)],
        }
    }

    /// Returns the vector as it is wanted: the SDKs ask for base64 of little-endian `f32`s.
    fn form(&self, vector: &[f32]) -> Value {
        if self.encoding_format.as_deref() != Some("base64") {
            return json!(vector);
        }
        let bytes: Vec<u8> = vector
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        STANDARD.encode(bytes).into()
    }
}

fn text(input: &Value) -> String {
    input
        .as_str()
        .map_or_else(|| input.to_string(), str::to_owned)
}

/// Makes a vector of length one.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut dice = Dice::of(text, 0);
    let raw: Vec<f32> = (0..dimensions)
        .map(|_| dice.fraction() * 2.0 - 1.0)
        .collect();
    let length = raw.iter().map(|number| number * number).sum::<f32>().sqrt();
    raw.into_iter()
        .map(|number| number / length.max(f32::EPSILON))
        .collect()
}

const DIMENSIONS: usize = 8;
const MAX_DIMENSIONS: usize = 4096;
