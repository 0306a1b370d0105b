//! Replays the corpus of the fuzz targets.

use std::{fs, path::PathBuf};

#[path = "../../fuzz/checks.rs"]
mod checks;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(folder).expect("a corpus") {
        let input = fs::read(entry.expect("an entry").path()).expect("an input");
        // Replay each input as a whole, and cut short in many places.
        for len in (0..input.len()).step_by(1 + input.len() / 256) {
            check(&input[..len]);
        }
        check(&input);
        replayed += 1;
    }
    assert!(replayed > 0, "the corpus of {target} is empty");
}

#[test]
fn frames() {
    replay("frames", checks::frames);
}

#[test]
fn sessions() {
    replay("session", checks::session);
}

#[test]
fn pairs() {
    replay("pair", checks::pair);
}

#[test]
fn secio() {
    replay("secio", checks::secio);
}
