//! Prometheus text, read back.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// One scrape: series in the order of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(Vec<Series>);

/// One line of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name of the metric, with `_total`, `_bucket` and the like.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

impl Metrics {
    /// Read the text format.
    ///
    /// # Errors
    /// On the first line that is neither a comment nor a series.
    pub fn parse(text: &str) -> Result<Self> {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| parse_line(line).with_context(|| format!("not a Prometheus series: {line}")))
            .collect::<Result<_>>()
            .map(Metrics)
    }

    /// Sum over all series of that name; 0 when there is none.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        self.sum_where(name, &[])
    }

    /// Sum over the series of that name that have all these labels; 0 when there is none.
    #[must_use]
    pub fn sum_where(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name)
            .filter(|series| {
                labels.iter().all(|(key, value)| series.labels.get(*key).is_some_and(|v| v == value))
            })
            .map(|series| series.value)
            .sum()
    }

    /// All series of that name.
    pub fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Series> {
        self.0.iter().filter(move |series| series.name == name)
    }

    /// All series whose name begins so.
    pub fn starting<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Series> {
        self.0.iter().filter(move |series| series.name.starts_with(prefix))
    }
}

fn parse_line(line: &str) -> Option<Series> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    // A timestamp may follow the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Series { name: name.to_owned(), labels, value })
}

/// `a="x",b="y"} rest`, with backslash escapes in the values.
fn parse_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (key, value) = rest.split_once("=\"")?;
        let mut text = String::new();
        let mut characters = value.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => text.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => text.push(other),
            }
        };
        labels.insert(key.to_owned(), text);
        rest = &value[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn reads_names_labels_and_values() {
        let metrics = Metrics::parse(
            "# TYPE a counter\na_total{x=\"1\",y=\"a \\\"b\\\", }\"} 2\na_total{x=\"2\"} 3.5 1700000\nb 1e3\n\n",
        )
        .unwrap();
        assert_eq!(metrics.sum("a_total"), 5.5);
        assert_eq!(metrics.sum_where("a_total", &[("x", "1"), ("y", "a \"b\", }")]), 2.0);
        assert_eq!(metrics.sum("b"), 1000.0);
        assert_eq!(metrics.sum("c"), 0.0);
        assert_eq!(metrics.starting("a").count(), 2);
    }

    #[test]
    fn refuses_what_is_not_a_series() {
        assert!(Metrics::parse("<html>").is_err());
        assert!(Metrics::parse("a{x=\"1} 2").is_err());
    }
}
