//! What a benchmark found: figures with names and units, printed and written alike.

use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// The figures of one run.
pub struct Figures {
    benchmark: &'static str,
    setting: Value,
    rows: Vec<(String, f64, &'static str)>,
}

impl Figures {
    /// No figures yet; `setting` says under which conditions they hold.
    pub fn new(benchmark: &'static str, setting: Value) -> Self {
        Self { benchmark, setting, rows: Vec::new() }
    }

    /// Add one, as `name_unit` would spell it.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.rows.push((name.into(), value, unit));
    }

    /// Print them as a table.
    pub fn print(&self) {
        println!("{} {}", self.benchmark, self.setting);
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(["figure", "value", "unit"]);
        for (name, value, unit) in &self.rows {
            let digits = if value.fract() == 0.0 { 0 } else { 3 };
            table.add_row([name.clone(), format!("{value:.digits$}"), (*unit).to_owned()]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
    }

    /// Write them as JSON: `{benchmark, setting, figures: [{name, value, unit}]}`.
    pub fn write(&self, file: &Path) -> Result<()> {
        let figures: Vec<Value> = self
            .rows
            .iter()
            .map(|(name, value, unit)| json!({"name": name, "value": value, "unit": unit}))
            .collect();
        let document = json!({"benchmark": self.benchmark, "setting": self.setting, "figures": figures});
        std::fs::write(file, serde_json::to_vec_pretty(&document)?)
            .with_context(|| format!("writing {}", file.display()))
    }
}
