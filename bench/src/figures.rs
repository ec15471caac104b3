//! What a benchmark found: figures with names and units, printed and written alike.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// The figures of one run.
pub struct Figures {
    benchmark: &'static str,
    setting: Value,
    rows: Vec<(String, f64, Cow<'static, str>, Option<Bar>)>,
}

/// What a figure is to be.
#[derive(Clone, Copy)]
pub enum Bar {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Bar {
    fn label(self, value: f64) -> String {
        let (sign, bar, holds) = match self {
            Self::AtMost(bar) => ("≤", bar, value <= bar),
            Self::AtLeast(bar) => ("≥", bar, value >= bar),
        };
        format!("{sign} {bar}{}", if holds { "" } else { ": missed" })
    }
}

impl Figures {
    /// No figures yet; `setting` says under which conditions they hold.
    pub fn new(benchmark: &'static str, setting: Value) -> Self {
        Self { benchmark, setting, rows: Vec::new() }
    }

    /// Add one, as `name_unit` would spell it.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.maybe_bar(name, value, unit, None);
    }

    /// The same, with what it is to be.
    pub fn bar(&mut self, name: impl Into<String>, value: f64, unit: &'static str, bar: Bar) {
        self.maybe_bar(name, value, unit, Some(bar));
    }

    /// The same, perhaps with what it is to be.
    pub fn maybe_bar(&mut self, name: impl Into<String>, value: f64, unit: &'static str, bar: Option<Bar>) {
        self.rows.push((name.into(), value, unit.into(), bar));
    }

    /// Those that another process has written.
    pub fn take(&mut self, file: &Path) -> Result<()> {
        let document: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let rows = document["figures"].as_array().context("no figures")?.iter().map(|row| {
            let text = |key: &str| row[key].as_str().map(str::to_owned);
            let bar = |key: &str| row[key].as_f64();
            let bar = bar("at_most").map(Bar::AtMost).or(bar("at_least").map(Bar::AtLeast));
            Some((text("name")?, row["value"].as_f64()?, Cow::Owned(text("unit")?), bar))
        });
        let rows = rows.collect::<Option<Vec<_>>>().context("a figure without name, value or unit")?;
        self.rows.extend(rows);
        Ok(())
    }

    /// Print them as a table.
    pub fn print(&self) {
        println!("{} {}", self.benchmark, self.setting);
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(["figure", "value", "unit", "bar"]);
        for (name, value, unit, bar) in &self.rows {
            let digits = if value.fract() == 0.0 { 0 } else { 3 };
            table.add_row([
                name.clone(),
                format!("{value:.digits$}"),
                unit.to_string(),
                bar.map_or_else(String::new, |bar| bar.label(*value)),
            ]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
    }

    /// Write them as JSON: `{benchmark, setting, figures: [{name, value, unit}]}`, with `at_most` or `at_least` beside
    /// the value where it is to be something.
    pub fn write(&self, file: &Path) -> Result<()> {
        let figures: Vec<Value> = self
            .rows
            .iter()
            .map(|(name, value, unit, bar)| match bar {
                None => json!({"name": name, "value": value, "unit": unit}),
                Some(Bar::AtMost(bar)) => json!({"name": name, "value": value, "unit": unit, "at_most": bar}),
                Some(Bar::AtLeast(bar)) => {
                    json!({"name": name, "value": value, "unit": unit, "at_least": bar})
                }
            })
            .collect();
        let document = json!({"benchmark": self.benchmark, "setting": self.setting, "figures": figures});
        std::fs::write(file, serde_json::to_vec_pretty(&document)?)
            .with_context(|| format!("writing {}", file.display()))
    }
}
