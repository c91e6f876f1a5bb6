//! How a connection is made: where to, by which credential, within what time.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
    RedisResult, TlsCertificates, Value,
    aio::{MultiplexedConnection, PubSubStream},
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use tokio::time::timeout;

use super::info::Info;
use crate::{
    config::{Host, Redis, RedisAddress, Servers},
    store::redis::trouble::{Kind, Trouble},
};

/// A new connection, and what the server said of itself.
pub(super) struct Met {
    pub(super) connection: MultiplexedConnection,
    pub(super) info: Info,
}

/// Connects to `host`, or to where the operator or the sentinels say, and sees whether it answers within what a call would
/// wait.
pub(super) async fn meet(redis: &Redis, host: Option<&Host>) -> Result<Met, Trouble> {
    let found = match host {
        Some(host) => host.clone(),
        None => locate(redis).await?,
    };
    let mut connection = connect(redis, &found, Login::Full).await?;
    let ping = Cmd::new().arg("PING").to_owned();
    let replied = within(redis.budget, ping.exec_async(&mut connection)).await;
    replied.map_err(|trouble| tell(trouble, "it replies too slowly for `store.budget`"))?;
    let info = info(redis, &mut connection).await?;
    if info.is_replica {
        return Err(Trouble::new(Kind::Readonly, "it is a replica"));
    }
    Ok(Met { connection, info })
}

/// Listens to `channel` at `host`, or where the operator or the sentinels say.
///
/// What has come and was not looked at yet has no bound: who listens does nothing but pass it on.
pub(super) async fn subscribe(
    redis: &Redis,
    host: Option<&Host>,
    channel: &str,
) -> Result<PubSubStream, Trouble> {
    let found = match host {
        Some(host) => host.clone(),
        None => locate(redis).await?,
    };
    let (client, limit) = (client(redis, &found, Login::Full)?, limit(redis.budget));
    let mut connection = within(limit, client.get_async_pubsub()).await?;
    within(limit, connection.subscribe(channel)).await?;
    Ok(connection.into_on_message())
}

/// Asks `host` one thing, by a connection for that alone.
pub(super) async fn ask_once(redis: &Redis, host: &Host, command: &Cmd) -> Result<Value, Trouble> {
    let mut connection = connect(redis, host, Login::Full).await?;
    within(limit(redis.budget), command.query_async(&mut connection)).await
}

/// Asks a server what it is. Who may not ask goes without.
async fn info(redis: &Redis, connection: &mut MultiplexedConnection) -> Result<Info, Trouble> {
    let mut ask = Cmd::new();
    ask.arg("INFO");
    let told: Result<String, _> = within(limit(redis.budget), ask.query_async(connection)).await;
    match told {
        Ok(text) => Ok(Info::read(&text)),
        Err(trouble) if trouble.kind == Kind::Denied => Ok(Info::default()),
        Err(trouble) => Err(trouble),
    }
}

/// Returns the server to connect to first.
async fn locate(redis: &Redis) -> Result<Host, Trouble> {
    match &redis.address.servers {
        Servers::Single(host) => Ok(host.clone()),
        Servers::Cluster(hosts) => hosts.first().cloned().ok_or_else(nowhere),
        Servers::Sentinel { sentinels, master } => {
            let mut last = nowhere();
            for sentinel in sentinels {
                match master_of(redis, sentinel, master).await {
                    Ok(host) => return Ok(host),
                    Err(trouble) => last = trouble,
                }
            }
            Err(last)
        }
    }
}

/// Asks a sentinel where `master` is. Most sentinels ask for no password, and refuse one; the others are told it.
async fn master_of(redis: &Redis, sentinel: &Host, master: &str) -> Result<Host, Trouble> {
    match ask_sentinel(redis, sentinel, master, Login::None).await {
        Err(trouble) if trouble.kind == Kind::Denied && redis.address.password.is_some() => {
            ask_sentinel(redis, sentinel, master, Login::Credential).await
        }
        told => told,
    }
}

async fn ask_sentinel(
    redis: &Redis,
    sentinel: &Host,
    master: &str,
    login: Login,
) -> Result<Host, Trouble> {
    let mut connection = connect(redis, sentinel, login).await?;
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("get-master-addr-by-name").arg(master);
    let told = ask.query_async(&mut connection);
    let told: Option<(String, u16)> = within(limit(redis.budget), told).await?;
    let (name, port) =
        told.ok_or_else(|| Trouble::new(Kind::Refused, "the sentinel knows no such master"))?;
    Ok(Host { name, port })
}

/// Who Refrain says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    None,
    Credential,
    /// With the number of the database.
    Full,
}

async fn connect(
    redis: &Redis,
    host: &Host,
    login: Login,
) -> Result<MultiplexedConnection, Trouble> {
    let limit = limit(redis.budget);
    let client = client(redis, host, login)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limit))
        .set_response_timeout(Some(MOST_PATIENCE))
        .set_concurrency_limit(CONCURRENCY)
        .set_pipeline_buffer_size(BUFFER);
    let made = client.get_multiplexed_async_connection_with_config(&config);
    // The client's own time-out is meant to end it; a name server that is asked on another thread may not.
    let made = within(limit * 2, made).await;
    // A server that does not speak TLS waits for more of what it takes for a command.
    let doubt = if redis.address.tls {
        ": is TLS spoken at that port?"
    } else {
        ""
    };
    made.map_err(|trouble| tell(trouble, &format!("no connection within {limit:?}{doubt}")))
}

/// Returns how long a connection may take to be made, name, TLS and credential included, where calls wait for `budget`: that
/// are some six round trips, so a server that takes longer is too far for calls, or not there.
fn limit(budget: Duration) -> Duration {
    budget.saturating_mul(10).clamp(LEAST_LIMIT, MOST_LIMIT)
}

/// Says of a time-out what was late.
fn tell(trouble: Trouble, what: &str) -> Trouble {
    match trouble.kind {
        Kind::Timeout => Trouble::new(Kind::Timeout, what),
        _ => trouble,
    }
}

fn client(redis: &Redis, host: &Host, login: Login) -> Result<Client, Trouble> {
    let Host { name, port } = host.clone();
    let address = if redis.address.tls {
        ConnectionAddr::TcpTls {
            host: name,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(name, port)
    };
    let info = address
        .into_connection_info()?
        .set_redis_settings(settings(&redis.address, login))
        .set_tcp_settings(tcp());
    let client = match &redis.ca {
        Some(ca) => Client::build_with_tls(
            info,
            TlsCertificates {
                client_tls: None,
                root_cert: Some(ca.clone()),
            },
        ),
        None => Client::open(info),
    };
    Ok(client?)
}

fn settings(address: &RedisAddress, login: Login) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default().set_lib_name("refrain", VERSION);
    if login == Login::None {
        return settings;
    }
    if let Some(user) = &address.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &address.password {
        settings = settings.set_password(password.expose());
    }
    match login {
        Login::Full => settings.set_db(i64::from(address.database)),
        Login::None | Login::Credential => settings,
    }
}

/// A network that swallows everything is noticed by the system, too.
fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(QUIET)
        .with_interval(USER_TIMEOUT);
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(USER_TIMEOUT);
    settings
}

/// Waits for what Redis is asked, for as long as `patience`.
pub(super) async fn within<T>(
    patience: Duration,
    reply: impl Future<Output = RedisResult<T>>,
) -> Result<T, Trouble> {
    let late = |_| Trouble::new(Kind::Timeout, "no reply in time");
    Ok(timeout(patience, reply).await.map_err(late)??)
}

fn nowhere() -> Trouble {
    Trouble::new(Kind::Away, "no server is known")
}

/// For a connection to be made, however short the budget.
const LEAST_LIMIT: Duration = Duration::from_millis(500);
/// The same, however long it is: whoever looks after all connections waits for it.
const MOST_LIMIT: Duration = Duration::from_secs(2);
/// The longest that anybody may wait for a reply.
pub(super) const MOST_PATIENCE: Duration = Duration::from_secs(2);
/// Asks that are under way at a time, on one connection; more wait, within their patience.
const CONCURRENCY: usize = 1024;
/// Asks that wait to be written, on one connection.
const BUFFER: usize = 128;
/// For what was sent to be acknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(2);
/// After which the system asks whether the other side is still there.
const QUIET: Duration = Duration::from_secs(15);
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_may_take_ten_times_what_a_call_waits_within_reason() {
        for (budget, wanted) in [(1, 500), (50, 500), (100, 1_000), (10_000, 2_000)] {
            let limit = limit(Duration::from_millis(budget));
            assert_eq!(limit.as_millis(), wanted, "a budget of {budget} ms");
        }
    }

    #[test]
    fn a_time_out_says_what_was_late_and_other_trouble_what_it_is() {
        let told = |kind| tell(Trouble::new(kind, "as it was"), "no connection").to_string();
        assert_eq!(told(Kind::Timeout), "no connection");
        assert_eq!(told(Kind::Denied), "as it was");
    }
}
