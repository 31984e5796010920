//! Which ids the tests of the workspace cite: `REF-04`, or `REF-01 to REF-06` (`REF-01..REF-06`) for all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

use anyhow::Context as _;
use serde::{Deserialize, de::Error as _};

/// Folders of the crates whose tests count; those of this crate only name ids as examples.
const CRATES: [&str; 5] = ["client", "demo", "origin", "shared", "tests"];

/// A requirement: group and number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    group: String,
    number: u8,
}

impl Id {
    /// The group, such as `REF`.
    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// Two to four capital letters, a hyphen, two digits.
    fn parse(text: &str) -> Option<Self> {
        let (group, number) = text.split_once('-')?;
        let good =
            (2..=4).contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_uppercase()) && number.len() == 2;
        good.then_some(Self { group: group.to_owned(), number: number.parse().ok()? })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{:02}", self.group, self.number))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not an id such as REF-04")))
    }
}

/// The names of the tests that cite each id.
pub(super) fn cited_by_tests(root: &Path) -> anyhow::Result<BTreeMap<Id, Vec<String>>> {
    let mut cited: BTreeMap<Id, Vec<String>> = BTreeMap::new();
    for folder in CRATES.map(|name| root.join(name)).iter().filter(|folder| folder.is_dir()) {
        let mut folders = vec![folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    for (test, ids) in tests_of(&fs::read_to_string(&path)?) {
                        ids.into_iter().for_each(|id| cited.entry(id).or_default().push(test.clone()));
                    }
                }
            }
        }
    }
    Ok(cited)
}

/// The tests of a formatted file with the ids between the comment above each and its last line.
fn tests_of(source: &str) -> Vec<(String, BTreeSet<Id>)> {
    let lines: Vec<&str> = source.lines().collect();
    let mut tests = Vec::new();
    // Where the comment above the next item begins.
    let mut above = 0;
    for (number, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        if text.is_empty() || text == "}" {
            above = number + 1;
        }
        let Some(name) = name_of_test(&lines, number) else { continue };
        let indent = line.len() - text.len();
        let end = format!("{}}}", " ".repeat(indent));
        let body = lines.iter().skip(number).position(|line| *line == end).unwrap_or(0);
        let part = lines.get(above..=number + body).unwrap_or_default().join("\n");
        tests.push((name.to_owned(), ids_of(&part)));
    }
    tests
}

/// The name of the function of a line that stands below a test attribute, or within `proptest!`.
fn name_of_test<'a>(lines: &[&'a str], number: usize) -> Option<&'a str> {
    let line = lines.get(number)?.trim_start();
    let rest = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "))?;
    let attributed = lines[..number]
        .iter()
        .rev()
        .map(|line| line.trim_start())
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .any(|line| line == "#[test]" || line.starts_with("#[tokio::test"));
    if attributed { rest.split(['(', '<']).next() } else { None }
}

fn ids_of(text: &str) -> BTreeSet<Id> {
    let text = text.replace("..", " to ");
    let mut ids = BTreeSet::new();
    let mut range_from: Option<Id> = None;
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).filter(|word| !word.is_empty()) {
        let Some(id) = Id::parse(word) else {
            if word != "to" {
                range_from = None;
            }
            continue;
        };
        let is_range = range_from.as_ref().is_some_and(|from| from.group == id.group)
            && text.contains(&format!("{} to {id}", range_from.as_ref().map(Id::to_string).unwrap_or_default()));
        if let (true, Some(from)) = (is_range, &range_from) {
            ids.extend((from.number..id.number).map(|number| Id { group: id.group.clone(), number }));
        }
        range_from = Some(id.clone());
        ids.insert(id);
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<String> {
        ids_of(text).iter().map(Id::to_string).collect()
    }

    #[test]
    fn ids_and_ranges_are_found() {
        assert_eq!(
            ids("/// REF-01 to REF-03, SES-09; I1 and RFC-9 and X-Y-01"),
            ["REF-01", "REF-02", "REF-03", "SES-09"]
        );
        assert_eq!(ids("TOK-02, TOK-05"), ["TOK-02", "TOK-05"]);
        assert_eq!(ids("TOK-02..TOK-04"), ["TOK-02", "TOK-03", "TOK-04"]);
    }

    #[test]
    fn a_test_has_what_stands_above_and_within_it() {
        let source = "/// AAA-01.\nfn helper() {\n}\n\n/// BBB-01.\n#[test]\nfn one() {\n    say(\"CCC-02\");\n}\n\n\
                      #[tokio::test]\nasync fn two() {\n}\n";
        let found: Vec<_> = tests_of(source).into_iter().map(|(name, ids)| (name, ids.len())).collect();
        assert_eq!(found, [("one".to_owned(), 2), ("two".to_owned(), 0)]);
    }
}
