//! What a request costs at the gate, beside an empty Worker and beside what a team would write in JavaScript.

mod assertion;
mod field;
mod signature;

use std::collections::BTreeMap;

use self::field::{Field, Who};
use crate::{
    report::{Report, Table, figure},
    stats::{median, range, ratio},
    upstream::Upstream,
    workerd,
};

/// How the gate is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds, in each of which every contestant has its turn.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(7..=99))]
    rounds: u32,
    /// How often everybody is started anew; the rounds are spread over the starts. Two processes of one program differ by some
    /// percent, for as long as they run.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=7))]
    starts: u32,
    /// Requests per turn. Of few, what a gate does after a pause (asking its hub) takes a share that it has under no load.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    requests: u32,
    /// Connections that are kept, with one request at a time on each.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
}

/// Microseconds of processor time per request, one for each round.
type Costs = BTreeMap<Who, Vec<f64>>;

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let Arguments { rounds, starts, requests, connections } = arguments;
    let mut report = Report::new("gate");
    report.version(workerd::version());
    report.version(workerd::npm_version("jose")?);
    report.method(format!(
        "{rounds} rounds of {requests} requests to each contestant in turn, over {connections} kept connections; everybody \
         was started anew {starts} times"
    ));
    report.method("every contestant under bare `workerd serve` in a process of its own; every request carries a token");
    report.method("processor time of all threads of that workerd per request: medians of the rounds, and of the ratios within a round");
    report.method(
        "jose keeps its imported keys; all that check check typ, alg, iss, aud and exp, and are seen to refuse; all tell \
         subject, session, tenant, roles and versions in headers of their answer",
    );

    let upstream = Upstream::start().await?;
    let mut costs = Costs::new();
    for start in 0..*starts {
        let field = Field::start(&upstream).await?;
        for contestant in &field.contestants {
            contestant.check().await?;
        }
        // The first round warms up.
        for round in 0..=share(*rounds, *starts, start) {
            for contestant in &field.contestants {
                let cost = contestant.turn(*requests, *connections).await?;
                if round > 0 {
                    costs.entry(contestant.who).or_default().push(cost);
                }
            }
        }
    }
    judge(&mut report, &costs);
    signature::measure(&mut report, *rounds).await?;
    assertion::measure(&mut report, *rounds).await?;
    Ok(report)
}

/// How many of the rounds fall to a start.
fn share(rounds: u32, starts: u32, start: u32) -> u32 {
    rounds / starts + u32::from(start < rounds % starts)
}

fn judge(report: &mut Report, measured: &Costs) {
    let costs = |letter: char| {
        let found = measured.iter().find(|(who, _)| who.letter == letter);
        found.map_or(&[][..], |(_, costs)| costs.as_slice())
    };
    for (title, forwards, base) in
        [("Answered by the Worker itself", false, 'b'), ("Forwarded over loopback", true, 'g')]
    {
        let of_base = format!("of ({base})");
        let mut table = Table::new(title, ["", "µs a request", "rounds from, to", "of (a)", &of_base]);
        for (Who { letter, name, .. }, own) in measured.iter().filter(|(who, _)| who.forwards == forwards) {
            let (low, high) = range(own);
            table.row([
                format!("({letter}) {name}"),
                figure(median(own)),
                format!("{}, {}", figure(low), figure(high)),
                figure(ratio(own, costs('a'))),
                figure(ratio(own, costs(base))),
            ]);
        }
        report.table(table);
    }
    let [empty, jose, cached, known, first] = ['a', 'b', 'd', 'e', 'f'].map(costs);
    let [passing, forwarding] = ['g', 'h'].map(costs);
    report.target("gate, token known (e), of an empty Worker (a)", ratio(known, empty), 1.15, "times");
    report.target("gate, token known (e), of jose without cache (b)", ratio(known, jose), 0.5, "times");
    report.target("gate, token known (e), of jose with a cache (d)", ratio(known, cached), 1.0, "times");
    report.target("gate, first sight of every token (f), of jose without cache (b)", ratio(first, jose), 1.0, "times");
    report.target("gate, forwarding (h), of JS that sets three headers (g)", ratio(forwarding, passing), 1.15, "times");
}
