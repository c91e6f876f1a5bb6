//! The lengths of a few header names: most headers of a request are told apart from all of them by that alone. Pure.

/// The lengths of a set of names; from 63 on, they count as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lengths(u64);

impl Lengths {
    /// Returns the lengths of `names`.
    pub(super) const fn of(mut names: &[&str]) -> Self {
        let mut lengths = 0;
        while let [name, rest @ ..] = names {
            lengths |= bit(name);
            names = rest;
        }
        Self(lengths)
    }

    /// Returns whether one of the names is as long as `name`; if not, `name` is none of them.
    pub(super) const fn have(self, name: &str) -> bool {
        self.0 & bit(name) != 0
    }
}

const fn bit(name: &str) -> u64 {
    1 << if name.len() < 63 { name.len() } else { 63 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_of_the_set_is_never_ruled_out(names in prop::collection::vec("[a-z-]{0,80}", 0..8)) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let lengths = Lengths::of(&names);
            prop_assert!(names.iter().all(|name| lengths.have(name)));
        }
    }

    #[test]
    fn a_name_of_another_length_is_ruled_out() {
        let lengths = Lengths::of(&["cookie", "api-key"]);
        assert!(lengths.have("accept") && lengths.have("api-key"));
        assert!(!lengths.have("authorization") && !lengths.have(""));
        assert!(!Lengths::of(&[]).have(&"x".repeat(100)));
    }
}
