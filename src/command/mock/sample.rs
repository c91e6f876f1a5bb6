//! A value that fits a JSON Schema: arguments of tool calls, structured outputs.
//!
//! # Scope
//! What SDKs write from typed models: objects, arrays, scalars, `enum`, `const`, unions, `$ref` inside the document.
//! Bounds and patterns are not read.

use serde_json::{Map, Value, json};

/// Makes a value that fits `schema`; its strings carry `mark`.
pub(super) fn sample(schema: &Value, mark: &str) -> Value {
    let mut sampler = Sampler {
        root: schema,
        mark,
        budget: BUDGET,
    };
    sampler.value(schema, "value")
}

struct Sampler<'a> {
    root: &'a Value,
    mark: &'a str,
    /// Values that may still be made: a schema that refers to itself would have no end.
    budget: u32,
}

impl<'a> Sampler<'a> {
    /// Makes the value of the member `name`.
    fn value(&mut self, schema: &'a Value, name: &str) -> Value {
        let Some(budget) = self.budget.checked_sub(1) else {
            return Value::Null;
        };
        self.budget = budget;
        if let Some(fixed) = fixed(schema) {
            return fixed.clone();
        }
        if let Some(other) = self.elsewhere(schema) {
            return self.value(other, name);
        }
        match kind(schema) {
            "object" => self.object(schema),
            "array" => self.array(schema),
            "integer" => json!(7),
            "number" => json!(0.5),
            "boolean" => json!(true),
            "string" => json!(format!("{name} {}", self.mark)),
            _ => Value::Null,
        }
    }

    fn object(&mut self, schema: &'a Value) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let mut members = Map::new();
        for (name, property) in properties.into_iter().flatten() {
            members.insert(name.clone(), self.value(property, name));
        }
        Value::Object(members)
    }

    fn array(&mut self, schema: &'a Value) -> Value {
        let items = schema.get("items");
        items.map_or_else(|| json!([]), |items| json!([self.value(items, "item")]))
    }

    /// Returns the schema that stands in for this one: the target of its `$ref`, or the first of a union.
    fn elsewhere(&self, schema: &'a Value) -> Option<&'a Value> {
        if let Some(target) = schema.get("$ref") {
            return self.root.pointer(target.as_str()?.strip_prefix('#')?);
        }
        let union = ["anyOf", "oneOf", "allOf"]
            .iter()
            .find_map(|name| schema.get(name));
        union?.as_array()?.first()
    }
}

/// Returns the value that the schema leaves no choice about.
fn fixed(schema: &Value) -> Option<&Value> {
    let allowed = schema.get("enum").and_then(Value::as_array);
    schema.get("const").or_else(|| allowed?.first())
}

/// Returns the type, the first of several; a schema with properties is one of an object.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str).unwrap_or("null"),
        _ if schema.get("properties").is_some() => "object",
        _ => "null",
    }
}

/// Most values of one sample; bounds the recursion too.
const BUDGET: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_fits_its_schema() {
        let cases = [
            (json!({"type": "string"}), json!("value m")),
            (json!({"type": ["integer", "null"]}), json!(7)),
            (json!({"enum": ["b", "a"]}), json!("b")),
            (json!({"const": 3}), json!(3)),
            (
                json!({"anyOf": [{"type": "boolean"}, {"type": "null"}]}),
                json!(true),
            ),
            (
                json!({"type": "array", "items": {"type": "number"}}),
                json!([0.5]),
            ),
            (json!({"type": "array"}), json!([])),
            (
                json!({"properties": {"city": {"type": "string"}}}),
                json!({"city": "city m"}),
            ),
            (
                json!({"$defs": {"Day": {"enum": ["monday"]}}, "type": "object",
                       "properties": {"day": {"$ref": "#/$defs/Day"}}}),
                json!({"day": "monday"}),
            ),
            (json!({"$ref": "elsewhere.json"}), Value::Null),
            (Value::Null, Value::Null),
        ];
        for (schema, expected) in cases {
            assert_eq!(sample(&schema, "m"), expected, "{schema}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_has_an_end() {
        let ring = json!({"$ref": "#"});
        assert_eq!(sample(&ring, "m"), Value::Null);
        let tree = json!({"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}});
        assert!(sample(&tree, "m").is_object());
    }
}
