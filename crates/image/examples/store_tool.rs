//! What the benches and the crash tests run as a process of its own.
//!
//! `extract ARCHIVE DIR` unpacks one layer; `load ROOT ARCHIVE`, `remove ROOT NAME` and `resolve ROOT NAME` work on a store.

use std::path::Path;
use std::time::Instant;

use fluyt_image::remove::nobody;
use fluyt_image::{Limits, Silent, Store};
use fluyt_model::{Error, Result};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Err(e) = run(&words) {
        eprintln!("{}", e.chain());
        std::process::exit(1);
    }
}

fn run(words: &[&str]) -> Result<()> {
    let open = |path: &str| std::fs::File::open(path).map_err(|e| Error::io(path, e));
    match words {
        ["extract", archive, dir] => {
            let (digest, _) = fluyt_image::layer::unpack::extract_archive(
                open(archive)?,
                Path::new(dir),
                Limits::default(),
            )?;
            println!("{digest}");
        }
        ["load", root, archive] => {
            for loaded in Store::open(Path::new(root))?.load(open(archive)?, None, &Silent)? {
                println!("{loaded}");
            }
        }
        ["remove", root, name] => {
            for removed in Store::open(Path::new(root))?.remove_image(name, false, &nobody)? {
                println!("{removed}");
            }
        }
        ["resolve", root, name] => {
            let start = Instant::now();
            let store = Store::open(Path::new(root))?;
            let opened = start.elapsed();
            let image = store.resolve(name)?;
            let lowers = store.snapshot_lowers(&image);
            let all = start.elapsed();
            println!("{} lowers, open {} us, all {} us", lowers.len(), opened.as_micros(), all.as_micros());
        }
        _ => {
            return Err(Error::invalid(
                "extract ARCHIVE DIR | load ROOT ARCHIVE | remove ROOT NAME | resolve ROOT NAME",
            ));
        }
    }
    Ok(())
}
