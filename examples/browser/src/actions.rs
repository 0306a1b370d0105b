//! The actions of the person at the page.

use futures::channel::mpsc;
use libp2p::PeerId;
use wasm_bindgen::{JsCast as _, prelude::*};
use web_sys::{Element, Event, File, HtmlInputElement};

use crate::dom::{by_id, copy, document};

pub enum Action {
    /// Sends a chat message to everybody.
    Say(String),
    Send(PeerId, File),
    Accept(u64),
    Decline(u64),
    Cancel(u64),
    Remove(u64),
}

/// The most actions that may wait. A person does not reach that number.
const WAITING: usize = 64;

/// Listens for all actions as long as the page lives.
pub fn listen() -> mpsc::Receiver<Action> {
    let (sender, actions) = mpsc::channel(WAITING);
    let on = |kind: &str, act: fn(&Event) -> Option<Action>| {
        let mut sender = sender.clone();
        let heard = Closure::<dyn FnMut(Event)>::new(move |event: Event| {
            if let Some(action) = act(&event) {
                // The send fails only if the page's task has stopped. It reports that itself.
                let _ = sender.try_send(action);
            }
        });
        let target = document();
        let added = target.add_event_listener_with_callback(kind, heard.as_ref().unchecked_ref());
        added.expect("a document has events");
        // The listener stays for as long as the page lives.
        heard.forget();
    };
    on("click", clicked);
    on("change", changed);
    on("submit", submitted);
    actions
}

fn clicked(event: &Event) -> Option<Action> {
    let target: Element = event.target()?.dyn_into().ok()?;
    let button = target.closest("button[data-do]").ok()??;
    let what = button.get_attribute("data-do")?;
    if what == "copy" {
        copy(button);
        return None;
    }
    let row = button.closest("[data-id]").ok()??;
    let id = row.get_attribute("data-id")?.parse().ok()?;
    match what.as_str() {
        "accept" => Some(Action::Accept(id)),
        "decline" => Some(Action::Decline(id)),
        "cancel" => Some(Action::Cancel(id)),
        "remove" => Some(Action::Remove(id)),
        _ => None,
    }
}

/// Handles the choice of a file beside a peer.
fn changed(event: &Event) -> Option<Action> {
    let input: HtmlInputElement = event.target()?.dyn_into().ok()?;
    let peer = input.get_attribute("data-peer")?.parse().ok()?;
    let file = input.files()?.get(0)?;
    // Clear the input, so that the same file can be chosen again.
    input.set_value("");
    Some(Action::Send(peer, file))
}

fn submitted(event: &Event) -> Option<Action> {
    let form: Element = event.target()?.dyn_into().ok()?;
    if form.id() != "say" {
        return None;
    }
    event.prevent_default();
    let words = by_id("words").dyn_into::<HtmlInputElement>().ok()?.value();
    let words = words.trim();
    (!words.is_empty()).then(|| Action::Say(words.to_owned()))
}
