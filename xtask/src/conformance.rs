//! `cargo xtask conformance`: a row for each requirement: its id, the tests that cite it, and how they ended.
//!
//! The requirements stand in `tests/conformance.toml`. Which tests cover one is not written down twice: a test covers the ids
//! that its comments and messages name.

mod cited;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use self::cited::{Id, cited_by_tests};
use crate::command::{root, spinner};

const REQUIREMENTS: &str = "tests/conformance.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    title: String,
    source: String,
    /// What of it is deliberately not met, and why.
    open: Option<String>,
}

/// How a requirement stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Met,
    /// Tests pass; a part is deliberately not met.
    Part,
    Failed,
    /// Deliberately not met, so nothing is tested.
    Open,
    /// Neither a test nor a reason.
    Unknown,
}

/// Runs every test and prints the table.
///
/// # Errors
///
/// A test failed, a requirement has neither a test nor a reason, or a test cites an id that does not exist.
pub(crate) fn run() -> anyhow::Result<()> {
    let (requirements, cited) = (requirements()?, cited_by_tests(&root())?);
    check_ids(&requirements, &cited)?;
    let ended = run_tests()?;
    let mut counts = [0_usize; 5];
    for (id, requirement) in &requirements {
        let tests = cited.get(id).map(Vec::as_slice).unwrap_or_default();
        let standing = standing(requirement, tests, &ended);
        counts[standing as usize] += 1;
        print_row(id, requirement, tests, standing);
    }
    let [met, part, failed, open, unknown] = counts;
    println!("\n{met} met, {part} in part, {open} open, {failed} failed, {unknown} without a test or a reason");
    let broken: Vec<&str> = ended.iter().filter(|(_, passed)| !**passed).map(|(test, _)| test.as_str()).collect();
    ensure!(broken.is_empty(), "tests failed: {}", broken.join(", "));
    ensure!(failed + unknown == 0, "{} requirements do not stand", failed + unknown);
    Ok(())
}

fn requirements() -> anyhow::Result<BTreeMap<Id, Requirement>> {
    let text = fs::read_to_string(root().join(REQUIREMENTS)).with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    toml::from_str(&text).with_context(|| format!("{REQUIREMENTS} is malformed"))
}

/// Every id that a test cites is one that there is.
fn check_ids(requirements: &BTreeMap<Id, Requirement>, cited: &BTreeMap<Id, Vec<String>>) -> anyhow::Result<()> {
    for (id, tests) in cited.iter().filter(|(id, _)| is_of_our_groups(id, requirements)) {
        let tests = tests.join(", ");
        ensure!(requirements.contains_key(id), "{tests} cites {id}, which {REQUIREMENTS} does not have");
    }
    Ok(())
}

/// Invariants (I1 …) and ids of other documents look alike and are not listed.
fn is_of_our_groups(id: &Id, requirements: &BTreeMap<Id, Requirement>) -> bool {
    requirements.keys().any(|known| known.group() == id.group())
}

fn standing(requirement: &Requirement, tests: &[String], ended: &BTreeMap<String, bool>) -> Standing {
    let results: Vec<bool> = tests.iter().filter_map(|test| ended.get(test).copied()).collect();
    match (results.is_empty(), results.iter().all(|passed| *passed)) {
        (false, true) if requirement.open.is_some() => Standing::Part,
        (false, true) => Standing::Met,
        (false, false) => Standing::Failed,
        (true, _) if requirement.open.is_some() => Standing::Open,
        (true, _) => Standing::Unknown,
    }
}

fn print_row(id: &Id, requirement: &Requirement, tests: &[String], standing: Standing) {
    let Requirement { title, source, open } = requirement;
    let word = match standing {
        Standing::Met => "met",
        Standing::Part => "in part",
        Standing::Failed => "FAILED",
        Standing::Open => "open",
        Standing::Unknown => "NO TEST",
    };
    println!("{id:<8} {word:<8} {title} ({source})");
    for test in tests {
        println!("{:17} {test}", "");
    }
    if let Some(reason) = open {
        println!("{:17} {reason}", "");
    }
}

/// Every test by its last name, and whether it passed; one name in two places counts as one test.
fn run_tests() -> anyhow::Result<BTreeMap<String, bool>> {
    let running = spinner("running the tests");
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--workspace", "--exclude", "portcullis-edge", "--all-features", "--no-fail-fast"]);
    cargo.current_dir(root()).stdout(Stdio::piped());
    let mut child = cargo.spawn().context("cannot start cargo")?;
    let mut ended = BTreeMap::new();
    let output = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).lines() {
        if let Some((name, passed)) = result_of(&line?) {
            running.set_message(format!("running the tests: {} ended", ended.len()));
            *ended.entry(name).or_insert(true) &= passed;
        }
    }
    child.wait().context("cannot wait for cargo")?;
    running.finish_and_clear();
    ensure!(!ended.is_empty(), "no test ran; cargo says above why");
    Ok(ended)
}

/// `test a::b ... ok`.
fn result_of(line: &str) -> Option<(String, bool)> {
    let (path, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = path.trim_end_matches(" - should panic").rsplit("::").next()?.to_owned();
    match result.split_whitespace().next()? {
        "ok" => Some((name, true)),
        "FAILED" => Some((name, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_the_lines_of_the_runner() {
        assert_eq!(result_of("test a::b ... ok"), Some(("b".into(), true)));
        assert_eq!(result_of("test b ... FAILED"), Some(("b".into(), false)));
        assert_eq!(result_of("test result: ok. 1 passed"), None);
        assert_eq!(result_of("running 3 tests"), None);
    }

    #[test]
    fn every_requirement_reads_and_every_reason_says_something() {
        let requirements = requirements().unwrap();
        assert!(requirements.len() > 100);
        assert!(requirements.values().all(|requirement| requirement.open.as_ref().is_none_or(|open| open.len() > 20)));
    }

    #[test]
    fn every_requirement_has_a_test_or_a_reason_and_every_citation_a_requirement() {
        let (requirements, cited) = (requirements().unwrap(), cited_by_tests(&root()).unwrap());
        check_ids(&requirements, &cited).unwrap();
        let without = |(id, requirement): &(&Id, &Requirement)| requirement.open.is_none() && !cited.contains_key(*id);
        let without: Vec<String> = requirements.iter().filter(without).map(|(id, _)| id.to_string()).collect();
        assert_eq!(without, Vec::<String>::new());
    }

    #[test]
    fn a_requirement_stands_as_its_tests_ended() {
        let ended = BTreeMap::from([("good".to_owned(), true), ("bad".to_owned(), false)]);
        let stands = |open: Option<&str>, tests: &[&str]| {
            let requirement =
                Requirement { title: String::new(), source: String::new(), open: open.map(str::to_owned) };
            let tests: Vec<String> = tests.iter().map(|&test| test.to_owned()).collect();
            standing(&requirement, &tests, &ended)
        };
        assert!(stands(None, &["good"]) == Standing::Met);
        assert!(stands(Some("reason"), &["good"]) == Standing::Part);
        assert!(stands(Some("reason"), &["good", "bad"]) == Standing::Failed);
        assert!(stands(Some("reason"), &["never ran"]) == Standing::Open);
        assert!(stands(None, &["never ran"]) == Standing::Unknown);
    }
}
