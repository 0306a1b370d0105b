//! The smallest libp2p node that is of use in a page: ping, identify and streams over star, with noise and yamux. Its size is
//! measured, and how fast it is. With the feature `raw` there is the transport alone, too.
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
    /// Joins a rendezvous, and connects to the peer at this address, with noise and yamux.
    pub async fn start(rendezvous: String, peer: String) -> Result<Node> {
        let swarm = Swarm::start(rendezvous.parse()?, peer.parse()?).await?;
        Ok(Self(Kind::Swarm(swarm)))
    }

    /// The same with the transport alone, which has one connection for each measurement.
    #[cfg(feature = "raw")]
    #[wasm_bindgen(js_name = startRaw)]
    pub async fn start_raw(rendezvous: String, peer: String) -> Result<Node> {
        let raw = Raw::start(rendezvous.parse()?, peer.parse()?).await?;
        Ok(Self(Kind::Raw(raw)))
    }

    /// How many milliseconds it takes to send so many bytes, until the peer has read them all.
    pub async fn up(&self, bytes: u32) -> Result<f64> {
        Ok(measure::up(self.open().await?, bytes).await?)
    }

    /// How many milliseconds it takes to receive so many bytes.
    pub async fn down(&self, bytes: u32) -> Result<f64> {
        Ok(measure::down(self.open().await?, bytes).await?)
    }

    /// How many milliseconds it takes to have 64 bytes there and back so many times, one after the other.
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

/// For errors that are no errors of std.
fn error(error: impl Display) -> JsError {
    JsError::new(&error.to_string())
}
