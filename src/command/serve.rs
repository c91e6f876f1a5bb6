//! `refrain serve`: its flags, and the configuration that they lead to.

use clap::Args;

use super::ConfigArgs;
use crate::config::{Config, Flag, Problems};

/// Flags of `refrain serve`; each stands for a setting and counts more than file and environment.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Accept calls on this address, such as 0.0.0.0:8080; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Listen here for /healthz, /readyz and /metrics; `off` for not at all
    #[arg(long, value_name = "ADDR|off")]
    pub admin: Option<String>,
    /// Send calls here: what an SDK would be given as its base URL
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// Write log lines as text or JSON; `auto` is text on a terminal
    #[arg(long, value_name = "FORMAT", value_parser = ["auto", "text", "json"])]
    pub log_format: Option<String>,
    /// Log from this level on: `debug`, or a filter such as `info,refrain=debug`
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl ServeArgs {
    /// Loads the configuration to serve with.
    pub fn config(&self) -> Result<Config, Problems> {
        self.config.load(self.flags())
    }

    /// Returns the flags that were given.
    fn flags(&self) -> Vec<Flag> {
        let one = |value: &Option<String>| value.iter().cloned().collect();
        let flags = [
            ("--listen", "listen", self.listen.clone()),
            ("--admin", "admin.listen", one(&self.admin)),
            ("--upstream", "upstream.base_url", one(&self.upstream)),
            ("--log-format", "log.format", one(&self.log_format)),
            ("--log-level", "log.level", one(&self.log_level)),
        ];
        flags
            .into_iter()
            .filter(|(.., values)| !values.is_empty())
            .map(|(name, key, values)| Flag { name, key, values })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogFormat, Sources};

    #[test]
    fn every_flag_reaches_its_setting() {
        let args = ServeArgs {
            listen: vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
            admin: Some("off".to_owned()),
            upstream: Some("http://localhost:11434".to_owned()),
            log_format: Some("json".to_owned()),
            log_level: Some("debug".to_owned()),
            ..ServeArgs::default()
        };
        let config = Config::load(Sources {
            flags: args.flags(),
            ..Sources::default()
        })
        .unwrap();
        assert_eq!(config.listen, args.listen);
        assert_eq!(config.admin.listen, None);
        assert_eq!(
            config.upstream.base_url.to_string(),
            "http://localhost:11434/v1"
        );
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.log.level, "debug");
    }

    #[test]
    fn a_flag_that_is_not_given_leaves_its_setting_alone() {
        assert_eq!(ServeArgs::default().flags(), []);
    }
}
