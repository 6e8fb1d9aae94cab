//! The repository obeys its own rules.
#![forbid(unsafe_code)]

use std::path::Path;

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let report = fluyt_xtask::tidy::check(&root).expect("the repository can be read");
    assert!(report.problems.is_empty(), "{}\n{}", report.figures(), report.problems.join("\n"));
}
