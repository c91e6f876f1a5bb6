//! Where state belongs that may be lost, but should not be: systemd's directory, else the user's cache.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// Returns the state directory that the environment stands for: the first of `$STATE_DIRECTORY` (systemd.exec(5),
/// "`RuntimeDirectory=`"), else `$XDG_CACHE_HOME/refrain`, else `~/.cache/refrain` (XDG Base Directory Specification, which
/// passes over relative paths). `None` where there is neither.
pub(super) fn directory(variables: &[(OsString, OsString)]) -> Option<PathBuf> {
    let absolute = |name: &str| {
        let (_, value) = variables.iter().find(|(key, _)| key == name)?;
        let first = value.as_bytes().split(|byte| *byte == b':').next()?;
        Some(Path::new(OsStr::from_bytes(first))).filter(|path| path.is_absolute())
    };
    let given = absolute("STATE_DIRECTORY").map(Path::to_owned);
    let of_user = || absolute("XDG_CACHE_HOME").map(|cache| cache.join(NAME));
    let at_home = || absolute("HOME").map(|home| home.join(".cache").join(NAME));
    given.or_else(of_user).or_else(at_home)
}

const NAME: &str = "refrain";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_that_is_named_counts() {
        type Row = (
            &'static [(&'static str, &'static str)],
            Option<&'static str>,
        );
        let table: &[Row] = &[
            (&[], None),
            (&[("HOME", "/home/me")], Some("/home/me/.cache/refrain")),
            (
                &[("HOME", "/home/me"), ("XDG_CACHE_HOME", "/fast")],
                Some("/fast/refrain"),
            ),
            (
                &[
                    ("XDG_CACHE_HOME", "/fast"),
                    ("STATE_DIRECTORY", "/var/lib/refrain"),
                ],
                Some("/var/lib/refrain"),
            ),
            (
                &[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")],
                Some("/var/lib/a"),
            ),
            (
                &[
                    ("STATE_DIRECTORY", ""),
                    ("XDG_CACHE_HOME", "cache"),
                    ("HOME", "/home/me"),
                ],
                Some("/home/me/.cache/refrain"),
            ),
        ];
        for (variables, expected) in table {
            let variables: Vec<_> = variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect();
            let found = directory(&variables);
            assert_eq!(found.as_deref(), expected.map(Path::new), "{variables:?}");
        }
    }
}
