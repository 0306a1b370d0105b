//! The node, and the choice of the rendezvous that it joins.

use std::{error::Error, time::Duration};

use libp2p::{Swarm, SwarmBuilder};
use libp2p_websocket_star::{Config, Limits, StarAddr, preset::Star};
use wasm_bindgen::JsCast as _;
use wasm_bindgen_futures::JsFuture;
use web_sys::{HtmlInputElement, Response, UrlSearchParams};

use crate::{behaviours::Behaviours, dom::by_id};

/// The time after which an idle connection is closed.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// The most peers that are remembered, shown or not.
const PEERS: usize = 1024;

/// Makes a node with a new key. Each page is therefore a new peer.
pub fn swarm() -> Result<Swarm<Behaviours>, Box<dyn Error>> {
    let limits = Limits::default().with_known_peers(PEERS);
    let star = Star::new(Config::default().with_limits(limits));
    let swarm = SwarmBuilder::with_new_identity()
        .with_wasm_bindgen()
        .with_other_transport(|key| star.transport(key))?
        .with_behaviour(|key| Behaviours::new(key, star.behaviour()?))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    Ok(swarm)
}

/// Returns the rendezvous in the page's URL (`?rendezvous=…`), or else the one that the page's server names. Returns
/// `None` if there is neither.
///
/// # Errors
/// If the text is not the address of a rendezvous.
pub async fn rendezvous() -> Result<Option<StarAddr>, libp2p_websocket_star::error::AddressError> {
    let text = match asked() {
        Some(text) => text,
        None => match told().await {
            Some(text) => text,
            None => return Ok(None),
        },
    };
    if let Ok(input) = by_id("rendezvous").dyn_into::<HtmlInputElement>() {
        input.set_value(&text);
    }
    text.parse().map(Some)
}

fn asked() -> Option<String> {
    let search = web_sys::window()?.location().search().ok()?;
    let search = UrlSearchParams::new_with_str(&search).ok()?;
    search.get("rendezvous").filter(|text| !text.is_empty())
}

async fn told() -> Option<String> {
    let response = web_sys::window()?.fetch_with_str("rendezvous");
    let response: Response = JsFuture::from(response).await.ok()?.dyn_into().ok()?;
    if !response.ok() {
        return None;
    }
    JsFuture::from(response.text().ok()?)
        .await
        .ok()?
        .as_string()
}
