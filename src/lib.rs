//! websocket-star for rust-libp2p.
