//! The memory part of `cargo xtask bench index`, under an allocator that counts. Prints JSON for that benchmark.

use anyhow::Result;
use peak_alloc::PeakAlloc;
use warmpath_bench::index::memory::{Count, measure};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

struct Allocator;

impl Count for Allocator {
    fn now(&self) -> usize {
        ALLOCATOR.current_usage()
    }

    fn peak(&self) -> usize {
        ALLOCATOR.peak_usage()
    }

    fn reset(&self) {
        ALLOCATOR.reset_peak_usage();
    }
}

fn main() -> Result<()> {
    let seed = std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse())?;
    println!("{}", serde_json::to_string(&measure(seed, &Allocator)?)?);
    Ok(())
}
