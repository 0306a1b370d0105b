#![no_main]

// The frames are private, so the check is in the library, compiled for fuzzing only.
libfuzzer_sys::fuzz_target!(|data: &[u8]| libp2p_websocket_star::fuzz_websocket(data));
