//! What a benchmark found, for people and as JSON.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

use crate::machine::{self, Machine};

/// Everything that one run of one benchmark found.
#[derive(Serialize)]
pub(crate) struct Report {
    benchmark: &'static str,
    command: String,
    machine: Machine,
    versions: Vec<String>,
    /// How it was measured.
    method: Vec<String>,
    tables: Vec<Table>,
    targets: Vec<Target>,
}

/// A table; the first column names the row.
#[derive(Serialize)]
pub(crate) struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A figure that must not exceed a limit.
#[derive(Serialize)]
struct Target {
    what: String,
    found: f64,
    at_most: f64,
    unit: &'static str,
    met: bool,
}

impl Report {
    pub(crate) fn new(benchmark: &'static str) -> Self {
        // The program's own path says nothing that holds elsewhere.
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        Self {
            benchmark,
            command: format!("cargo xtask bench {}", arguments.join(" ")),
            machine: Machine::this(),
            versions: vec![machine::commit(), machine::version_of("rustc".as_ref())],
            method: Vec::new(),
            tables: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Notes the version of something that takes part.
    pub(crate) fn version(&mut self, version: impl Into<String>) {
        self.versions.push(version.into());
    }

    /// Notes how it was measured.
    pub(crate) fn method(&mut self, line: impl Into<String>) {
        self.method.push(line.into());
    }

    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Holds a figure against its limit.
    pub(crate) fn target(&mut self, what: impl Into<String>, found: f64, at_most: f64, unit: &'static str) {
        self.targets.push(Target { what: what.into(), found, at_most, unit, met: found <= at_most });
    }

    /// Whether every target is met.
    pub(crate) fn is_met(&self) -> bool {
        self.targets.iter().all(|target| target.met)
    }

    /// Prints it, and writes it to `json` if that is given.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn publish(&self, json: Option<&Path>) -> anyhow::Result<()> {
        println!("{self}");
        let Some(path) = json else { return Ok(()) };
        fs::write(path, serde_json::to_vec_pretty(self)?).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Table {
    pub(crate) fn new<'a>(title: impl Into<String>, columns: impl IntoIterator<Item = &'a str>) -> Self {
        let columns = columns.into_iter().map(ToOwned::to_owned).collect();
        Self { title: title.into(), columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "## {}\n\n    {}\n", self.benchmark, self.command)?;
        writeln!(f, "- machine: {}\n- versions: {}", self.machine, self.versions.join(", "))?;
        for line in &self.method {
            writeln!(f, "- {line}")?;
        }
        for table in &self.tables {
            let mut drawn = comfy_table::Table::new();
            drawn.load_style(comfy_table::presets::ASCII_MARKDOWN).set_header(&table.columns).add_rows(&table.rows);
            for column in drawn.column_iter_mut().skip(1) {
                column.set_cell_alignment(comfy_table::CellAlignment::Right);
            }
            writeln!(f, "\n**{}**\n\n{drawn}", table.title)?;
        }
        if !self.targets.is_empty() {
            writeln!(f)?;
        }
        for Target { what, found, at_most, unit, met } in &self.targets {
            let verdict = if *met { "met" } else { "MISSED" };
            writeln!(f, "- target {verdict}: {what}: {} {unit}, at most {at_most} {unit}", figure(*found))?;
        }
        Ok(())
    }
}

/// Three significant digits and no more than that: the rest is noise.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
