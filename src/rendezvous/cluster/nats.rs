//! NATS JetStream as the directory: a bucket of keys and values.

use std::{
    fmt,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, HeaderMap, HeaderValue, ServerAddr,
    header::{NATS_MARKER_REASON, NATS_MESSAGE_TTL},
    jetstream::{
        self, Context,
        consumer::{DeliverPolicy, push::OrderedConfig},
        kv::Store,
        stream::{self, DiscardPolicy, StorageType},
    },
};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream as streams};

use super::directory::{Change, Changes, Directory, DirectoryError};
use crate::{percent::percent_decoded, words::Words};

/// How long NATS remembers that a key was deleted: many times as long as a watch takes to begin anew.
const MARKERS: Duration = Duration::from_secs(300);
/// The oldest version of nats-server that has what a bucket needs: times to live of keys.
const OLDEST_SERVER: (i64, i64, i64) = (2, 11, 0);
/// The header that marks a key as deleted.
const OPERATION: &str = "KV-Operation";
/// The longest pause before a lost connection is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The interval between pings on the connection.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How to reach NATS, and which bucket is the directory.
#[derive(Clone)]
pub struct NatsConfig {
    servers: Vec<String>,
    bucket: String,
    replicas: usize,
    credentials: Option<String>,
    authority: Option<PathBuf>,
}

/// Shows the configuration without its secrets.
impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("servers", &self.shown_servers())
            .field("bucket", &self.bucket)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

impl NatsConfig {
    /// Creates a configuration with these servers, as in `nats://nats-1.internal:4222`, `nats://user:password@…` or
    /// `tls://…`. The first server that answers is used.
    pub fn new(servers: impl IntoIterator<Item = String>) -> Self {
        Self {
            servers: servers.into_iter().collect(),
            bucket: "websocket-star".to_owned(),
            replicas: 1,
            credentials: None,
            authority: None,
        }
    }

    /// Returns the servers without the user names and passwords in their URLs.
    pub fn shown_servers(&self) -> Vec<String> {
        let shown = |server: &String| match server.rsplit_once('@') {
            Some((before, host)) => {
                let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
                format!("{scheme}://…@{host}")
            }
            None => server.clone(),
        };
        self.servers.iter().map(shown).collect()
    }

    /// Sets the name of the bucket; default `websocket-star`. The bucket is created if it does not exist. All nodes of
    /// a cluster have the same bucket, and no other cluster may have it.
    #[must_use]
    pub fn with_bucket(mut self, bucket: impl Into<String>) -> Self {
        self.bucket = bucket.into();
        self
    }

    /// Sets the number of servers that keep the bucket, if it is created; default 1. With 3, the bucket survives the
    /// loss of one server.
    #[must_use]
    pub fn with_replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas.max(1);
        self
    }

    /// Sets the text of a credentials file (`.creds`).
    #[must_use]
    pub fn with_credentials(mut self, credentials: impl Into<String>) -> Self {
        self.credentials = Some(credentials.into());
        self
    }

    /// Sets a PEM file with the certificates of authorities that may sign for the servers, instead of those that the
    /// system trusts.
    #[must_use]
    pub fn with_authority(mut self, file: impl Into<PathBuf>) -> Self {
        self.authority = Some(file.into());
        self
    }
}

/// A bucket of NATS JetStream as the [`Directory`] of a cluster. It needs nats-server 2.11 or newer.
pub struct NatsDirectory {
    client: Client,
    context: Context,
    config: NatsConfig,
    /// Whether it was logged that the bucket is less safe than it might be.
    warned: AtomicBool,
}

impl fmt::Debug for NatsDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsDirectory")
            .field("servers", &self.config.shown_servers())
            .field("bucket", &self.config.bucket)
            .finish_non_exhaustive()
    }
}

fn unreachable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DirectoryError {
    DirectoryError::Unreachable(error.into())
}

impl NatsDirectory {
    /// Connects, and creates the bucket if it does not exist.
    ///
    /// # Errors
    /// If no server answers, if the server is too old or refuses the connection, or if the bucket cannot be used for
    /// this.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection. A bucket that was created stays.
    pub async fn connect(config: NatsConfig) -> Result<Self, DirectoryError> {
        let mut options = ConnectOptions::new()
            .ping_interval(PING_INTERVAL)
            .reconnect_delay_callback(|attempts| {
                let pause = Duration::from_millis(50).saturating_mul(1 << attempts.min(8));
                pause.min(LONGEST_PAUSE)
            });
        let mut servers = Vec::new();
        for server in &config.servers {
            // The parser's error is dropped, because it would show the URL with its password.
            let server = server.parse::<ServerAddr>().map_err(|_| {
                let shown = config.shown_servers().join(", ");
                DirectoryError::Unusable(format!("not all of these are valid server URLs: {shown}"))
            })?;
            servers.push(server);
        }
        let with_user = servers.iter().find_map(|server| {
            let (user, password) = (server.username()?, server.password()?);
            Some((percent_decoded(user)?, percent_decoded(password)?))
        });
        if let Some((user, password)) = with_user {
            options = options.user_and_password(user, password);
        }
        if let Some(credentials) = &config.credentials {
            let with = options.credentials(credentials);
            options = with.map_err(|error| {
                DirectoryError::Unusable(format!("the credentials cannot be read: {error}"))
            })?;
        }
        if let Some(authority) = &config.authority {
            options = options.add_root_certificates(authority.clone());
        }
        let client = options.connect(servers).await.map_err(unreachable)?;
        let (major, minor, patch) = OLDEST_SERVER;
        if !client.is_server_compatible(major, minor, patch) {
            let version = client.server_info().version;
            return Err(DirectoryError::Unusable(format!(
                "nats-server {version} is too old: {major}.{minor} or newer is needed"
            )));
        }
        let directory = Self {
            context: jetstream::new(client.clone()),
            client,
            config,
            warned: AtomicBool::new(false),
        };
        directory.bucket().await?;
        Ok(directory)
    }

    /// Returns the bucket. Creates it if it does not exist.
    async fn bucket(&self) -> Result<Store, DirectoryError> {
        let name = &self.config.bucket;
        let found = self.context.get_key_value(name).await;
        let bucket = match found {
            Ok(bucket) => bucket,
            Err(_) => {
                let made = self.context.create_stream(self.stream());
                made.await.map_err(unreachable)?;
                let made = self.context.get_key_value(name).await;
                made.map_err(unreachable)?
            }
        };
        let config = &bucket.stream.cached_info().config;
        if !config.allow_message_ttl {
            return Err(DirectoryError::Unusable(format!(
                "the bucket `{name}` does not allow messages with a time to live (`allow_msg_ttl`)"
            )));
        }
        if config.allow_rollup && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                bucket = %Words(name),
                "every user that may write into the bucket may also empty it (`allow_rollup_hdrs`): this server did not create the bucket"
            );
        }
        Ok(bucket)
    }

    /// Returns the configuration of the bucket as a stream of NATS. The bucket is created as a stream, because the
    /// key-value API would create one that each user may empty.
    fn stream(&self) -> stream::Config {
        let name = &self.config.bucket;
        stream::Config {
            name: format!("KV_{name}"),
            subjects: vec![format!("$KV.{name}.>")],
            description: Some("peers of a libp2p-websocket-star cluster".to_owned()),
            max_messages_per_subject: 1,
            storage: StorageType::File,
            num_replicas: self.config.replicas,
            discard: DiscardPolicy::New,
            allow_direct: true,
            allow_message_ttl: true,
            deny_delete: true,
            ..stream::Config::default()
        }
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.config.bucket)
    }
}

impl Directory for NatsDirectory {
    fn watch(&self) -> BoxFuture<'_, Result<Changes, DirectoryError>> {
        async {
            let bucket = self.bucket().await?;
            let prefix = bucket.prefix.clone();
            let config = OrderedConfig {
                deliver_subject: self.client.new_inbox(),
                description: Some("a node of a libp2p-websocket-star cluster".to_owned()),
                filter_subject: format!("{prefix}>"),
                deliver_policy: DeliverPolicy::LastPerSubject,
                ..OrderedConfig::default()
            };
            let consumer = bucket.stream.create_consumer(config).await;
            let consumer = consumer.map_err(unreachable)?;
            let is_current = consumer.cached_info().num_pending == 0;
            let messages = consumer.messages().await.map_err(unreachable)?;
            let mut listing = !is_current;
            let first = streams::iter(is_current.then_some(Ok(Change::Current)));
            let changes = messages.flat_map(move |message| {
                let told = match message {
                    Err(error) => vec![Err(unreachable(error))],
                    Ok(message) => {
                        let is_last = message.info().is_ok_and(|info| info.pending == 0);
                        let change = change(&prefix, &message.message);
                        let current = (listing && is_last).then(|| {
                            listing = false;
                            Change::Current
                        });
                        change.into_iter().chain(current).map(Ok).collect()
                    }
                };
                streams::iter(told)
            });
            Ok(first.chain(changes).boxed())
        }
        .boxed()
    }

    fn put(
        &self,
        key: String,
        value: Bytes,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), DirectoryError>> {
        let mut headers = HeaderMap::new();
        if let Some(time) = time_to_live {
            headers.insert(NATS_MESSAGE_TTL, HeaderValue::from(time.as_secs().max(1)));
        }
        self.publish(key, headers, value).boxed()
    }

    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), DirectoryError>> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, HeaderValue::from("DEL"));
        headers.insert(NATS_MESSAGE_TTL, HeaderValue::from(MARKERS.as_secs()));
        self.publish(key, headers, Bytes::new()).boxed()
    }
}

impl NatsDirectory {
    async fn publish(
        &self,
        key: String,
        headers: HeaderMap,
        value: Bytes,
    ) -> Result<(), DirectoryError> {
        let subject = self.subject(&key);
        let published = self.context.publish_with_headers(subject, headers, value);
        let acknowledged = published.await.map_err(unreachable)?;
        acknowledged.await.map_err(unreachable)?;
        Ok(())
    }
}

/// Returns the change that a message of the bucket reports.
fn change(prefix: &str, message: &async_nats::Message) -> Option<Change> {
    let key = message.subject.strip_prefix(prefix)?.to_owned();
    let headers = message.headers.as_ref();
    let is_deleted = headers.is_some_and(|headers| {
        headers.get(OPERATION).is_some() || headers.get(NATS_MARKER_REASON).is_some()
    });
    Some(match is_deleted {
        true => Change::Deleted { key },
        false => Change::Put {
            key,
            value: message.payload.clone(),
        },
    })
}
