//! The log in PostgreSQL, used as a log and not as a queue.
//!
//! A cluster is a schema, `pointsman_NAME`, with a row in `head` for each shard and a row in `log`
//! for each record. Appends are one statement: it counts the heads of their shards up and inserts
//! the records at those places. The lock on a head is held until the commit, so that places become
//! visible in their order and no reader ever sees a gap. Readers poll, all of a log in one
//! statement: `NOTIFY` would serialise the commits.
//!
//! It connects to PostgreSQL itself or through a pooler that keeps sessions: what is set for one
//! has to last.

mod appends;
mod beats;
mod durability;
mod pool;
mod reader;
mod schema;
mod session;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use pointsman_schemas::Name;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::Config;
use tokio_postgres::config::{LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::types::Type;

use crate::part::Found;
use crate::{Beats, Cluster, FollowError, Follower, Log, LogError, OpenError, Opened};
use crate::{Place, Probed, Shard, fits};
use appends::Appends;
use pool::{Pool, Purpose};
use reader::Reader;
use session::{Dialer, Session};

/// How many rows one statement of a trim removes: it ends long before its timeout.
const TRIMMED_AT_ONCE: i64 = 1_000;

/// How to reach PostgreSQL.
#[derive(Clone)]
pub struct Options {
    /// A connection URL or string, as `postgres://user:password@host,host/database?sslmode=require`.
    pub url: String,
    /// What TLS is made of. Without it the connection is plain, and refused where the URL asks for
    /// TLS. With it the server's certificate is always verified.
    pub tls: Option<rustls::ClientConfig>,
    /// How long a call may take.
    pub timeout: Duration,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may have a password in it.
        f.debug_struct("Options")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The log of a cluster in PostgreSQL.
pub struct PostgresLog {
    cluster: Cluster,
    timeout: Duration,
    trim: [String; 2],
    beat: String,
    appends: Appends,
    trims: Pool,
    beats: Arc<Pool>,
    /// Reads for all followers, which keep it alive as well.
    reader: Arc<Reader>,
    list_beats: String,
}

impl fmt::Debug for PostgresLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresLog")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl PostgresLog {
    /// Opens the log of a cluster, which is made where it is not there yet.
    ///
    /// Making it takes the right to create a schema in the database, or to create tables in the
    /// schema `pointsman_NAME` where somebody has made that before.
    ///
    /// # Errors
    /// [`OpenError::Settings`] where the URL cannot be read, [`OpenError::Unavailable`] where
    /// PostgreSQL does not answer in time, [`OpenError::Shards`] where the cluster has another
    /// number of shards, [`OpenError::Part`] where the engine keeps another part of it, and
    /// [`OpenError::Refused`] where PostgreSQL refuses or would lose records:
    /// with `fsync` or `synchronous_commit` off, unlogged tables, or a standby.
    pub async fn open(cluster: Cluster, options: Options) -> Result<Opened<Self>, OpenError> {
        let (dialer, session) = dial(&cluster, &options).await?;
        let until = Instant::now() + options.timeout;
        let warnings = session.durability().warnings();
        let schema = schema::name(&cluster);
        let made = timeout_at(until, schema::adopt(&session, &schema, &cluster)).await;
        let unavailable = |_| Err(OpenError::Unavailable(session::NO_ANSWER.to_owned()));
        let Found { part, is_used } = made.unwrap_or_else(unavailable)?;
        let pool = |purpose, size| Pool::new(Arc::clone(&dialer), purpose, size);
        let reading = pool(Purpose::Read, 1);
        let log = Self {
            trim: [
                format!(
                    "UPDATE {schema}.head SET first = least($2, last + 1) \
                     WHERE shard = $1 AND first < least($2, last + 1)"
                ),
                format!(
                    "DELETE FROM {schema}.log WHERE shard = $1 AND place IN (SELECT l.place FROM {schema}.log l \
                     JOIN {schema}.head h USING (shard) WHERE l.shard = $1 AND l.place < h.first \
                     ORDER BY l.place LIMIT {TRIMMED_AT_ONCE})"
                ),
            ],
            beat: format!(
                "INSERT INTO {schema}.beat (node, body) VALUES ($1, $2) ON CONFLICT (node) DO UPDATE \
                 SET number = excluded.number, at = excluded.at, body = excluded.body"
            ),
            list_beats: beats::statement(&schema),
            appends: Appends::start(Arc::clone(&dialer), &schema, options.timeout),
            trims: pool(Purpose::Write, 1),
            beats: Arc::new(pool(Purpose::Write, 2)),
            reader: Reader::start(cluster.clone(), &schema, reading, options.timeout),
            timeout: options.timeout,
            cluster,
        };
        Ok(Opened {
            log,
            part,
            is_used,
            warnings,
        })
    }

    /// Looks whether [`PostgresLog::open`] would succeed, and changes nothing.
    ///
    /// # Errors
    /// As [`PostgresLog::open`].
    pub async fn probe(cluster: Cluster, options: Options) -> Result<Probed, OpenError> {
        let (_, session) = dial(&cluster, &options).await?;
        let schema = schema::name(&cluster);
        let probed = timeout(options.timeout, schema::probe(&session, &schema, &cluster)).await;
        let unavailable = |_| Err(OpenError::Unavailable(session::NO_ANSWER.to_owned()));
        let found = probed.unwrap_or_else(unavailable)?;
        Ok(Probed {
            is_there: found.is_some(),
            part: found.and_then(|found| found.part),
            is_used: found.is_some_and(|found| found.is_used),
            warnings: session.durability().warnings(),
        })
    }

    fn until(&self) -> Instant {
        Instant::now() + self.timeout
    }
}

async fn dial(cluster: &Cluster, options: &Options) -> Result<(Arc<Dialer>, Session), OpenError> {
    let engine = cluster.part().map(|part| part.index + 1);
    let dialer = Dialer::new(
        config(options)?,
        options.tls.clone(),
        options.timeout,
        engine,
    );
    let until = Instant::now() + options.timeout;
    let session = dialer.dial(until).await.map_err(OpenError::from)?;
    Ok((Arc::new(dialer), session))
}

/// Reads the URL, and sets what must not be left to it.
fn config(options: &Options) -> Result<Config, OpenError> {
    // What is wrong with it may be quoted in the error, and a password with it.
    let unreadable = "the URL of PostgreSQL cannot be read; write \
                      postgres://user:password@host:port/database, and percent-encode what is not a \
                      letter or a digit in the password";
    let mut config: Config = options
        .url
        .parse()
        .map_err(|_| OpenError::Settings(unreadable.to_owned()))?;
    if config.get_hosts().is_empty() {
        return Err(OpenError::Settings(
            "the URL of PostgreSQL names no host".to_owned(),
        ));
    }
    match (config.get_ssl_mode(), &options.tls) {
        (SslMode::Disable, _) | (_, Some(_)) => {}
        (SslMode::Prefer, None) => {
            config.ssl_mode(SslMode::Disable);
        }
        _ => {
            return Err(OpenError::Settings(
                "the URL of PostgreSQL asks for TLS, and no certificates to trust are given"
                    .to_owned(),
            ));
        }
    }
    let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
    if hosts > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        // One that accepts and then says nothing uses up a call's time: the next call begins with
        // another.
        config.load_balance_hosts(LoadBalanceHosts::Random);
    }
    if config.get_application_name().is_none() {
        config.application_name("pointsman");
    }
    // A server that has gone without a word is found out in the time that a call may take, which
    // leaves some for the others.
    config
        .connect_timeout(options.timeout / hosts)
        .tcp_user_timeout(options.timeout)
        // It is told in whole seconds, of which none would be refused.
        .keepalives_idle(options.timeout.max(Duration::from_secs(1)));
    Ok(config)
}

#[async_trait]
impl Log for PostgresLog {
    async fn append(&self, shard: Shard, body: Bytes) -> Result<Place, LogError> {
        fits(&body)?;
        self.cluster.check(shard)?;
        self.appends.append(shard, body).await
    }

    fn follow(&self, shard: Shard, after: Place) -> Follower {
        if !self.cluster.has(shard) {
            return stream::iter([Err(FollowError::NoShard(shard))]).boxed();
        }
        self.reader.follow(shard, after)
    }

    async fn trim(&self, shard: Shard, before: Place) -> Result<(), LogError> {
        self.cluster.check(shard)?;
        let (of, until) = (i32::from(shard.0), self.until());
        let before = i64::try_from(before.0).unwrap_or(i64::MAX);
        let [mark, remove] = &self.trim;
        // Nobody reads what is marked: the rows themselves go in parts, without holding up appends.
        let marked = async |session: &Session| {
            let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), _); 2] =
                [(&of, Type::INT4), (&before, Type::INT8)];
            let client = session.client();
            client.execute_typed(mark, &parameters).await
        };
        self.trims.run(until, marked).await?;
        loop {
            // Each part is a call of its own.
            let part = async |session: &Session| {
                let client = session.client();
                client.execute_typed(remove, &[(&of, Type::INT4)]).await
            };
            if self.trims.run(self.until(), part).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn beat(&self, node: &Name, body: Bytes) -> Result<(), LogError> {
        fits(&body)?;
        let beat = async |session: &Session| {
            let statement = &session.prepared(&self.beat).await?;
            let client = session.client();
            client.execute(statement, &[&node.as_str(), &&*body]).await
        };
        self.beats.run(self.until(), beat).await?;
        Ok(())
    }

    fn beats(&self) -> Vec<Beats> {
        vec![beats::listen(
            Arc::clone(&self.beats),
            self.list_beats.clone(),
            self.timeout,
        )]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str, tls: bool) -> Result<Config, OpenError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trusted = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config(&Options {
            url: url.to_owned(),
            tls: tls.then_some(trusted),
            timeout: Duration::from_secs(1),
        })
    }

    #[test]
    fn a_password_is_in_no_error() {
        for url in [
            "postgres://user@host/db?hunter2=1",
            "postgres://user:hunter2@host:port/db",
            "postgres://user:hunter2@/db?connect_timeout=hunter2",
            "host=h password='hunter2",
            "postgres://u:hunter2@host/db?sslmode=require",
            "hunter2",
        ] {
            let Err(error) = of(url, false) else {
                panic!("{url} is read");
            };
            assert!(!format!("{error} {error:?}").contains("ter2"), "{error:?}");
        }
        let options = Options {
            url: "postgres://user:hunter2@host/db".to_owned(),
            tls: None,
            timeout: Duration::from_secs(1),
        };
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn tls_is_as_the_url_says_where_there_is_something_to_trust() {
        let mode = |url, tls| of(url, tls).map(|config| config.get_ssl_mode());
        assert_eq!(mode("postgres://h/d", false).unwrap(), SslMode::Disable);
        assert_eq!(mode("postgres://h/d", true).unwrap(), SslMode::Prefer);
        let require = "postgres://h/d?sslmode=require";
        assert_eq!(mode(require, true).unwrap(), SslMode::Require);
        assert!(mode(require, false).is_err());
    }

    #[test]
    fn of_several_hosts_the_one_that_takes_writes_is_asked_for() {
        let several = of("postgres://a,b/d", false).unwrap();
        assert_eq!(
            several.get_target_session_attrs(),
            TargetSessionAttrs::ReadWrite
        );
    }
}
