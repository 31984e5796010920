//! What a request costs on a route of each assurance.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use hyper::StatusCode;

use super::World;
use crate::{
    client::Connection,
    report::{Table, figure},
    stats::median,
};

/// Requests of one round, one after the other.
const REQUESTS: u32 = 300;

const ROUNDS: usize = 7;

/// What the routes are called, and where they are.
const ROUTES: [(&str, &str); 3] =
    [("bounded", "/bounded"), ("regional", "/regional"), ("authoritative", "/authoritative")];

impl World {
    /// Asks one gate on each kind of route in turn.
    pub(super) async fn costs(&self) -> anyhow::Result<Table> {
        let (_, token) = self.open().await?;
        let region = self.regions.first().context("there is no region")?;
        let gate = *region.gates.first().context("there is no gate")?;
        let mut connection = Connection::open(gate).await?;
        let mut rounds = [const { Vec::new() }; ROUTES.len()];
        for _ in 0..ROUNDS {
            for ((_, path), rounds) in ROUTES.iter().zip(&mut rounds) {
                let before = (region.edge.workerd.process.cpu()?, self.origin.process.cpu()?);
                let started = Instant::now();
                for _ in 0..REQUESTS {
                    let status = connection.ask(path, &token).await?;
                    ensure!(status == StatusCode::NO_CONTENT, "a gate answered {status} to a good token");
                }
                let took = started.elapsed();
                let edge = region.edge.workerd.process.cpu()?.saturating_sub(before.0);
                let origin = self.origin.process.cpu()?.saturating_sub(before.1);
                rounds.push([took, edge, origin].map(|time| time.as_secs_f64() * 1e6 / f64::from(REQUESTS)));
            }
        }
        let columns = ["", "from request to answer", "CPU of gates and hub", "CPU of the origin"];
        let title = format!("Microseconds a request, one after the other, medians of {ROUNDS} alternating rounds");
        let mut table = Table::new(title, columns);
        for ((name, _), rounds) in ROUTES.iter().zip(&rounds) {
            let median = |part: usize| figure(median(&rounds.iter().map(|round| round[part]).collect::<Vec<_>>()));
            table.row([(*name).to_owned(), median(0), median(1), median(2)]);
        }
        Ok(table)
    }
}
