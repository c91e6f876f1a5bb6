//! What becomes of a body on its way out. Pure.

use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use crate::{
    call::{Payload, route, splice},
    error::{Error, Kind},
};

/// Puts `model` in the place of the model that a body names; all other bytes stay as they came.
pub(super) fn renamed(payload: &Payload, model: &str) -> Result<Payload, Error> {
    let Payload::Whole(body) = payload else {
        return Err(unnamed());
    };
    let member = splice::only_member(body, route::MODEL).ok_or_else(unnamed)?;
    let value = Value::from(model).to_string();
    let edited = splice::replace(body, &member.value, value.as_bytes());
    Ok(Payload::Whole(edited.into()))
}

fn unnamed() -> Error {
    Error::new(Kind::Internal, "a model to be renamed is not in its place")
}

/// Writes the length that a body has now: the client's is wrong where something has been cut out.
pub(super) fn measure(headers: &mut HeaderMap, payload: &Payload) {
    if let Payload::Whole(bytes) = payload
        && headers.contains_key(header::CONTENT_LENGTH)
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    }
}
