//! The processor time that a program and the server of its store took.

use std::time::{Duration, Instant};

use crate::{process::Process, redis::Redis};

/// One figure per round.
#[derive(Default)]
pub(super) struct Samples {
    /// Microseconds of the program per request.
    pub(super) program: Vec<f64>,
    /// Microseconds of the server of the store per request.
    pub(super) store: Vec<f64>,
    /// Requests a second.
    pub(super) rate: Vec<f64>,
}

impl Samples {
    /// Microseconds of both per request.
    pub(super) fn both(&self) -> Vec<f64> {
        if self.store.is_empty() {
            return self.program.clone();
        }
        self.program.iter().zip(&self.store).map(|(program, store)| program + store).collect()
    }
}

/// What was taken when something began.
pub(super) struct Meter<'a> {
    process: &'a Process,
    redis: Option<&'a Redis>,
    taken: (Duration, Option<Duration>),
    began: Instant,
}

impl<'a> Meter<'a> {
    /// Begins.
    ///
    /// # Errors
    ///
    /// One of the programs has ended.
    pub(super) fn start(process: &'a Process, redis: Option<&'a Redis>) -> anyhow::Result<Self> {
        let taken = taken(process, redis)?;
        Ok(Self { process, redis, taken, began: Instant::now() })
    }

    /// Ends, and adds what each of `count` requests took.
    ///
    /// # Errors
    ///
    /// One of the programs has ended.
    pub(super) fn stop(self, count: usize, samples: &mut Samples) -> anyhow::Result<()> {
        let (took, count) = (self.began.elapsed(), count as f64);
        let (program, store) = taken(self.process, self.redis)?;
        let each = |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / count;
        samples.rate.push(count / took.as_secs_f64());
        samples.program.push(each(program, self.taken.0));
        samples.store.extend(store.zip(self.taken.1).map(|(after, before)| each(after, before)));
        Ok(())
    }
}

fn taken(process: &Process, redis: Option<&Redis>) -> anyhow::Result<(Duration, Option<Duration>)> {
    Ok((process.cpu()?, redis.map(|redis| redis.process.cpu()).transpose()?))
}
