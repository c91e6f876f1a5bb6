//! `[store] redis`: where Redis is, as clients write it, and what Refrain says to it first.
//!
//! # Scope
//! An address is read whole or refused; nothing is resolved or connected to here. Passwords are shown by nothing, and no
//! complaint repeats an address, which may hold one.

use std::{fmt, time::Duration};

use serde::{
    Deserializer,
    de::{Error, Visitor},
};

use super::{
    address,
    problem::Complaint,
    secret::{ApiKey, Environment},
};

/// The Redis tier of `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// Where it is.
    pub address: RedisAddress,
    /// What the names of all keys begin with.
    pub prefix: String,
    /// The certificates that its own has to lead to, PEM; `None` for those of the system.
    pub ca: Option<Vec<u8>>,
    /// For all that a call may wait for it.
    pub budget: Duration,
}

/// Where Redis is, and who Refrain is to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAddress {
    /// Whether TLS is spoken, to the sentinels, too.
    pub tls: bool,
    /// The ACL user; `None` for the default user.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Password>,
    /// The servers.
    pub servers: Servers,
    /// The number of the database; 0 in a cluster.
    pub database: u32,
}

/// How many servers there are, and what they are to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// One.
    Single(Host),
    /// Those of a cluster; at least two of them, which know the others.
    Cluster(Vec<Host>),
    /// One at a time: sentinels know which.
    Sentinel {
        /// The sentinels; at least one.
        sentinels: Vec<Host>,
        /// What they call it.
        master: String,
    },
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// A name or an address, without brackets.
    pub name: String,
    /// The port.
    pub port: u16,
}

/// A password. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl RedisAddress {
    /// Reads what the operator wrote; nothing for none.
    ///
    /// The whole may be a variable; a variable inside stands for itself, so that a password in it needs no percent-encoding.
    pub(super) fn read(text: &str, env: &Environment) -> Result<Option<Self>, Complaint> {
        if text.is_empty() {
            return Ok(None);
        }
        if text.starts_with("${") {
            let (filled, _) = env.fill(text)?;
            return Self::parse(&filled, &Environment::default()).map(Some);
        }
        Self::parse(text, env).map(Some)
    }

    fn parse(text: &str, env: &Environment) -> Result<Self, Complaint> {
        let (scheme, rest) = text.split_once("://").ok_or_else(no_scheme)?;
        let (tls, by_sentinels) = scheme_of(scheme)?;
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (user, password) = login.map_or(Ok((None, None)), |login| credential(login, env))?;
        let (place, _) = env.fill(place)?;
        if place.contains(['?', '#']) {
            return Err(Complaint::new(
                "has a query or a fragment",
                "leave it out: `?` and `#` can stand in a password before `@` only",
            ));
        }
        let (hosts, path) = place.split_once('/').unwrap_or((&place, ""));
        let (servers, database) = if by_sentinels {
            sentinel(hosts, path)?
        } else {
            plain(hosts, path)?
        };
        Ok(Self {
            tls,
            user,
            password,
            servers,
            database,
        })
    }
}

impl Password {
    /// Returns the password, to be sent to Redis and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Without user and password.
impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss" } else { "redis" })?;
        match &self.servers {
            Servers::Single(host) => write!(f, "://{host}")?,
            Servers::Cluster(hosts) => write!(f, "://{}", listed(hosts))?,
            Servers::Sentinel { sentinels, master } => {
                write!(f, "+sentinel://{}/{master}", listed(sentinels))?;
            }
        }
        match self.database {
            0 => Ok(()),
            database => write!(f, "/{database}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') {
            write!(f, "[{name}]:{port}")
        } else {
            write!(f, "{name}:{port}")
        }
    }
}

/// Reads an address as it was written; several servers are one text.
pub(super) fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ApiKey, D::Error> {
    struct Reading;

    impl Visitor<'_> for Reading {
        type Value = ApiKey;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("one text: `redis://host:6379`, or `redis://a:7000,b:7001` for a cluster")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<ApiKey, E> {
            Ok(ApiKey::written(text))
        }
    }

    deserializer.deserialize_str(Reading)
}

fn listed(hosts: &[Host]) -> String {
    let hosts: Vec<_> = hosts.iter().map(Host::to_string).collect();
    hosts.join(",")
}

/// Returns whether a scheme means TLS, and whether sentinels.
fn scheme_of(scheme: &str) -> Result<(bool, bool), Complaint> {
    let scheme = scheme.to_ascii_lowercase();
    let (base, by_sentinels) = match scheme.strip_suffix("+sentinel") {
        Some(base) => (base, true),
        None => (scheme.as_str(), false),
    };
    match base {
        "redis" => Ok((false, by_sentinels)),
        "rediss" => Ok((true, by_sentinels)),
        _ => Err(no_scheme()),
    }
}

fn credential(
    login: &str,
    env: &Environment,
) -> Result<(Option<String>, Option<Password>), Complaint> {
    let Some((user, password)) = login.split_once(':') else {
        return Err(Complaint::new(
            "names a user without a password",
            "write `user:password@`, or `:password@` for the default user",
        ));
    };
    let (user, password) = (piece(user, env)?, piece(password, env)?);
    if password.is_empty() {
        return Err(Complaint::new(
            "has an empty password",
            "leave `user:password@` out where none is asked for",
        ));
    }
    Ok(((!user.is_empty()).then_some(user), Some(Password(password))))
}

/// Reads a user or a password: percent-encoded, or with variables, which stand for themselves.
fn piece(text: &str, env: &Environment) -> Result<String, Complaint> {
    if text.contains("${") {
        return env.fill(text).map(|(filled, _)| filled);
    }
    let malformed = || {
        Complaint::new(
            "has a `%` in user or password that is no percent-encoding",
            "write `%25` for `%` itself",
        )
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    decoded.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2).ok_or_else(malformed)?;
        let is_hex = code.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = u8::from_str_radix(code, 16).ok().filter(|_| is_hex);
        decoded.push(byte.ok_or_else(malformed)?);
        decoded.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(decoded).map_err(|_| malformed())
}

fn plain(hosts: &str, path: &str) -> Result<(Servers, u32), Complaint> {
    let mut hosts = read_hosts(hosts, REDIS_PORT)?;
    let database = database(path)?;
    if hosts.len() > 1 {
        if database != 0 {
            return Err(Complaint::new(
                "names a database of a cluster, which has but one",
                "leave the number out; `store.prefix` keeps several users of a cluster apart",
            ));
        }
        return Ok((Servers::Cluster(hosts), 0));
    }
    let host = hosts.pop().ok_or_else(no_host)?;
    Ok((Servers::Single(host), database))
}

fn sentinel(hosts: &str, path: &str) -> Result<(Servers, u32), Complaint> {
    let sentinels = read_hosts(hosts, SENTINEL_PORT)?;
    let (master, number) = path.split_once('/').unwrap_or((path, ""));
    let is_name = !master.is_empty() && master.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_name {
        return Err(Complaint::new(
            "does not say what the sentinels call the master",
            "end it with `/NAME`, such as `redis+sentinel://host:26379/mymaster`",
        ));
    }
    let master = master.to_owned();
    Ok((Servers::Sentinel { sentinels, master }, database(number)?))
}

fn read_hosts(text: &str, port: u16) -> Result<Vec<Host>, Complaint> {
    text.split(',').map(|text| read_host(text, port)).collect()
}

fn read_host(text: &str, default: u16) -> Result<Host, Complaint> {
    let port = port(text)?;
    let name = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']').map(|(name, _)| name),
        None => text.split(':').next(),
    };
    Ok(Host {
        name: name.ok_or_else(no_host)?.to_owned(),
        port: port.unwrap_or(default),
    })
}

/// Returns the port of a host, if it names one.
fn port(text: &str) -> Result<Option<u16>, Complaint> {
    if let Ok(port) = address::port_of(text)
        && port != Some(0)
    {
        return Ok(port);
    }
    let host = text.rsplit_once(':').map(|(host, _)| host);
    let is_host = host.is_some_and(|host| address::port_of(host) == Ok(None));
    Err(if is_host { no_port() } else { no_host() })
}

fn database(path: &str) -> Result<u32, Complaint> {
    let is_number = path.bytes().all(|byte| byte.is_ascii_digit());
    match path {
        "" => Ok(0),
        path => path.parse().ok().filter(|_| is_number).ok_or_else(|| {
            Complaint::new(
                "ends with what is no number of a database",
                "write such as `redis://host:6379/0`, or leave the number out",
            )
        }),
    }
}

fn no_scheme() -> Complaint {
    Complaint::new(
        "is no address of a Redis",
        "write `redis://`, `rediss://` for TLS, `redis+sentinel://` or `rediss+sentinel://` before the host",
    )
}

fn no_port() -> Complaint {
    Complaint::new(
        "names a port that is none",
        "write a number from 1 to 65535 behind the `:`, or leave both out",
    )
}

fn no_host() -> Complaint {
    Complaint::new(
        "names no host that could be called",
        "write `host` or `host:port` after the scheme, several with `,` between them; a password ends with `@`",
    )
}

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RedisAddress, Complaint> {
        let env = Environment::of(&[
            ("PASSWORD".into(), "p@/%:canary".into()),
            ("HOST".into(), "from.env:1".into()),
            ("URL".into(), "rediss://:can%61ry@h".into()),
        ]);
        RedisAddress::read(text, &env).map(|address| address.unwrap())
    }

    #[test]
    fn an_address_is_read_as_clients_write_it() {
        for (text, shown, user, password) in [
            ("redis://h", "redis://h:6379", None, None),
            ("redis://h:1/", "redis://h:1", None, None),
            ("REDISS://h:1/3", "rediss://h:1/3", None, None),
            ("redis://127.0.0.1", "redis://127.0.0.1:6379", None, None),
            ("redis://[::1]:7/2", "redis://[::1]:7/2", None, None),
            ("redis://:canary@h", "redis://h:6379", None, Some("canary")),
            (
                "redis://:c@/#?:%25x@h",
                "redis://h:6379",
                None,
                Some("c@/#?:%x"),
            ),
            (
                "redis://u:c%40%2f%25@h",
                "redis://h:6379",
                Some("u"),
                Some("c@/%"),
            ),
            (
                "redis://u:${PASSWORD}@${HOST}/1",
                "redis://from.env:1/1",
                Some("u"),
                Some("p@/%:canary"),
            ),
            ("${URL}", "rediss://h:6379", None, Some("canary")),
            ("redis://a:1,b", "redis://a:1,b:6379", None, None),
            (
                "redis+sentinel://:x@a,b:2/main/4",
                "redis+sentinel://a:26379,b:2/main/4",
                None,
                Some("x"),
            ),
            (
                "rediss+sentinel://a/main",
                "rediss+sentinel://a:26379/main",
                None,
                None,
            ),
        ] {
            let address = read(text).unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(address.user.as_deref(), user, "{text}");
            let read = address.password.as_ref().map(Password::expose);
            assert_eq!(read, password, "{text}");
            assert!(!format!("{address:?}").contains("canary"), "{text}");
        }
        assert_eq!(RedisAddress::read("", &Environment::default()), Ok(None));
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for (text, what) in [
            ("canary", "is no address of a Redis"),
            ("http://canary", "is no address of a Redis"),
            ("redis+http://canary", "is no address of a Redis"),
            ("redis://", "names no host that could be called"),
            ("redis://canary:x", "names a port that is none"),
            ("redis://canary:99999", "names a port that is none"),
            ("redis://[::1]:x", "names a port that is none"),
            ("redis://canary:0", "names a port that is none"),
            ("redis://:can/ary@", "names no host that could be called"),
            ("redis://a,,canary", "names no host that could be called"),
            ("redis://:canary/1", "names no host that could be called"),
            ("redis://canary@h", "names a user without a password"),
            ("redis://canary:@h", "has an empty password"),
            (
                "redis://:canary%4@h",
                "has a `%` in user or password that is no percent-encoding",
            ),
            (
                "redis://:canary%+1@h",
                "has a `%` in user or password that is no percent-encoding",
            ),
            (
                "redis://:canary%ff@h",
                "has a `%` in user or password that is no percent-encoding",
            ),
            (
                "redis://h/canary",
                "ends with what is no number of a database",
            ),
            ("redis://h/+1", "ends with what is no number of a database"),
            (
                "redis://a,canary/1",
                "names a database of a cluster, which has but one",
            ),
            ("redis://h/0?canary=1", "has a query or a fragment"),
            (
                "redis+sentinel://canary",
                "does not say what the sentinels call the master",
            ),
            (
                "redis://:${NONE}@canary",
                "the environment has no variable `NONE`, or an empty one",
            ),
        ] {
            let complaint = read(text).unwrap_err();
            assert_eq!(complaint.what, what, "{text}");
            assert!(!format!("{complaint:?}").contains("canary"), "{text}");
        }
    }
}
