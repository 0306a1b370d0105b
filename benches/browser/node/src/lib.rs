//! The smallest useful libp2p node for a page: ping, identify and streams over star, with noise and yamux. The
//! benchmark measures its size and its speed. The feature `raw` adds the transport alone.
#![cfg(target_arch = "wasm32")]

mod behaviours;
mod measure;
#[cfg(feature = "raw")]
mod raw;
mod request;
mod swarm;

use std::fmt::Display;

use wasm_bindgen::prelude::*;

#[cfg(feature = "raw")]
use crate::raw::Raw;
use crate::{measure::Stream, swarm::Swarm};

type Result<T, E = JsError> = std::result::Result<T, E>;

/// A node that is connected to a peer.
#[wasm_bindgen]
pub struct Node(Kind);

enum Kind {
    Swarm(Swarm),
    #[cfg(feature = "raw")]
    Raw(Raw),
}

#[wasm_bindgen]
impl Node {
    /// Joins a rendezvous, and connects to the peer at this address with noise and yamux.
    pub async fn start(rendezvous: String, peer: String) -> Result<Node> {
        let swarm = Swarm::start(rendezvous.parse()?, peer.parse()?).await?;
        Ok(Self(Kind::Swarm(swarm)))
    }

    /// Does the same with the transport alone, which uses a new connection for each measurement.
    #[cfg(feature = "raw")]
    #[wasm_bindgen(js_name = startRaw)]
    pub async fn start_raw(rendezvous: String, peer: String) -> Result<Node> {
        let raw = Raw::start(rendezvous.parse()?, peer.parse()?).await?;
        Ok(Self(Kind::Raw(raw)))
    }

    /// Returns the time in milliseconds to send `bytes` bytes, until the peer has read all of them.
    pub async fn up(&self, bytes: u32) -> Result<f64> {
        Ok(measure::up(self.open().await?, bytes).await?)
    }

    /// Returns the time in milliseconds to receive `bytes` bytes.
    pub async fn down(&self, bytes: u32) -> Result<f64> {
        Ok(measure::down(self.open().await?, bytes).await?)
    }

    /// Returns the time in milliseconds for `count` round trips of 64 bytes, one after the other.
    #[wasm_bindgen(js_name = roundTrips)]
    pub async fn round_trips(&self, count: u32) -> Result<f64> {
        Ok(measure::round_trips(self.open().await?, count).await?)
    }
}

impl Node {
    async fn open(&self) -> Result<Stream> {
        match &self.0 {
            Kind::Swarm(swarm) => swarm.open().await,
            #[cfg(feature = "raw")]
            Kind::Raw(raw) => raw.open().await,
        }
    }
}

/// Converts errors that do not implement the `Error` trait of std.
fn error(error: impl Display) -> JsError {
    JsError::new(&error.to_string())
}
