//! Patterns as rules have them: `*` stands for any text, `?` for any one character, everything else for itself. Pure.

use std::fmt;

/// A pattern for a whole text, letter case included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Returns the pattern that `text` spells; any text spells one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns whether the whole of `text` is as the pattern says. Takes at most the product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut text) = (self.0.chars(), text.chars());
        // What follows the last star, and where the text goes on if that star stands for one character more.
        let mut again = None;
        loop {
            let here = text.clone();
            match (pattern.next(), text.next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    text = here;
                    again = Some((pattern.clone(), text.clone()));
                }
                (Some('?'), Some(_)) => {}
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => {
                    let Some((after, rest)) = &mut again else {
                        return false;
                    };
                    if rest.next().is_none() {
                        return false;
                    }
                    (pattern, text) = (after.clone(), rest.clone());
                }
            }
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).matches(text)
    }

    /// The same by its definition, exponential in the stars.
    fn by_definition(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=text.len()).any(|at| by_definition(rest, &text[at..])),
            (['?', pattern @ ..], [_, text @ ..]) => by_definition(pattern, text),
            ([wanted, pattern @ ..], [found, text @ ..]) => {
                wanted == found && by_definition(pattern, text)
            }
            _ => false,
        }
    }

    #[test]
    fn stars_stand_for_texts_and_question_marks_for_characters() {
        for (pattern, text, expected) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "GPT-4o", false),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-4*", "gpt-4", true),
            ("gpt-4*", "gpt-4o-mini", true),
            ("*-mini", "gpt-4o-mini", true),
            ("*-mini", "gpt-4o-mini-2025", false),
            ("g*4*i", "gpt-4o-mini", true),
            ("*", "", true),
            ("?*", "", false),
            ("?", "ß", true),
            ("??", "ß", false),
            ("/v1/*/completions", "/v1/chat/completions", true),
            ("a*b*c", "abbbc-abc", true),
            ("a*b*c", "abbb", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_many_lifetimes() {
        let pattern = format!("{}b", "a*".repeat(1_000));
        assert!(!matches(&pattern, &"a".repeat(10_000)));
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_its_definition_says(pattern in "[ab*?ß]{0,8}", text in "[abß]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), by_definition(&chars(&pattern), &chars(&text)));
        }
    }
}
