//! A sieve for header names: a few are looked for in every request, and most that come are none of them. Pure.

/// Rules most names out that are not in a set, by their length, first and last letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sieve(u64);

impl Sieve {
    /// Makes the sieve of `names`.
    pub(super) const fn of(mut names: &[&str]) -> Self {
        let mut marks = 0;
        while let [name, rest @ ..] = names {
            marks |= mark(name);
            names = rest;
        }
        Self(marks)
    }

    /// Returns whether `name` may be in the set; if not, it is not.
    pub(super) const fn keeps(self, name: &str) -> bool {
        self.0 & mark(name) != 0
    }
}

/// Returns one of 64 marks; equal names have the same.
const fn mark(name: &str) -> u64 {
    match name.as_bytes() {
        [first, .., last] => 1 << ((name.len() + 5 * *first as usize + 9 * *last as usize) % 64),
        [only] => 1 << (*only % 64),
        [] => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_of_the_set_is_never_ruled_out(names in prop::collection::vec("[a-z-]{1,80}", 0..8)) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let sieve = Sieve::of(&names);
            prop_assert!(names.iter().all(|name| sieve.keeps(name)));
        }
    }

    #[test]
    fn most_other_names_are_ruled_out() {
        let sieve = Sieve::of(&["cookie", "api-key"]);
        assert!(sieve.keeps("cookie") && sieve.keeps("api-key"));
        let others = [
            "accept",
            "host",
            "content-type",
            "user-agent",
            "x-stainless-os",
            "",
        ];
        assert!(others.iter().all(|name| !sieve.keeps(name)));
        assert!(!Sieve::of(&[]).keeps("cookie"));
    }
}
