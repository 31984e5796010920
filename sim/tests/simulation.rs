//! A few seeds of the simulation, and that it finds what is broken; `cargo xtask sim` runs a thousand.

use portcullis_sim::{Mutant, Plan, Report, Signatures, run};

/// Seeds within which every broken rule must be found.
const MUTANT_SEEDS: u64 = 40;

/// I1, I4, I5, I9, and that good tokens are admitted; and that enough happened for this to mean something.
#[test]
fn nothing_is_broken_under_faults() {
    let mut total = Report::default();
    for seed in 0..16 {
        match run(Plan { traced: true, ..Plan::new(seed) }) {
            Ok(report) => total.add(&report),
            Err(broken) => panic!("{broken}"),
        }
    }
    assert_eq!(total.agreements, 3 * 16);
    for (what, count) in [
        ("admitted", total.admitted),
        ("refused", total.refused),
        ("stale", total.stale),
        ("within the bound", total.late),
        ("floors", total.floors),
        ("lost", total.lost),
    ] {
        assert!(count > 100, "{what}: {total:?}");
    }
    assert!(total.clocks_reported > 0, "{total:?}");
    assert!(total.overtook > 0, "{total:?}");
}

/// A run is the same whenever it is made, and with real signatures too.
#[test]
fn a_seed_replays_exactly() {
    let quick = run(Plan::new(3));
    assert_eq!(run(Plan::new(3)), quick);
    assert_eq!(run(Plan { signatures: Signatures::Real, ..Plan::new(3) }), quick);
    assert_ne!(run(Plan::new(4)), quick);
}

/// Each broken rule is found, and the same invariant is broken when its seed is run again.
#[test]
fn every_broken_rule_is_found() {
    for mutant in Mutant::ALL {
        let plan = |seed| Plan { mutant: Some(mutant), ..Plan::new(seed) };
        let found = (0..MUTANT_SEEDS).find_map(|seed| run(plan(seed)).err());
        let Some(found) = found else { panic!("{mutant:?} was not found within {MUTANT_SEEDS} seeds") };
        println!("{mutant:?}: {found}");
        let expected: &[&str] = match mutant {
            Mutant::FreshOverGaps | Mutant::HeartbeatIsData | Mutant::ClockAfterHead | Mutant::EmptyIsFresh => {
                &["I1", "I5"]
            }
            Mutant::NoSkew | Mutant::ClockForgotten => &["I1"],
            Mutant::ForgetsEarly => &["I4", "I5"],
            Mutant::HubNeverPulls => &["I9", "liveness"],
            Mutant::DeniesAll => &["I7", "liveness"],
            Mutant::UrgentIsData | Mutant::FreshPieces => &["I5"],
            Mutant::NothingOvertakes => &["I1"],
            Mutant::PushesWhole => &["I1", "liveness"],
        };
        assert!(expected.iter().any(|part| found.what.contains(part)), "{mutant:?}: {found}");
        let again = run(plan(found.seed)).err();
        assert_eq!(again.as_ref(), Some(&found), "{mutant:?}");
    }
}
