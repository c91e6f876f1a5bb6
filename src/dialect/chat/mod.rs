//! Chat completions: what a request asks ([`request`]), what an answer says ([`reply`]), and how one answer is told in
//! each of its forms ([`form`]). Pure.
//!
//! A completion and its stream are two tellings of one thing: [`fold`](mod@fold) makes the former of the latter,
//! [`unfold`](mod@unfold) the latter of the former, and [`strip`](mod@strip) takes the usage out of a stream that is
//! passed to somebody who did not ask for it.

pub mod apology;
mod calls;
pub mod fold;
pub mod form;
mod grown;
mod json;
pub mod reply;
pub mod request;
pub mod strip;
pub mod unfold;

use thiserror::Error;

use self::form::Form;

/// A recording that cannot be told in another form without guessing: it is not what it should be, or is ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the recording cannot be told in another form")]
pub struct Unreadable;

/// Tells a `recording` made in the form `from` in the form `to`. Whether it has what `to` is entitled to is
/// [`Form::lends`]'s business.
pub fn convert(recording: &[u8], from: Form, to: Form) -> Result<Vec<u8>, Unreadable> {
    match (from, to) {
        (Form::Plain, Form::Stream { usage }) => unfold::unfold(recording, usage),
        (Form::Stream { .. }, Form::Plain) => fold::fold(recording),
        (Form::Stream { usage: true }, Form::Stream { usage: false }) => {
            Ok(strip::strip(recording))
        }
        // The same form, or a stream whose usage came unasked.
        _ => Ok(recording.to_vec()),
    }
}
