//! Runs the checks of the fuzz targets on the corpus (`fuzz/corpus`).
//!
//! `tests/fuzz` runs the fuzzer to extend the corpus.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::checks;

/// Runs a check on each file of its corpus, and lists the files at which it panics.
fn replay(name: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert!(!files.is_empty(), "{} has no files", corpus.display());
    let panics = |path: &&std::path::PathBuf| {
        let input = fs::read(path).unwrap();
        catch_unwind(AssertUnwindSafe(|| check(&input))).is_err()
    };
    let faulty = files.iter().filter(panics).collect::<Vec<_>>();
    assert!(faulty.is_empty(), "{faulty:#?}");
}

macro_rules! corpora {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name), checks::$name::check);
            }
        )*

        /// A target without a replay would not be noticed when it breaks.
        #[test]
        fn every_fuzz_target_is_replayed() {
            let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
            let mut names: Vec<String> = fs::read_dir(targets).unwrap().map(|entry| {
                entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()
            }).collect();
            names.sort();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

corpora! { bearer_token callback_url jwks request_body request_head settings vendor_answer }
