//! What a server says of itself, as far as it matters here. Pure.

/// What `INFO` tells; nothing where it may not be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// Whether it takes no writes of clients.
    pub(super) is_replica: bool,
    /// Whether it is a node of a cluster.
    pub(super) in_cluster: bool,
    /// What it does when it is full.
    pub(super) policy: Option<String>,
    /// Of which Redis it is, or which it takes itself for.
    pub(super) version: Option<(u32, u32)>,
}

impl Info {
    /// Reads what `INFO` replied.
    pub(super) fn read(text: &str) -> Self {
        let field = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        Self {
            is_replica: field("role") == Some("slave"),
            in_cluster: field("cluster_enabled") == Some("1"),
            policy: field("maxmemory_policy").map(str::to_owned),
            version: field("redis_version").and_then(version),
        }
    }

    /// Returns whether it lacks commands that replicas need to agree (`ZADD` with `GT`).
    pub(super) fn is_too_old(&self) -> bool {
        self.version.is_some_and(|version| version < OLDEST)
    }

    /// Returns the policy, if it lets keys go that are to stay: those of purges, which have no expiry.
    pub(super) fn careless_policy(&self) -> Option<&str> {
        let policy = self.policy.as_deref()?;
        let is_careful = policy == "noeviction" || policy.starts_with("volatile-");
        (!is_careful).then_some(policy)
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// The oldest Redis that has all that is asked of it. Valkey takes itself for Redis 7.2.
const OLDEST: (u32, u32) = (6, 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_what_it_is() {
        let text = "# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n\r\n# Replication\r\nrole:slave\r\n# Cluster\r\ncluster_enabled:1\r\n";
        let info = Info::read(text);
        assert!(info.is_replica && info.in_cluster);
        assert_eq!(info.careless_policy(), Some("allkeys-lru"));
        assert_eq!(
            Info::read("role:master\r\ncluster_enabled:0"),
            Info::default()
        );
        assert_eq!(Info::read(""), Info::default());
    }

    #[test]
    fn a_server_without_what_replicas_need_is_too_old() {
        for (version, old) in [
            ("6.2.0", false),
            ("7.0.15", false),
            ("7.2.4", false),
            ("10.0.0", false),
            ("6.0.16", true),
            ("5.0.14", true),
            ("255.255.255", false),
            ("unstable", false),
            ("", false),
        ] {
            let info = Info::read(&format!("redis_version:{version}\r\n"));
            assert_eq!(info.is_too_old(), old, "{version}");
        }
    }

    #[test]
    fn only_a_policy_that_spares_what_has_no_expiry_is_careful() {
        for (policy, careful) in [
            ("noeviction", true),
            ("volatile-lru", true),
            ("volatile-ttl", true),
            ("allkeys-lfu", false),
            ("allkeys-random", false),
        ] {
            let info = Info::read(&format!("maxmemory_policy:{policy}"));
            assert_eq!(info.careless_policy().is_none(), careful, "{policy}");
        }
    }
}
