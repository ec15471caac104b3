//! The parts of the benchmarks that more than one of their programs needs: figures, and the index benchmark.

pub mod figures;
pub mod index;
