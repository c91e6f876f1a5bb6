//! The operator's token: known by its digest alone, so that it can be shown nowhere.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{
    problem::Complaint,
    secret::{ApiKey, Environment},
};

/// A token that opens the admin listener.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// Returns the token that is meant: `${NAME}` stands for a variable, nothing for none.
    pub(super) fn resolved(written: ApiKey, env: &Environment) -> Result<Option<Self>, Complaint> {
        let token = written.resolved(env)?;
        Self::check(token.as_ref().map_or("", ApiKey::expose))
    }

    fn check(text: &str) -> Result<Option<Self>, Complaint> {
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() < LEAST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Complaint::new(
                "is no token",
                format!(
                    "expected at least {LEAST} visible ASCII characters, such as `openssl rand -hex 32` prints"
                ),
            ));
        }
        Ok(Some(Self(Sha256::digest(text).into())))
    }

    /// Returns whether `presented` is the token. How long that takes says nothing about it: digests are compared, and
    /// each to its end.
    pub fn is(&self, presented: &[u8]) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        let pairs = self.0.iter().zip(presented);
        pairs.fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Fewest characters: they are typed once, and guessed for ever.
const LEAST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_is_it() {
        let token = Token::check("0123456789abcdef").unwrap().unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for other in [
            "",
            "0123456789abcde",
            "0123456789abcdef ",
            "0123456789ABCDEF",
        ] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn a_short_token_or_one_with_blanks_is_refused() {
        for text in ["short", "0123456789 abcdef", "0123456789abcd\u{e9}f"] {
            assert!(Token::check(text).is_err(), "{text}");
        }
        assert_eq!(Token::check(""), Ok(None));
    }
}
