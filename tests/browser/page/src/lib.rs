//! libp2p nodes in a page or a worker, controlled by a driver.
#![cfg(target_arch = "wasm32")]

mod behaviours;
mod node;
mod options;
mod raw;

use wasm_bindgen::prelude::*;

use crate::{node::Handle, options::Options};

/// A running node.
#[wasm_bindgen]
pub struct Node(Handle);

#[wasm_bindgen]
impl Node {
    /// Listens at a rendezvous, and waits until it has joined.
    pub async fn start(rendezvous: String, options: JsValue) -> Result<Node, JsError> {
        let options = Options::new(&options);
        Ok(Self(
            Handle::start(&rendezvous, &options).await.map_err(error)?,
        ))
    }

    pub fn peer(&self) -> String {
        self.0.peer().to_string()
    }

    /// Returns the events so far, one line each.
    pub fn events(&self) -> Vec<String> {
        self.0.events()
    }

    /// Returns the number of polls of the swarm.
    pub fn polls(&self) -> f64 {
        self.0.polls() as f64
    }

    /// Connects to a peer.
    pub async fn dial(&self, address: String) -> Result<(), JsError> {
        self.0.dial(&address).await.map_err(error)
    }

    /// Sends that many bytes to a peer that echoes, and checks what comes back. Returns the time in milliseconds.
    pub async fn echo(&self, peer: String, bytes: f64) -> Result<f64, JsError> {
        self.0.echo(&peer, bytes as u64).await.map_err(error)
    }
}

/// A transport without a swarm.
#[wasm_bindgen]
pub struct Raw(raw::Raw);

#[wasm_bindgen]
impl Raw {
    /// Starts to listen at a rendezvous.
    pub fn start(rendezvous: String, options: JsValue) -> Result<Raw, JsError> {
        let options = Options::new(&options);
        Ok(Self(raw::Raw::start(&rendezvous, &options).map_err(error)?))
    }

    /// Returns the next event of the listener as a line.
    pub async fn event(&self) -> Option<String> {
        self.0.event().await
    }

    pub async fn dial(&self, address: String) -> Result<Connection, JsError> {
        let dialled = self.0.dial(&address).await.map_err(error)?;
        Ok(Connection(dialled))
    }

    pub async fn accept(&self) -> Result<Connection, JsError> {
        let accepted = self.0.accept().await.map_err(error)?;
        Ok(Connection(accepted))
    }
}

/// A connection without an upgrade.
#[wasm_bindgen]
pub struct Connection(raw::Connection);

#[wasm_bindgen]
impl Connection {
    /// Writes that many bytes.
    pub async fn write(&self, bytes: f64) -> Result<(), JsError> {
        self.0.write(bytes as u64).await.map_err(error)
    }

    /// Ends this node's direction.
    pub async fn end(&self) -> Result<(), JsError> {
        self.0.end().await.map_err(error)
    }

    /// Reads that many bytes, or up to the end. Returns their number.
    pub async fn read(&self, bytes: f64) -> Result<f64, JsError> {
        let read = self.0.read(bytes as u64).await.map_err(error)?;
        Ok(read as f64)
    }

    /// Echoes until the end.
    pub async fn echo(&self) -> Result<(), JsError> {
        self.0.echo().await.map_err(error)
    }

    /// Drops the connection, which resets it.
    pub fn reset(self) {}
}

/// Returns the size of the module's memory in bytes.
#[wasm_bindgen]
pub fn memory_bytes() -> f64 {
    let memory = wasm_bindgen::memory().unchecked_into::<js_sys::WebAssembly::Memory>();
    let buffer = memory.buffer().unchecked_into::<js_sys::ArrayBuffer>();
    f64::from(buffer.byte_length())
}

fn error(error: String) -> JsError {
    JsError::new(&error)
}
