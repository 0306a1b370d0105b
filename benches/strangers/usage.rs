//! The usage of the command line.

use std::io;

pub const USAGE: &str = "\
cargo bench --bench strangers -- [options]
  --quick            a tenth of the links and of the limits that go with them, and shorter windows
  --honest <n>       how many honest links there are; default 5000, quick 500
  --window <s>       how long each row is measured; default 20, quick 6
  --only <name>      only the attacks whose name contains this; may be repeated
  --family <name>    only attackers of \"v4\" or \"v6\"
  --check            ends with an error if a bound is exceeded";

pub fn usage() -> io::Error {
    io::Error::other(USAGE)
}

pub fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(|_| usage())
}
