//! A mutation loop without coverage: seeds, changed at random. It takes libFuzzer's options as far as it knows them, and
//! prints its count in libFuzzer's words.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// libFuzzer's exit codes for a crash and for an input that takes too long.
const CRASH: u8 = 77;
const TIMEOUT: i32 = 70;

struct Options {
    seconds: u64,
    seed: u64,
    max_len: usize,
    timeout: Duration,
    artifacts: String,
    directories: Vec<PathBuf>,
}

fn options() -> Options {
    let mut options = Options {
        seconds: 10,
        seed: 1,
        max_len: 4096,
        timeout: Duration::from_secs(25),
        artifacts: String::new(),
        directories: Vec::new(),
    };
    for argument in std::env::args().skip(1) {
        let Some((name, value)) = argument.strip_prefix('-').and_then(|option| option.split_once('=')) else {
            options.directories.push(argument.into());
            continue;
        };
        let number = value.parse::<u64>().ok();
        match (name, number) {
            ("max_total_time", Some(seconds)) => options.seconds = seconds,
            ("seed", Some(seed)) => options.seed = seed,
            ("max_len", Some(bytes)) => options.max_len = bytes as usize,
            ("timeout", Some(seconds)) => options.timeout = Duration::from_secs(seconds),
            ("artifact_prefix", _) => options.artifacts = value.to_owned(),
            _ => {}
        }
    }
    options
}

/// Inputs to begin with: the files of the directories, and an empty one.
fn seeds(directories: &[PathBuf]) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = directories
        .iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flat_map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())))
        .collect();
    files.sort();
    let mut seeds: Vec<Vec<u8>> = files.iter().filter_map(|file| std::fs::read(file).ok()).collect();
    seeds.push(Vec::new());
    seeds
}

/// Bytes that parsers care about.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\"\\{}[]:,0123456789-.eE \n'<|>%_/";

fn mutate(random: &mut fastrand::Rng, input: &mut Vec<u8>, other: &[u8], max_len: usize) {
    for _ in 0..random.usize(1..=8) {
        let at = random.usize(0..=input.len());
        let end = random.usize(at..=input.len().min(at + 32));
        match random.u8(0..7) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(0..8),
            1 if at < input.len() => input[at] = random.choice(TELLING.iter().copied()).unwrap_or(0),
            2 => drop(input.drain(at..end)),
            3 => input.insert(at, random.choice(TELLING.iter().copied()).unwrap_or(0)),
            4 => drop(
                input.splice(at..at, (0..random.usize(1..80)).map(|_| random.u8(..)).collect::<Vec<_>>()),
            ),
            5 => {
                let copied = input[at..end].repeat(random.usize(1..20));
                drop(input.splice(at..at, copied));
            }
            _ if !other.is_empty() => {
                let from = random.usize(0..other.len());
                let to = random.usize(from..=other.len());
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
            _ => {}
        }
    }
    input.truncate(max_len);
}

/// Runs until the time is over or an input panics, which is then written to a file.
pub fn main(body: fn(&[u8])) -> ExitCode {
    let options = options();
    let seeds = seeds(&options.directories);
    eprintln!("blind mutations of {} inputs, seed {}", seeds.len(), options.seed);
    let mut random = fastrand::Rng::with_seed(options.seed);
    let start = Instant::now();
    let executions = Arc::new(AtomicU64::new(0));
    watch(executions.clone(), options.timeout);
    let mut next = seeds.clone();
    while start.elapsed().as_secs() < options.seconds {
        let input = next.pop().unwrap_or_else(|| {
            let mut input = random.choice(seeds.iter()).cloned().unwrap_or_default();
            let other = random.choice(seeds.iter()).cloned().unwrap_or_default();
            mutate(&mut random, &mut input, &other, options.max_len);
            input
        });
        if catch_unwind(AssertUnwindSafe(|| body(&input))).is_err() {
            let name =
                format!("{}crash-{}-{}", options.artifacts, options.seed, executions.load(Ordering::Relaxed));
            let written = std::fs::write(Path::new(&name), &input);
            eprintln!("an input of {} bytes panics, {name}: {written:?}", input.len());
            return ExitCode::from(CRASH);
        }
        executions.fetch_add(1, Ordering::Relaxed);
    }
    eprintln!("stat::number_of_executed_units: {}", executions.load(Ordering::Relaxed));
    ExitCode::SUCCESS
}

/// Ends the process when one input takes longer than `timeout`: the seed and the count say which it was.
fn watch(executions: Arc<AtomicU64>, timeout: Duration) {
    std::thread::spawn(move || {
        let mut seen = executions.load(Ordering::Relaxed);
        loop {
            std::thread::sleep(timeout);
            let now = executions.load(Ordering::Relaxed);
            if now == seen {
                eprintln!("execution {now} takes longer than {timeout:?}");
                std::process::exit(TIMEOUT);
            }
            seen = now;
        }
    });
}
