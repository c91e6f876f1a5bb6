//! Chat completions: what a request asks ([`request`]) and what an answer says ([`reply`]).

pub mod reply;
pub mod request;
