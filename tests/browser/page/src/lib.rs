//! A libp2p node that a driver tells what to do, in a page or a worker.
#![cfg(target_arch = "wasm32")]

mod behaviours;
mod node;

use wasm_bindgen::prelude::*;

use crate::node::Handle;

/// A running node.
#[wasm_bindgen]
pub struct Node(Handle);

#[wasm_bindgen]
impl Node {
    /// Listens at a rendezvous, and waits until it has joined.
    pub async fn start(rendezvous: String) -> Result<Node, JsError> {
        Ok(Self(Handle::start(&rendezvous).await.map_err(error)?))
    }

    pub fn peer(&self) -> String {
        self.0.peer().to_string()
    }

    /// What has happened so far, a line each.
    pub fn events(&self) -> Vec<String> {
        self.0.events()
    }

    /// Connects to a peer.
    pub async fn dial(&self, address: String) -> Result<(), JsError> {
        self.0.dial(&address).await.map_err(error)
    }

    /// Sends so many bytes to a peer that echoes, and checks what comes back. Gives the milliseconds that it took.
    pub async fn echo(&self, peer: String, bytes: usize) -> Result<f64, JsError> {
        self.0.echo(&peer, bytes).await.map_err(error)
    }
}

fn error(error: String) -> JsError {
    JsError::new(&error)
}
