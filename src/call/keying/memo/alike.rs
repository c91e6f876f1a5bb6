//! Requests that are alike, kept once: most bodies of an app differ in their prompt alone, and what many have in common stays
//! in the processor's cache.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use crate::dialect::chat::request::Request;

/// The requests that came last, each once.
#[derive(Debug, Default)]
pub(super) struct Alike(Mutex<VecDeque<Arc<Request>>>);

impl Alike {
    /// Returns one that is equal to `request`: the one that others have, if there is one.
    pub(super) fn one_of(&self, request: &Arc<Request>) -> Arc<Request> {
        if request.model.len() > LONGEST {
            return request.clone();
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = kept.iter().find(|one| *one == request) {
            return one.clone();
        }
        if kept.len() == MOST {
            kept.pop_front();
        }
        kept.push_back(request.clone());
        request.clone()
    }
}

/// How many are kept: apps use few models, each with few settings.
const MOST: usize = 32;
/// Bytes of the longest name of a model that is kept.
const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(model: &str) -> Arc<Request> {
        Arc::new(Request {
            model: model.to_owned(),
            ..Request::default()
        })
    }

    #[test]
    fn equal_requests_are_one_and_others_are_not() {
        let alike = Alike::default();
        let first = alike.one_of(&request("a"));
        assert!(Arc::ptr_eq(&first, &alike.one_of(&request("a"))));
        let other = Arc::new(Request {
            tools: true,
            ..(*first).clone()
        });
        for request in [request("b"), other] {
            assert_eq!(alike.one_of(&request), request);
        }
        assert!(Arc::ptr_eq(&first, &alike.one_of(&request("a"))));
    }

    #[test]
    fn they_are_few_and_small_whatever_comes() {
        let alike = Alike::default();
        for number in 0..1_000 {
            let request = request(&number.to_string());
            assert_eq!(alike.one_of(&request), request);
        }
        assert_eq!(alike.0.lock().unwrap().len(), MOST);
        let long = request(&"x".repeat(LONGEST + 1));
        assert_eq!(alike.one_of(&long), long);
        assert_eq!(Arc::strong_count(&long), 1);
    }
}
