//! What is measured beside each other: engines, natively and in V8, and the Python package. Each answers with lines of
//! values from a fresh instance.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::json;

/// One way to tokenize.
pub struct Arm {
    /// Its name in figures, such as `v8_runtime`.
    pub name: &'static str,
    /// Values by name: `("mix_8k_cold", [ms])`.
    pub values: BTreeMap<String, Vec<f64>>,
    /// What came out, by name: number of ids and their hash.
    pub ids: BTreeMap<String, String>,
    way: Way,
    engine: &'static str,
    tokenizer: PathBuf,
}

/// How an instance is started.
enum Way {
    /// A process for each.
    Process(Vec<PathBuf>),
    /// A module in a process of Node.
    Module(Node),
}

struct Node {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Arm {
    fn new(name: &'static str, engine: &'static str, tokenizer: &Path, way: Way) -> Self {
        let (values, ids) = Default::default();
        Self { name, values, ids, way, engine, tokenizer: tokenizer.to_owned() }
    }

    /// The meter as a native program.
    pub fn native(name: &'static str, engine: &'static str, tokenizer: &Path, meter: &Path) -> Self {
        Self::new(name, engine, tokenizer, Way::Process(vec![meter.to_owned()]))
    }

    /// The Python package.
    pub fn python(name: &'static str, tokenizer: &Path, python: &Path, script: &Path) -> Self {
        Self::new(name, "", tokenizer, Way::Process(vec![python.to_owned(), script.to_owned()]))
    }

    /// The meter as a module in Node, with the flag that Envoy sets.
    pub fn v8(
        name: &'static str,
        engine: &'static str,
        tokenizer: &Path,
        node: &Path,
        script: &Path,
        module: &Path,
    ) -> Result<Self> {
        let mut child = Command::new(node)
            .args(["--no-liftoff", "--expose-gc", "--no-warnings"])
            .args([script, module])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", node.display()))?;
        let input = child.stdin.take().context("a pipe was asked for")?;
        let output = BufReader::new(child.stdout.take().context("a pipe was asked for")?);
        Ok(Self::new(name, engine, tokenizer, Way::Module(Node { child, input, output })))
    }

    /// One task in a fresh instance; its values are added to what is there.
    pub fn run(&mut self, task: &str, files: &[PathBuf]) -> Result<()> {
        for line in self.lines(task, files).with_context(|| format!("{}, {task}", self.name))? {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["ids", name, count, hash] => {
                    self.ids.insert((*name).to_owned(), format!("{count} {hash}"));
                }
                [name, value, _unit] => {
                    let value = value.parse().unwrap_or(f64::NAN);
                    self.values.entry((*name).to_owned()).or_default().push(value);
                }
                _ => bail!("{} printed {line:?}", self.name),
            }
        }
        Ok(())
    }

    /// The same, but what it says is dropped: V8 compiles each function when it is called first.
    pub fn warm_up(&mut self, task: &str, files: &[PathBuf]) -> Result<()> {
        self.lines(task, files).map(drop)
    }

    fn lines(&mut self, task: &str, files: &[PathBuf]) -> Result<Vec<String>> {
        let mut arguments: Vec<String> = Vec::new();
        if !self.engine.is_empty() {
            arguments.push(self.engine.to_owned());
        }
        arguments.push(self.tokenizer.display().to_string());
        if !self.engine.is_empty() {
            arguments.push(task.to_owned());
        }
        arguments.extend(files.iter().map(|file| file.display().to_string()));
        match &mut self.way {
            Way::Process(program) => {
                let (first, more) = program.split_first().context("a program")?;
                let output = Command::new(first)
                    .args(more)
                    .args(arguments)
                    .stderr(Stdio::inherit())
                    .output()
                    .with_context(|| format!("starting {}", first.display()))?;
                if !output.status.success() {
                    bail!("{}: {}", first.display(), output.status);
                }
                Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
            }
            Way::Module(node) => {
                writeln!(node.input, "{}", json!(arguments))?;
                let mut lines = Vec::new();
                loop {
                    let mut line = String::new();
                    if node.output.read_line(&mut line)? == 0 {
                        bail!("Node ended");
                    }
                    let line = line.trim_end();
                    match line.strip_prefix("end ") {
                        Some("0") => return Ok(lines),
                        Some(code) => bail!("the module ended with {code}"),
                        None => lines.push(line.to_owned()),
                    }
                }
            }
        }
    }

    /// The median of one value; none when it was not measured.
    pub fn median(&self, name: &str) -> Option<f64> {
        let mut values = self.values.get(name)?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}
