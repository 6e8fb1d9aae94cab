//! Dockerfiles of the kinds that well-known projects have, in our own words: they plan, and no check complains of what
//! is right in them. `fluyt/tests/e2e/build_real.rs` builds some kinds for real.
#![forbid(unsafe_code)]

mod common;

use common::{options, planned_with};
use fluyt_build::ignore::Ignore;
use fluyt_build::plan::Options;

/// Name, text, how many steps the result needs, findings.
const KINDS: &[(&str, &str, usize, &[&str])] = &[
    ("go", include_str!("kinds/go.Dockerfile"), 10, &[]),
    ("node", include_str!("kinds/node.Dockerfile"), 11, &[]),
    ("python", include_str!("kinds/python.Dockerfile"), 10, &[]),
    ("rust", include_str!("kinds/rust.Dockerfile"), 11, &[]),
    ("java", include_str!("kinds/java.Dockerfile"), 14, &[]),
    ("nginx", include_str!("kinds/nginx.Dockerfile"), 4, &[]),
    // The old form of ENV is what that project has.
    ("postgres", include_str!("kinds/postgres.Dockerfile"), 7, &["LegacyKeyValueFormat"]),
    ("redis", include_str!("kinds/redis.Dockerfile"), 8, &[]),
    ("ruby", include_str!("kinds/ruby.Dockerfile"), 10, &[]),
    ("php", include_str!("kinds/php.Dockerfile"), 9, &[]),
];

#[test]
fn usual_files_plan_without_complaints() {
    let mut wrong = Vec::new();
    for (name, text, steps, findings) in KINDS {
        let options = Options { all_stages: true, ..options() };
        let (planned, warnings) = planned_with(text, &options, &Ignore::default(), |_, _| {});
        let mut rules: Vec<&str> = warnings.iter().map(|w| w.rule.name()).collect();
        rules.dedup();
        match planned {
            Err(fault) => wrong.push(format!("{name}: {fault}")),
            Ok(plan) => {
                let needed = plan.graph.needed(&plan.result).into_iter().filter(|n| *n).count();
                if needed != *steps || rules != *findings {
                    wrong.push(format!("{name}: {needed} steps, {rules:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
