//! Checks a plugin configuration with the filter's own parser: `cargo xtask check-config FILE` runs it.
//!
//! The filter itself never refuses to start over its configuration (that would stop Envoy), so this is where one
//! learns of a mistake before it is applied.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("usage: check-plugin-config FILE");
        return ExitCode::FAILURE;
    };
    let checked = std::fs::read(&file)
        .map_err(|error| error.to_string())
        .and_then(|json| warmpath_filter::config::parse(&json).map_err(|error| error.to_string()));
    match checked {
        Ok(config) => {
            println!("{config:?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}
