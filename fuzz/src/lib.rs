//! What the fuzz targets share: a body runs under libFuzzer, guided by coverage, or blindly where there is no C++ compiler
//! to build libFuzzer with. `cargo xtask fuzz` says which it was.

pub mod blind;
#[cfg(feature = "libfuzzer")]
pub use libfuzzer_sys;

/// The program of a target: `warmpath_fuzz::target!(|input| ...)`, once, in a file that starts with
/// `#![cfg_attr(feature = "libfuzzer", no_main)]`.
#[macro_export]
macro_rules! target {
    ($body:expr) => {
        #[cfg(feature = "libfuzzer")]
        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| {
            let body: fn(&[u8]) = $body;
            body(input)
        });

        #[cfg(not(feature = "libfuzzer"))]
        fn main() -> std::process::ExitCode {
            $crate::blind::main($body)
        }
    };
}
