//! Paths that address an upstream: `/_u/NAME/v1/...`. Pure.
//!
//! # Scope
//! Takes the address off; whether there is such an upstream is decided elsewhere. What is left is the path that is sent, and
//! every rule for paths holds for it.

use http::uri::PathAndQuery;

use crate::error::{Error, Kind};

/// A target that addresses an upstream, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed<'a> {
    /// Name of the upstream, as sent.
    pub name: &'a str,
    /// Path and query that are left.
    pub target: PathAndQuery,
}

impl<'a> Addressed<'a> {
    /// Takes `target` apart; `None` where it addresses nobody.
    ///
    /// # Errors
    /// [`Kind::BadPath`] where what is left is no path.
    pub fn of(target: &'a PathAndQuery) -> Result<Option<Self>, Error> {
        let Some((name, path)) = split(target.path()) else {
            return Ok(None);
        };
        let query = target.query().map(|query| format!("?{query}"));
        let left = format!("{path}{}", query.unwrap_or_default());
        let bad = |_| Error::new(Kind::BadPath, "no path is left behind the upstream's name");
        let target = left.parse().map_err(bad)?;
        Ok(Some(Self { name, target }))
    }
}

/// Returns `path` without the address, if there is one.
pub fn path_of(path: &str) -> &str {
    split(path).map_or(path, |(_, path)| path)
}

/// Returns `target` with the address of the upstream called `name` in front.
pub fn with_name(name: &str, target: &PathAndQuery) -> String {
    format!("{PREFIX}{name}{target}")
}

/// Returns the name in a path that addresses an upstream, and the path that is left.
fn split(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix(PREFIX)?;
    Some(match rest.find('/') {
        Some(end) => rest.split_at(end),
        None => (rest, "/"),
    })
}

/// What an address begins with.
const PREFIX: &str = "/_u/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_taken_off_and_the_rest_stays_as_sent() {
        for (sent, name, left) in [
            ("/_u/azure/v1/models", "azure", "/v1/models"),
            ("/_u/a/v1/x?q=%2F&r", "a", "/v1/x?q=%2F&r"),
            ("/_u/a", "a", "/"),
            ("/_u/a/", "a", "/"),
            ("/_u/a?q", "a", "/?q"),
            ("/_u/a//v1", "a", "//v1"),
            ("/_u/a/_u/b/v1", "a", "/_u/b/v1"),
            ("/_u/../v1", "..", "/v1"),
            ("/_u//v1", "", "/v1"),
        ] {
            let target = PathAndQuery::from_static(sent);
            let addressed = Addressed::of(&target).unwrap().unwrap();
            assert_eq!((addressed.name, addressed.target.as_str()), (name, left));
            assert_eq!(path_of(target.path()), addressed.target.path(), "{sent}");
            let whole = with_name(name, &addressed.target);
            assert_eq!(
                Addressed::of(&whole.parse().unwrap()).unwrap(),
                Some(addressed)
            );
        }
    }

    #[test]
    fn every_other_path_addresses_nobody() {
        for sent in ["/v1/models", "/_u", "/_user/x", "/v1/_u/a", "/", "*"] {
            let target = PathAndQuery::from_static(sent);
            assert_eq!(Addressed::of(&target).unwrap(), None, "{sent}");
            assert_eq!(path_of(sent), sent);
        }
    }
}
