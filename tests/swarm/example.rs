//! Runs an example as a user runs it.

use std::process::Stdio;

use tokio::process::Command;

/// Returns the command of an example with piped standard input and output. The process is killed when it is dropped.
///
/// Cargo builds the examples together with the tests, and puts them beside the folder of the tests.
pub fn command(name: &str) -> Command {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("the folder of the profile");
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = profile.join("examples").join(file);
    assert!(
        path.exists(),
        "no example at {}: `cargo test` builds it unless targets are named; build it with \
         `cargo build --all-features --example {name}`",
        path.display()
    );
    let mut command = Command::new(path);
    command
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}
