//! The body of an error that Refrain itself answers with, shaped like OpenAI's (API reference, "Error object"). Pure.
//!
//! # Scope
//! Only our own errors are put into it: an upstream's error body travels byte for byte.

use bytes::Bytes;
use serde_json::Value;

/// Returns `{"error": {...}}` with `message` for people, `code` for programs and `param`, what of the request is at
/// fault, if anything is. The `type` is always `refrain_error`, which no upstream says.
pub fn error_body(message: &str, code: &str, param: Option<&str>) -> Bytes {
    let [message, code, param] = [Value::from(message), Value::from(code), Value::from(param)];
    format!(r#"{{"error":{{"message":{message},"type":"refrain_error","param":{param},"code":{code}}}}}"#).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_members_stand_in_the_order_of_the_api_reference() {
        assert_eq!(
            error_body("no connection to `openai`", "upstream_unreachable", None),
            r#"{"error":{"message":"no connection to `openai`","type":"refrain_error","param":null,"code":"upstream_unreachable"}}"#
        );
    }

    proptest! {
        #[test]
        fn whatever_the_texts_say_the_body_parses_back_to_them(
            message in any::<String>(),
            code in any::<String>(),
            param in any::<Option<String>>(),
        ) {
            let body = error_body(&message, &code, param.as_deref());
            let expected = json!({
                "error": {"message": message, "type": "refrain_error", "param": param, "code": code}
            });
            prop_assert_eq!(serde_json::from_slice::<Value>(&body).ok(), Some(expected));
        }
    }
}
