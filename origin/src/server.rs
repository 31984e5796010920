//! Puts the parts together and runs them until told to stop.
//!
//! Start: store → keys → floors from the log and from hubs → listen. Stop: no new connections, requests in flight finish within the
//! drain time, then the tasks of the feed end.

mod lanes;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    apikeys::ApiKeys,
    audit,
    config::{
        Config,
        secrets::{MasterKey, Secrets},
    },
    feed::{self, Feed},
    http::{self, Administration, AppParts, OAuthMetadata},
    idempotency::Answers,
    keys::{AnswerSealer, Keys},
    service::{Service, lifetimes::LOOK_EVERY},
    shell,
    store::{self, AnyStore, StoreError},
    telemetry::metrics::{self, Metrics},
    transfer,
};

/// How many heartbeats may be missed before the process is not ready.
const READY_HEARTBEATS: u32 = 5;

/// Histograms are folded this often, so that memory stays bounded when nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// An origin that listens, with its tasks.
pub struct Server {
    address: SocketAddr,
    feed_key: String,
    stop: watch::Sender<bool>,
    stop_feed: watch::Sender<bool>,
    feed: Arc<Feed>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    tasks: JoinSet<()>,
    drain: Duration,
    farewell: Duration,
}

impl Server {
    /// Opens the store, makes or opens the keys, reads the floors and listens.
    ///
    /// # Errors
    ///
    /// What failed, with its causes, for a person to read; never a secret.
    pub async fn start(config: Config, secrets: Secrets) -> anyhow::Result<Self> {
        let metrics = Metrics::install();
        metrics::start_hubs_at_zero(config.hubs.iter().map(|hub| hub.name.as_str()));
        let store = open_store(&config).await?;
        let keys = open_keys(&store, &config, &secrets.master_key).await?;
        let feed_key = keys.current().feed().public_text();
        let feed =
            Feed::load(Arc::clone(&store), Arc::clone(&keys), &config).await.context("cannot read the floor log")?;
        feed::rejoin(&feed, &config).await?;
        feed.follow(Duration::ZERO).await.context("cannot read the floor log")?;
        let service = Service::new(Arc::clone(&store), Arc::clone(&keys), Arc::clone(&feed), &config, &secrets)?;
        let service = Arc::new(service);
        service.note_lifetimes(shell::now()).await.context("cannot note how long tokens live")?;
        let parts = AppParts {
            service: Arc::clone(&service),
            feed: Arc::clone(&feed),
            keys,
            metadata: OAuthMetadata::new(config.issuer(), &config.server.public_url),
            management_key: secrets.management_key,
            metrics: metrics.clone(),
            in_flight: Semaphore::new(usize::try_from(config.limits.requests_concurrent)?),
            request_timeout: config.limits.request_timeout(),
            ready_age_max: config.feed.heartbeat().saturating_mul(READY_HEARTBEATS),
        };

        let (trail, audit_writer) = audit::trail(&store, Duration::from_secs(config.limits.audit_s));
        let administration = Administration {
            api_keys: ApiKeys::new(Arc::clone(&store)),
            answers: Answers::new(Arc::clone(&store), AnswerSealer::new(&secrets.master_key), &config.limits),
            trail,
        };
        let router = http::router(parts, administration, &config)?;
        let listener = TcpListener::bind(config.server.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.server.listen))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let (stop_feed, feed_stopped) = watch::channel(false);
        let mut tasks = spawn_tasks(Arc::clone(&feed), &config, metrics, &feed_stopped)?;
        tasks.spawn(audit_writer.run());
        tasks.spawn(store::watch::run(store.as_ref().clone(), feed_stopped.clone()));
        tasks.spawn(keep_lifetimes_noted(service, feed_stopped.clone()));
        let serving = tokio::spawn(lanes::serve(listener, router, stopped));
        tracing::info!(event = "sys_startup", %address, store = %config.store.url, hubs = config.hubs.len());
        // Reading the log and two pushes to each hub, side by side.
        let farewell = config.store.timeout().saturating_add(config.feed.push_timeout().saturating_mul(2));
        Ok(Self { address, feed_key, stop, stop_feed, feed, serving, tasks, drain: config.server.drain(), farewell })
    }

    /// The address that it listens on, with the port that was taken if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The public key that hubs and gates pin: 43 characters of base64url.
    pub fn feed_key(&self) -> &str {
        &self.feed_key
    }

    /// Stops: no new requests, those in flight have the drain time to finish; then the hubs hear of what they raised.
    pub async fn stop(mut self) {
        tracing::info!(event = "sys_shutdown", drain_ms = self.drain.as_millis());
        self.stop.send_replace(true);
        if tokio::time::timeout(self.drain, &mut self.serving).await.is_err() {
            tracing::warn!(event = "sys_shutdown", reason = "requests were still in flight after the drain time");
            self.serving.abort();
        }
        let last = async {
            let _ = self.feed.follow(Duration::ZERO).await;
            self.stop_feed.send_replace(true);
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(self.farewell, last).await.is_err() {
            tracing::warn!(event = "sys_shutdown", reason = "the store or a hub did not answer to the last");
        }
        self.tasks.shutdown().await;
    }

    /// Runs until SIGTERM or SIGINT, then stops.
    ///
    /// # Errors
    ///
    /// The signals cannot be listened for, or the listener failed.
    pub async fn run(mut self) -> anyhow::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            ended = &mut self.serving => return ended?.context("the listener failed"),
        }
        self.stop().await;
        Ok(())
    }
}

/// Opens the store that the configuration names.
///
/// # Errors
///
/// The store cannot be reached, is not one that keeps what it acknowledges, or holds a part of an import.
pub async fn open_store(config: &Config) -> anyhow::Result<Arc<AnyStore>> {
    let open = async {
        let store = AnyStore::open(&config.store).await?;
        transfer::check_not_importing(&store).await?;
        Ok::<_, StoreError>(Arc::new(store))
    };
    open.await.with_context(|| format!("cannot open the store {}", config.store.url))
}

/// Opens the signing keys, made now if there are none.
///
/// # Errors
///
/// The store does not answer, or the keys were sealed with another master key.
pub async fn open_keys(store: &Arc<AnyStore>, config: &Config, master_key: &MasterKey) -> anyhow::Result<Arc<Keys>> {
    let keys = Keys::open(Arc::clone(store), master_key, config, shell::now()).await;
    keys.context("cannot open the signing keys")
}

async fn keep_lifetimes_noted(service: Arc<Service>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        service.gauge_caches();
        if let Err(error) = service.note_lifetimes(shell::now()).await {
            tracing::warn!(event = "lifetimes_not_noted", reason = %error);
        }
    }
}

fn spawn_tasks(
    feed: Arc<Feed>,
    config: &Config,
    metrics: Metrics,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    feed::spawn(&mut tasks, feed, config, stopped)?;
    let mut stopped = stopped.clone();
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => metrics.upkeep(),
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    });
    Ok(tasks)
}
