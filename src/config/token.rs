//! The operator's token: compared by its digest, shown by nothing.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{
    problem::Complaint,
    secret::{ApiKey, Environment},
};

/// A token that opens the admin listener.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    digest: [u8; 32],
    text: ApiKey,
}

impl Token {
    /// Returns the token that is meant: `${NAME}` stands for a variable, nothing for none.
    pub(super) fn resolved(written: ApiKey, env: &Environment) -> Result<Option<Self>, Complaint> {
        written.resolved(env)?.map(Self::check).transpose()
    }

    fn check(key: ApiKey) -> Result<Self, Complaint> {
        let text = key.expose();
        if text.len() < LEAST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Complaint::new(
                "is no token",
                format!(
                    "expected at least {LEAST} visible ASCII characters, such as `openssl rand -hex 32` prints"
                ),
            ));
        }
        Ok(Self {
            digest: Sha256::digest(text).into(),
            text: key,
        })
    }

    /// Returns the token, to be sent to the admin listener that it opens and nowhere else.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// Returns whether `presented` is the token. How long that takes says nothing about it: digests are compared, and
    /// each to its end.
    pub fn is(&self, presented: &[u8]) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        let pairs = self.digest.iter().zip(presented);
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

    fn token(text: &str) -> Result<Option<Token>, Complaint> {
        Token::resolved(ApiKey::written(text), &Environment::default())
    }

    #[test]
    fn only_the_token_itself_is_it() {
        let token = token("0123456789abcdef").unwrap().unwrap();
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
            assert!(token(text).is_err(), "{text}");
        }
        assert_eq!(token(""), Ok(None));
    }
}
