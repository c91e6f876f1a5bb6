//! `refrain check`: says everything that is wrong with a configuration, or that nothing is.

use std::io::Write;

use clap::Args;

use super::ConfigArgs;
use crate::config::{PROXY_TOML, Store, Upstream};

/// Arguments of `refrain check`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print a file with every setting at its default, explained, and check nothing
    #[arg(long)]
    print: bool,
}

impl Check {
    /// Checks what `refrain serve` would run with, the environment included, and says so in one line on `out`, below what
    /// can hardly be meant.
    ///
    /// Fails with the configuration's [`Problems`](crate::config::Problems), or if `out` cannot be written.
    pub fn run(self, out: &mut impl Write) -> anyhow::Result<()> {
        if self.print {
            out.write_all(PROXY_TOML.as_bytes())?;
            return Ok(());
        }
        let config = self.config.load(Vec::new())?;
        let source = match &self.config.config {
            Some(path) => format!("{} is fine", path.display()),
            None => "the configuration is fine, without a file".to_owned(),
        };
        for warning in &config.warnings {
            writeln!(out, "{warning}")?;
        }
        writeln!(
            out,
            "{source}: listens on {}, calls {}, keeps answers in {}",
            config.listen.join(" and "),
            upstreams(&config.upstreams),
            place(&config.store)
        )?;
        Ok(())
    }
}

/// Returns the address of the one upstream, or the names and addresses of several, in the order of the file.
fn upstreams(upstreams: &[Upstream]) -> String {
    match upstreams {
        [only] => only.base_url.to_string(),
        several => {
            let named = several.iter();
            let named = named.map(|Upstream { name, base_url, .. }| format!("{name} ({base_url})"));
            named.collect::<Vec<_>>().join(", ")
        }
    }
}

/// Returns where answers are kept, without the credential.
fn place(store: &Store) -> String {
    match (&store.redis, &store.disk) {
        (Some(redis), _) => redis.address.to_string(),
        (None, Some(disk)) => disk.path.display().to_string(),
        (None, None) => "memory alone".to_owned(),
    }
}

const EXAMPLES: &str = "\
Examples:
  refrain check --config proxy.toml      exits with 0, or with 78 if anything is wrong
  refrain check --print > proxy.toml     a file to start from";

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::NamedTempFile;

    use super::*;
    use crate::config::Problems;

    fn check(content: &str) -> (String, anyhow::Result<()>) {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let check = Check {
            config: ConfigArgs {
                config: Some(file.path().to_owned()),
            },
            print: false,
        };
        let mut out = Vec::new();
        let result = check.run(&mut out);
        let name = file.path().display().to_string();
        (
            String::from_utf8(out).unwrap().replace(&name, "FILE"),
            result,
        )
    }

    #[test]
    fn a_fine_file_is_told_in_one_line() {
        let (told, result) = check("listen = ['127.0.0.1:1', '[::1]:1']\nstore.path = 'off'\n");
        assert!(result.is_ok());
        insta::assert_snapshot!(told, @"FILE is fine: listens on 127.0.0.1:1 and [::1]:1, calls https://api.openai.com/v1, keeps answers in memory alone");
    }

    #[test]
    fn several_upstreams_are_told_by_name() {
        let one = |name: &str| {
            format!(
                "[[upstream]]\nname = '{name}'\nbase_url = 'http://{name}.test/v1'\napi_key = 'sk-{name}-0123456789'\n"
            )
        };
        let (told, result) = check(&["store.path = '/x/y.db'\n", &one("a"), &one("b")].concat());
        assert!(result.is_ok());
        insta::assert_snapshot!(told, @"FILE is fine: listens on 127.0.0.1:8080, calls a (http://a.test/v1), b (http://b.test/v1), keeps answers in /x/y.db");
    }

    #[test]
    fn a_redis_is_told_without_its_password() {
        let (told, result) = check("store.redis = 'redis://u:canary@h/1'\n");
        assert!(result.is_ok());
        assert!(
            told.ends_with(", keeps answers in redis://h:6379/1\n"),
            "{told}"
        );
        assert!(!told.contains("canary"), "{told}");
    }

    #[test]
    fn what_can_hardly_be_meant_is_told_and_fine() {
        let (told, result) = check("[cache]\nscope = 'header:x-tenant'\n[store]\npath = 'off'\n");
        assert!(result.is_ok());
        insta::assert_snapshot!(told, @r"
        warning: FILE:2:9: cache.scope: `header:x-tenant` without a `[[caller]]`: whoever the upstream accepts can name any tenant and read its entries
          hint: name the callers, or let something in front of Refrain set the value
        FILE is fine: listens on 127.0.0.1:8080, calls https://api.openai.com/v1, keeps answers in memory alone
        ");
    }

    #[test]
    fn a_file_with_problems_fails_with_them_and_says_nothing_else() {
        let (told, result) = check("lisen = 1\n[cache]\nttl = 1\n");
        assert_eq!(told, "");
        let error = result.unwrap_err();
        assert_eq!(error.downcast_ref::<Problems>().unwrap().iter().count(), 2);
    }

    #[test]
    fn the_printed_file_is_fine() {
        let mut out = Vec::new();
        let print = Check {
            print: true,
            ..Check::default()
        };
        print.run(&mut out).unwrap();
        let (_, result) = check(std::str::from_utf8(&out).unwrap());
        assert!(result.is_ok());
    }
}
