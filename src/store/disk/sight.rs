//! What a file is by its first bytes, before anything is done to it. Pure.
//!
//! The header of a database: "The `SQLite` Database File Format", §1.3.

/// What a file seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Nothing yet.
    Empty,
    /// A database with our mark.
    Ours,
    /// A database of another program.
    Foreign,
    /// No database, or what is left of one.
    Rubbish,
}

/// Bytes of a file that tell what it is.
pub(super) const HEAD: usize = 72;

/// "RFRN": marks a database as ours.
pub(super) const APPLICATION: u32 = 0x5246_524e;

/// Returns what a file is that begins with `head`: [`HEAD`] bytes, or the whole of a shorter one.
pub(super) fn sight(head: &[u8]) -> Sight {
    if head.is_empty() {
        return Sight::Empty;
    }
    let mark = head.get(MARK..).and_then(|rest| rest.first_chunk());
    match mark {
        Some(mark) if head.starts_with(MAGIC) => {
            if u32::from_be_bytes(*mark) == APPLICATION {
                Sight::Ours
            } else {
                Sight::Foreign
            }
        }
        _ => Sight::Rubbish,
    }
}

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Where the mark stands.
const MARK: usize = HEAD - 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_magic_and_its_mark() {
        let head = |mark: u32| {
            let mut head = MAGIC.to_vec();
            head.resize(MARK, 0);
            head.extend(mark.to_be_bytes());
            head
        };
        let ours = head(APPLICATION);
        for (head, expected, why) in [
            (&b""[..], Sight::Empty, "a file just made"),
            (&ours, Sight::Ours, "our mark"),
            (&head(0), Sight::Foreign, "no mark"),
            (&head(7), Sight::Foreign, "another mark"),
            (&ours[..HEAD - 1], Sight::Rubbish, "cut off"),
            (&ours[1..], Sight::Rubbish, "another magic"),
            (b"my notes", Sight::Rubbish, "a text"),
        ] {
            assert_eq!(sight(head), expected, "{why}");
        }
    }
}
