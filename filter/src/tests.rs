//! The state machines against the mock host: every phase, every row of failure, and random callback sequences.

mod assets;
mod clock;
mod failures;
mod line;
mod random;
mod reports;
mod steering;
