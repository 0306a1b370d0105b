//! Options that a test changes from their defaults.

use std::time::Duration;

use js_sys::Reflect;
use libp2p::Multiaddr;
use libp2p_websocket_star::Config;
use wasm_bindgen::JsValue;

use crate::behaviours::text;

/// A JavaScript object: `connect`, `dial` and `holdUp` are times in seconds, `token` is the token for the rendezvous.
pub struct Options(JsValue);

impl Options {
    pub fn new(object: &JsValue) -> Self {
        Self(object.clone())
    }

    fn time(&self, name: &str) -> Option<Duration> {
        // There may be no object.
        let seconds = Reflect::get(&self.0, &name.into()).ok()?.as_f64()?;
        Some(Duration::from_secs_f64(seconds))
    }

    fn token(&self) -> Option<String> {
        Reflect::get(&self.0, &"token".into()).ok()?.as_string()
    }

    /// Returns a configuration with these options. It opens a lost link again soon.
    pub fn config(&self, rendezvous: &Multiaddr) -> Result<Config, String> {
        let mut config = Config::default()
            .with_allow_local_rendezvous(true)
            .with_backoff(Duration::from_millis(50), Duration::from_secs(60));
        if let Some(time) = self.time("connect") {
            config = config.with_connect_timeout(time);
        }
        if let Some(time) = self.time("dial") {
            config = config.with_dial_timeout(time);
        }
        if let Some(time) = self.time("holdUp") {
            config = config.with_hold_up_timeout(time);
        }
        match self.token() {
            Some(token) => config.with_token(rendezvous.clone(), token).map_err(text),
            None => Ok(config),
        }
    }
}
