//! Search in the memory of another process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// The texts that occur in the writable memory of the process: heap, stacks and variables.
pub(crate) fn found<'a>(process: u32, texts: &[&'a str]) -> Vec<&'a str> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let writable = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|it| it.starts_with("rw")));
    let mut found = Vec::new();
    let mut searched = 0;
    for line in writable {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // The region may have been unmapped since it was listed.
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        searched += bytes.len();
        for (place, byte) in bytes.iter().enumerate() {
            // All texts begin with one of these characters.
            if *byte == b'~' || *byte == b'f' {
                found.extend(texts.iter().filter(|text| bytes[place..].starts_with(text.as_bytes())));
            }
        }
    }
    assert!(searched > 1024 * 1024, "{searched} bytes were searched");
    found.sort_unstable();
    found.dedup();
    found
}
