//! Compiles the contract with `protox`, a protobuf compiler in Rust: nobody has to install `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "proto/warmpath/v1/indexer.proto";
    println!("cargo:rerun-if-changed={file}");
    let descriptors = protox::compile([file], ["proto"])?;
    let service = std::env::var_os("CARGO_FEATURE_SERVICE").is_some();
    tonic_prost_build::configure().build_client(service).build_server(service).compile_fds(descriptors)?;
    Ok(())
}
