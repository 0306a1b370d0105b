//! This library is empty: see `tests/`.
