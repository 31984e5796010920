//! What the peers took for the same work, beside the origin over Redis.

use super::{
    bare::Bare,
    load::OPERATIONS,
    meter::Samples,
    peers::{Kind, Peer},
};
use crate::{
    report::{Report, Table, figure},
    stats::{median, range, ratio},
};

/// What the origin may take of what a peer takes, by peer and operation.
const LIMITS: [(&str, [f64; OPERATIONS.len()]); 3] = [
    ("tower-sessions", [1.6, 0.6, 0.6, 0.75, 1.2]),
    // Five times ahead.
    ("express-session", [0.2; OPERATIONS.len()]),
    // Fifteen times ahead.
    ("better-auth", [0.067; OPERATIONS.len()]),
];

/// What a peer calls the operations.
const THEIRS: [&str; 4] = ["create", "load", "renew", "delete"];

/// Which of theirs does the work of each of ours.
const SAME: [usize; OPERATIONS.len()] = [0, 1, 1, 2, 3];

/// Tells everybody's figures and holds ours against the limits.
pub(super) fn judge(report: &mut Report, ours: &[Samples; OPERATIONS.len()], peers: &[Peer]) {
    let columns = ["", "program, µs a request", "Redis, µs", "both, µs", "rounds from, to", "of ours"];
    let mut table = Table::new("The same work by others, each over a Redis of its own", columns);
    for (index, operation) in OPERATIONS.iter().enumerate() {
        let own = &ours[index];
        row(&mut table, format!("{operation}, portcullis"), own, own);
        for Peer { kind: Kind { name, .. }, samples, .. } in peers {
            let same = SAME[index];
            row(&mut table, format!("{}, {name}", THEIRS[same]), &samples[same], own);
        }
    }
    report.table(table);
    for Peer { kind: Kind { name, .. }, samples, .. } in peers {
        let limits = LIMITS.iter().find(|(of, _)| of == name).map(|(_, limits)| limits);
        for (index, limit) in limits.into_iter().flatten().enumerate() {
            let same = SAME[index];
            let found = ratio(&ours[index].both(), &samples[same].both());
            let what = format!("{}, of {} by {name}", OPERATIONS[index], THEIRS[same]);
            report.target(what, found, *limit, "times");
        }
    }
}

/// Holds the bare parts of our operations against the whole of the first peer's, which says how far a limit can be reached.
pub(super) fn compare(report: &mut Report, bare: &Bare, peers: &[Peer]) {
    let Some((Peer { kind: Kind { name, .. }, samples, .. }, (_, limits))) = peers.first().zip(LIMITS.first()) else {
        return;
    };
    let columns = ["", "bare parts, µs", "of theirs", "limit for the whole"];
    let mut table = Table::new(format!("The bare parts of ours beside the whole of {name}"), columns);
    for (index, operation) in OPERATIONS.iter().enumerate() {
        let (parts, theirs) = (bare.of(index), samples[SAME[index]].both());
        let [parts, of_theirs] = [median(&parts), ratio(&parts, &theirs)].map(figure);
        table.row([(*operation).to_owned(), parts, of_theirs, limits[index].to_string()]);
    }
    report.table(table);
}

fn row(table: &mut Table, name: String, samples: &Samples, own: &Samples) {
    let both = samples.both();
    let (low, high) = range(&both);
    table.row([
        name,
        figure(median(&samples.program)),
        figure(median(&samples.store)),
        figure(median(&both)),
        format!("{}, {}", figure(low), figure(high)),
        figure(ratio(&both, &own.both())),
    ]);
}
