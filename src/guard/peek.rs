//! Looks at the beginning of a stream before any of it goes to the client: as long as it says nothing, another upstream
//! can still take over.
//!
//! # Bounds
//! It waits for at most [`PATIENCE`] and reads as much as [`Opening`] looks at. A stream that has said nothing by then is passed on as
//! it is, comments and all, and so is one whose error is the client's doing: nobody else would answer it better.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use http::{StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, Empty};
use tokio::time::{Instant, timeout_at};

use super::retry::Failure;
use crate::{
    answer::{Answer, Body, Content, Head, resumed::Resumed},
    dialect::{
        is_event_stream,
        opening::{Fault, Opening, Start},
    },
    error::Error,
};

/// What was seen of a stream.
#[derive(Debug)]
pub enum Sight {
    /// It goes on.
    Begun(Answer),
    /// It began with an error, or ended, with nothing said before; the answer is still whole.
    Failed(Failure, Answer),
    /// It broke with nothing said before.
    Broke(Error),
}

/// How a look ended.
enum Look {
    Begun,
    Failed(Failure),
    Broke(Error),
}

/// Looks at the beginning of `answer`, if it is a stream.
pub async fn peek(mut answer: Answer) -> Sight {
    if !is_stream(&answer.head) {
        return Sight::Begun(answer);
    }
    let Body::Stream(mut content) = answer.body else {
        return Sight::Begun(answer);
    };
    let mut read = VecDeque::new();
    let look = look(&mut content, &mut read).await;
    answer.body = Body::Stream(Resumed::new(read, content).boxed_unsync());
    match look {
        Look::Begun => Sight::Begun(answer),
        Look::Failed(failure) => Sight::Failed(failure, answer),
        Look::Broke(error) => Sight::Broke(error),
    }
}

fn is_stream(head: &Head) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE);
    head.status == StatusCode::OK && content_type.is_some_and(is_event_stream)
}

async fn look(content: &mut Content, read: &mut VecDeque<Frame<Bytes>>) -> Look {
    let (until, mut opening) = (Instant::now() + PATIENCE, Opening::new());
    loop {
        let frame = match timeout_at(until, content.frame()).await {
            Err(_) => return Look::Begun,
            Ok(None) => {
                // Nothing was said; and what has ended must not be asked again.
                *content = Empty::new().map_err(|never| match never {}).boxed_unsync();
                return Look::Failed(Failure::Stream);
            }
            Ok(Some(Err(error))) => return Look::Broke(error),
            Ok(Some(Ok(frame))) => frame,
        };
        let start = frame.data_ref().and_then(|data| opening.hear(data));
        read.push_back(frame);
        match start {
            None => {}
            Some(Start::Content | Start::Error(Fault::Client)) => return Look::Begun,
            Some(Start::Error(Fault::Server | Fault::Unknown)) => {
                return Look::Failed(Failure::Stream);
            }
            Some(Start::Error(Fault::Busy)) => return Look::Failed(Failure::Busy),
        }
    }
}

/// Longest time that a stream which says nothing is held back.
pub const PATIENCE: Duration = Duration::from_secs(5);
