//! A page that is a libp2p node: it joins a rendezvous, finds the others there, chats with them and exchanges files.
#![cfg(target_arch = "wasm32")]

mod actions;
mod app;
mod behaviours;
mod chat;
mod dom;
mod node;
mod peers;
mod store;
mod tasks;
mod text;
mod transfer;
mod transfers;

use wasm_bindgen::prelude::*;

/// Runs the page until it is closed.
#[wasm_bindgen]
pub async fn run() -> Result<(), JsError> {
    std::panic::set_hook(Box::new(|panic| dom::complain(&panic.to_string())));
    let app = app::App::start().await;
    app.map_err(|error| JsError::new(&error.to_string()))?
        .run()
        .await;
    Ok(())
}
