//! `refrain hash-key`: the hash of a caller's key, for `keys` of `[[caller]]`.

use std::io::{self, Read};

use clap::Args;

use super::{failure::Failure, print};
use crate::{call::key::Hex, config::KeyHash};

/// Arguments of `refrain hash-key`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub struct HashKey {
    /// Make a random key instead of reading one, and print both
    #[arg(long)]
    new: bool,
}

impl HashKey {
    /// Prints the hash of the key that is read, or a new key and its hash.
    pub fn run(self) -> Result<(), Failure> {
        if self.new {
            let key = random()?;
            return print(&format!(
                "key   {key}\nhash  {}\n",
                KeyHash::of(key.as_bytes())
            ));
        }
        print(&format!("{}\n", hash(io::stdin().lock())?))
    }
}

/// Returns the hash of the key in the only line of `input`.
fn hash(input: impl Read) -> Result<KeyHash, Failure> {
    let mut text = String::new();
    let read = input.take(LONGEST + 1).read_to_string(&mut text);
    read.map_err(|error| {
        Failure::new(format!("failed to read a key from standard input: {error}"))
    })?;
    let key = text.trim();
    if key.len() as u64 > LONGEST || key.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(
            Failure::new("this is no key: it could not be sent in a header")
                .hint("a key is one line of visible ASCII without blanks"),
        );
    }
    if key.len() < SHORTEST {
        return Err(Failure::new(format!(
            "a key of {} characters can be guessed from its hash",
            key.len()
        ))
        .hint("`refrain hash-key --new` makes one that cannot"));
    }
    Ok(KeyHash::of(key.as_bytes()))
}

/// Makes a key of 256 random bits.
fn random() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(format!("no random bytes for a key: {error}")))?;
    Ok(format!("sk-refrain-{}", Hex::<64>::of(&bytes).as_str()))
}

/// Longest key that is read, bytes.
const LONGEST: u64 = 4096;
/// A shorter key may be a word, and its hash is no secret.
const SHORTEST: usize = 16;

const EXAMPLES: &str = "\
Examples:
  refrain hash-key --new                a new key for a caller, and its hash for proxy.toml
  printf %s \"$KEY\" | refrain hash-key   the hash of a key that the caller has already";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_end_of_an_editor_is_no_part_of_the_key() {
        let hash_of = |text: &str| hash(text.as_bytes()).unwrap();
        let key = "sk-0123456789abcdef";
        assert_eq!(hash_of(key), KeyHash::of(key.as_bytes()));
        assert_eq!(
            hash_of("sk-0123456789abcdef\r\n"),
            KeyHash::of(key.as_bytes())
        );
    }

    #[test]
    fn what_is_no_good_key_is_refused_and_not_repeated() {
        let long = "canary".repeat(1000);
        for text in [
            "",
            "\n",
            "canary",
            "sk-0123456789 canary",
            "sk-0123456789\ncanary",
            &long,
        ] {
            let failure = hash(text.as_bytes()).unwrap_err().to_string();
            assert!(!failure.contains("canary"), "{failure}");
        }
    }

    #[test]
    fn a_new_key_is_new() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_ne!(one, other);
        assert!(hash(one.as_bytes()).is_ok());
    }
}
