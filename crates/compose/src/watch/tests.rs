//! What is watched, and what is done about changes, on real directories; no container is needed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;
use crate::load::{Environment, Options};

/// Files of a test.
struct Files(Vec<(&'static str, &'static str)>);

impl Source for Files {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    fn is_file(&self, path: &Path) -> bool {
        self.0.iter().any(|(name, _)| Path::new(name) == path)
    }

    fn is_directory(&self, _: &Path) -> bool {
        false
    }
}

fn loaded(files: &Files) -> Project {
    let options = Options::new("/p", Environment::new());
    crate::load(&options, files).unwrap()
}

const SHOP: &str = "
services:
  web:
    build: ./web
    develop:
      watch:
        - {action: sync, path: ./web/src, target: /app/src, ignore: [node_modules/, '*.log']}
        - {action: rebuild, path: ./web/package.json}
        - {action: sync+restart, path: ./web/etc, target: /etc/web/, include: '*.conf'}
        - {action: sync+exec, path: ./web/one.txt, target: /data/, exec: {command: reload}}
  plain:
    image: box
    volumes: ['./plain:/plain']
    develop: {watch: [{action: sync, path: ./plain/x, target: /x}, {action: restart, path: ./web/src}]}
";

fn all(paths: &[&str]) -> Batch {
    let files =
        Files(vec![("/p/compose.yaml", SHOP), ("/p/web/.dockerignore", "src/secret\n!src/secret/not\n")]);
    let (rules, warnings) = rules(&loaded(&files), &[], &files).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    batch(&rules, &paths)
}

fn places(batch: &Batch, service: &str) -> Vec<String> {
    batch.sync.get(service).into_iter().flatten().map(|m| m.container.clone()).collect()
}

#[test]
fn changes_become_work_by_the_rules() {
    let found = all(&["/p/web/src/a.js", "/p/web/src/deep/b.js"]);
    assert_eq!(places(&found, "web"), ["/app/src/a.js", "/app/src/deep/b.js"]);
    assert!(found.rebuild.is_empty() && found.exec.is_empty());
    assert_eq!(found.restart.iter().collect::<Vec<_>>(), ["plain"]);
    let found = all(&["/p/web/package.json"]);
    assert_eq!(found.rebuild.iter().collect::<Vec<_>>(), ["web"]);
    assert!(found.sync.is_empty());
    let found = all(&["/p/web/etc/a.conf", "/p/web/etc/a.txt"]);
    assert_eq!(places(&found, "web"), ["/etc/web/a.conf"]);
    assert_eq!(found.restart.iter().collect::<Vec<_>>(), ["web"]);
    let found = all(&["/p/web/one.txt"]);
    assert_eq!(places(&found, "web"), ["/data/one.txt"], "a file into a directory");
    assert_eq!(found.exec.len(), 1);
}

#[test]
fn what_is_left_out_asks_for_nothing() {
    let found = all(&[
        "/p/web/src/node_modules/x/index.js",
        "/p/web/src/a.log",
        "/p/web/src/.a.js.swp",
        "/p/web/src/a.js~",
        "/p/web/src/.git/index",
        "/p/web/src/secret/key",
        "/p/web/other",
        "/elsewhere",
    ]);
    assert_eq!(places(&found, "web"), Vec::<String>::new());
    assert_eq!(places(&all(&["/p/web/src/secret/not"]), "web"), ["/app/src/secret/not"]);
}

#[test]
fn directories_that_no_rule_is_about_are_not_looked_into() {
    let files = Files(vec![(
        "/p/compose.yaml",
        "services: {a: {image: b, develop: {watch: [{action: sync, path: ., target: /t, ignore: [node_modules/]}]}}}",
    )]);
    let (rules, _) = rules(&loaded(&files), &[], &files).unwrap();
    assert!(skipped(&rules, Path::new("/p/node_modules")));
    assert!(skipped(&rules, Path::new("/p/.git")));
    assert!(!skipped(&rules, Path::new("/p/src")));
    assert!(!skipped(&rules, Path::new("/")));
}

#[test]
fn rules_that_cannot_be_followed_are_refused() {
    for (watch, why) in [
        ("{action: rebuild, path: .}", "without a build context"),
        ("{action: sync, path: .}", "sync needs a target"),
        ("{action: sync, path: ., target: app}", "has no target in the container"),
        ("{action: sync+exec, path: ., target: /t}", "no command"),
        ("{action: restart, path: ., ignore: ['[']}", "pattern"),
    ] {
        let text = format!("services: {{a: {{image: b, develop: {{watch: [{watch}]}}}}}}");
        let files = Files(vec![("/p/compose.yaml", text.leak())]);
        let error = crate::load(&Options::new("/p", Environment::new()), &files)
            .and_then(|project| rules(&project, &[], &files))
            .unwrap_err()
            .chain();
        assert!(error.contains(why), "{watch}: {error}");
    }
    let files = Files(vec![("/p/compose.yaml", "services: {a: {image: b}}")]);
    let error = rules(&loaded(&files), &[], &files).unwrap_err().to_string();
    assert!(error.contains("none of the selected services is configured for watch"), "{error}");
}

#[test]
fn changes_are_gathered_until_it_is_quiet_but_not_for_ever() {
    let mut debounce = Debounce::default();
    let start = Instant::now();
    assert_eq!(debounce.left(start), None);
    debounce.changed(start);
    assert_eq!(debounce.left(start), Some(QUIET));
    let later = start + QUIET / 2;
    debounce.changed(later);
    assert_eq!(debounce.left(later), Some(QUIET), "each change begins the wait anew");
    assert_eq!(debounce.left(later + QUIET), Some(Duration::ZERO));
    debounce.changed(start + PATIENCE);
    assert_eq!(debounce.left(start + PATIENCE), Some(Duration::ZERO));
    debounce.reset();
    assert_eq!(debounce.left(start), None);
}
