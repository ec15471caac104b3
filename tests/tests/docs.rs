//! What the documents name exists: a path in backticks or behind a link is a file or folder of the repository.

use std::path::Path;

/// Folders and files at the top whose mention means a path of the repository.
const ROOTS: [&str; 14] = [
    "core/",
    "proto/",
    "filter/",
    "indexer-sidecar/",
    "simulator/",
    "harness/",
    "tests/",
    "demo/",
    "bench/",
    "fuzz/",
    "envoy/",
    "envoyfilter/",
    "istio/",
    "xtask/",
];

fn paths(text: &str) -> impl Iterator<Item = &str> {
    let plain = |name: &&str| !name.contains([' ', '*', '{', '<', '\n']) && !name.starts_with("http");
    let quoted = text.split('`').skip(1).step_by(2);
    let quoted = quoted.filter(|name| ROOTS.iter().any(|root| name.starts_with(root)));
    let linked = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    quoted.chain(linked.filter(|name| !name.starts_with('#'))).filter(plain)
}

#[test]
fn paths_that_documents_name_exist() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seen = 0;
    for document in ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md", "istio/README.md"] {
        let text = std::fs::read_to_string(top.join(document)).expect(document);
        let beside = top.join(document).parent().expect("a file is in a folder").to_owned();
        for path in paths(&text) {
            let path = path.split('#').next().unwrap_or(path);
            assert!(
                top.join(path).exists() || beside.join(path).exists(),
                "{document} names {path}, which does not exist"
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} paths found: the search is broken");
}
