//! What a session and an operation cost in the operator's own store.
//!
//! Samples have random ids and a subject of their own; nothing else is read, written or removed. They are removed at the end,
//! and go by themselves if that does not happen. An embedded store is measured in a file beside it, on the same disk, so that
//! it need not be stopped.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use futures_util::future::try_join_all;
use serde::Serialize;
use shared::{
    id::{SessionId, SubjectId},
    time::Timestamp,
};

use crate::{
    config::{self, StoreUrl},
    shell,
    store::{AnyStore, Key, StoreError},
};

/// Sessions that are written.
const SESSIONS: usize = 2_000;
const SESSIONS_PER_SUBJECT: usize = 2;

/// Calls at once where CPU is measured, as from many callers; and calls one after another where latency is.
const AT_ONCE: usize = 32;
const ONE_BY_ONE: usize = 200;

/// Keys of each kind whose size is asked for.
const SIZES: usize = 100;

/// For so long the store is watched before it is given work: what others do then is not counted.
const WATCHED: Duration = Duration::from_millis(500);

/// The measurement is given up after the first, and what is left of it is gone after the second.
const PATIENCE: Duration = Duration::from_secs(120);
const LIFETIME: Duration = Duration::from_secs(300);

/// What Redis does not count into a key: the entry of its lifetime, and its places in both tables.
const KEY_EXTRA_BYTES: f64 = 40.0;

/// What a sample begins with, for whoever comes across one.
const MARKING: &[u8] = b"portcullis plan --measure ";

/// No operation is free, whatever the clock of the server says.
const CPU_MICROS_MIN: f64 = 0.1;

/// The figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Measured {
    /// The store, without its password.
    pub(super) store: String,
    pub(super) sessions_written: usize,
    /// With everything that belongs to a session; none if the store may not be asked.
    pub(super) session_bytes: Option<u64>,
    pub(super) read: Operation,
    pub(super) swap: Operation,
}

/// One kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Operation {
    /// The median, one after another.
    pub(super) latency_micros: f64,
    /// Of the store, with many at once; none if the store may not be asked.
    pub(super) cpu_micros: Option<f64>,
}

/// Measures with records of so many bytes.
///
/// # Errors
///
/// The store cannot be opened or fails, or the samples cannot be removed.
pub(super) async fn measure(config: &config::Store, record_bytes: u64) -> anyhow::Result<Measured> {
    let (mut opened, name) = (config.clone(), config.url.to_string());
    // Removed when it goes out of scope, after the store in it was closed.
    let beside = config.url.expose().strip_prefix("embedded:").map(|path| Beside::make(path.as_ref())).transpose()?;
    if let Some(beside) = &beside {
        opened.url = StoreUrl::from(format!("embedded:{}", beside.0.join("store.db").display()));
    }
    let store = AnyStore::open(&opened).await.with_context(|| format!("cannot open the store {name}"))?;
    let samples = Samples::new(usize::try_from(record_bytes)?)?;
    let measured = tokio::select! {
        measured = samples.measure(&store, name) => measured.context("the measurement failed"),
        () = tokio::time::sleep(PATIENCE) => Err(anyhow!("the store is too slow to be measured")),
        _ = tokio::signal::ctrl_c() => Err(anyhow!("the measurement was interrupted")),
    };
    let removed = samples.remove(&store).await;
    let measured = measured?;
    let minutes = LIFETIME.as_secs() / 60;
    removed
        .with_context(|| format!("samples are left in the store; they go by themselves within {minutes} minutes"))?;
    Ok(measured)
}

/// A folder beside an embedded store.
struct Beside(PathBuf);

impl Beside {
    fn make(path: &Path) -> anyhow::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".measure-{:016x}", u128::from_be_bytes(shell::random()?) >> 64));
        let folder = PathBuf::from(name);
        fs::create_dir(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It holds nothing of worth, and its name says what it is.
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Sample {
    session: SessionId,
    key: Key,
    subject: SubjectId,
}

/// Records, and two values that each may have.
struct Samples {
    all: Vec<Sample>,
    first: Vec<u8>,
    second: Vec<u8>,
    expires_at: Timestamp,
}

impl Samples {
    fn new(record_bytes: usize) -> anyhow::Result<Self> {
        let run = u128::from_be_bytes(shell::random()?);
        let sample = |number: usize| {
            let session = SessionId::from_random(shell::random()?);
            let subject = format!("portcullis-plan-measure-{run:032x}-{}", number / SESSIONS_PER_SUBJECT).parse()?;
            anyhow::Ok(Sample { session, key: Key::Session(session), subject })
        };
        let value = |fill: u8| {
            let mut value = MARKING.to_vec();
            value.resize(record_bytes, fill);
            value
        };
        Ok(Self {
            all: (0..SESSIONS).map(sample).collect::<Result<_, _>>()?,
            first: value(b'1'),
            second: value(b'2'),
            expires_at: shell::now().saturating_add(LIFETIME),
        })
    }

    async fn measure(&self, store: &AnyStore, name: String) -> Result<Measured, StoreError> {
        let before = store.usage().await?;
        let until = Some(self.expires_at);
        at_once(&self.all, async |sample| {
            store.swap(&sample.key, None, &self.first, until).await?;
            store.index_add(&sample.subject, &sample.session, self.expires_at).await
        })
        .await?;
        let after = store.usage().await?;
        let grown = before.bytes.zip(after.bytes).map(|(before, after)| after.saturating_sub(before) as f64);
        let per_session = match self.size_told(store).await? {
            Some(told) => Some(told),
            None => grown.map(|grown| grown / SESSIONS as f64),
        };
        let swap = async |sample: &Sample, old: &[u8], new: &[u8]| {
            store.swap(&sample.key, Some(old), new, until).await.map(drop)
        };
        let read = async |sample: &Sample| store.load(&sample.key).await.map(drop);
        let swap_cpu =
            cpu_micros(store, at_once(&self.all, async |sample| swap(sample, &self.first, &self.second).await)).await?;
        let read_cpu = cpu_micros(store, at_once(&self.all, read)).await?;
        let swap_latency =
            latency_micros(&self.all, async |sample| swap(sample, &self.second, &self.first).await).await?;
        let read_latency = latency_micros(&self.all, read).await?;
        Ok(Measured {
            store: name,
            sessions_written: SESSIONS,
            session_bytes: per_session.map(|bytes| bytes.ceil() as u64),
            read: Operation { latency_micros: read_latency, cpu_micros: read_cpu },
            swap: Operation { latency_micros: swap_latency, cpu_micros: swap_cpu },
        })
    }

    /// A session and its part of a subject, as the store tells.
    async fn size_told(&self, store: &AnyStore) -> Result<Option<f64>, StoreError> {
        let (mut bytes, mut asked) = (0.0, 0.0);
        for sample in self.all.iter().step_by(SESSIONS / SIZES) {
            let subject = Key::Subject(sample.subject.clone());
            let (session, subject) = (store.size_of(&sample.key).await?, store.size_of(&subject).await?);
            let (Some(session), Some(subject)) = (session, subject) else { return Ok(None) };
            let subject = (subject as f64 + KEY_EXTRA_BYTES) / SESSIONS_PER_SUBJECT as f64;
            bytes += session as f64 + KEY_EXTRA_BYTES + subject;
            asked += 1.0;
        }
        Ok(Some(bytes / asked))
    }

    /// A value whose time was over when it was written is gone when it is next looked at.
    async fn remove(&self, store: &AnyStore) -> Result<(), StoreError> {
        let over = Some(Timestamp::from_millis(1));
        at_once(&self.all, async |sample| {
            store.index_remove(&sample.subject, &sample.session).await?;
            if let Some(held) = store.load(&sample.key).await? {
                store.swap(&sample.key, Some(&held), MARKING, over).await?;
                store.load(&sample.key).await?;
            }
            Ok(())
        })
        .await
    }
}

/// Calls for every sample, many at a time.
async fn at_once(samples: &[Sample], call: impl AsyncFn(&Sample) -> Result<(), StoreError>) -> Result<(), StoreError> {
    for batch in samples.chunks(AT_ONCE) {
        try_join_all(batch.iter().map(|sample| call(sample))).await?;
    }
    Ok(())
}

/// CPU of the store per sample, less what it spends anyway.
async fn cpu_micros(
    store: &AnyStore,
    work: impl Future<Output = Result<(), StoreError>>,
) -> Result<Option<f64>, StoreError> {
    let mut readings = vec![(store.usage().await?.processor, Instant::now())];
    tokio::time::sleep(WATCHED).await;
    readings.push((store.usage().await?.processor, Instant::now()));
    work.await?;
    readings.push((store.usage().await?.processor, Instant::now()));
    let [(Some(a), from), (Some(b), began), (Some(c), ended)] = readings[..] else { return Ok(None) };
    let idle = b.saturating_sub(a).as_secs_f64() / (began - from).as_secs_f64();
    let busy = c.saturating_sub(b).as_secs_f64() - idle * (ended - began).as_secs_f64();
    Ok(Some((busy * 1e6 / SESSIONS as f64).max(CPU_MICROS_MIN)))
}

/// The median of calls one after another.
async fn latency_micros(
    samples: &[Sample],
    call: impl AsyncFn(&Sample) -> Result<(), StoreError>,
) -> Result<f64, StoreError> {
    let mut took = Vec::with_capacity(ONE_BY_ONE);
    for sample in samples.iter().take(ONE_BY_ONE) {
        let started = Instant::now();
        call(sample).await?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    Ok(took.get(took.len() / 2).map_or(0.0, |median| median.as_secs_f64() * 1e6))
}
