//! What the browser reports about the network and the page.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
};

use js_sys::Reflect;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{Event, EventTarget};

use crate::runtime::Changed;

/// Events of pages and workers.
const OF_ALL: [&str; 2] = ["online", "offline"];
/// Events of the window of a page.
const OF_THE_WINDOW: [&str; 1] = ["pageshow"];
/// Events of the page's document.
const OF_THE_DOCUMENT: [&str; 2] = ["visibilitychange", "resume"];

/// Reports when an open link may be lost, or when a link may be possible again: the network comes or goes, the page
/// becomes visible, or it continues after a freeze.
#[derive(Default)]
pub(crate) struct Changes(Option<Subscription>);

struct Subscription {
    news: Rc<News>,
    handler: Closure<dyn FnMut(Event)>,
    subscribed: Vec<(EventTarget, &'static str)>,
}

#[derive(Default)]
struct News {
    latest: Cell<Option<Changed>>,
    waker: RefCell<Option<Waker>>,
}

impl News {
    fn tell(&self, change: Changed) {
        // A change of the network says more than the others, so it is not overwritten.
        if self.latest.get() != Some(Changed::Network) {
            self.latest.set(Some(change));
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Changes {
    /// Returns what has changed since the last call. The task is woken for the next change.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Changed> {
        let subscription = self.0.get_or_insert_with(Subscription::new);
        let mut waker = subscription.news.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        subscription.news.latest.take()
    }
}

impl Subscription {
    fn new() -> Self {
        let global = js_sys::global();
        let document = document();
        let news = Rc::<News>::default();
        let this = news.clone();
        let handler = Closure::<dyn FnMut(Event)>::new(move |event: Event| {
            let change = match &*event.type_() {
                // There is no reason to hurry when a page is hidden.
                "visibilitychange" if is_hidden() => return,
                "visibilitychange" => Changed::Shown,
                _ => Changed::Network,
            };
            this.tell(change);
        });
        let mut subscription = Self {
            news,
            handler,
            subscribed: Vec::new(),
        };
        subscription.subscribe(&global, &OF_ALL);
        if !document.is_undefined() {
            subscription.subscribe(&global, &OF_THE_WINDOW);
            subscription.subscribe(&document, &OF_THE_DOCUMENT);
        }
        subscription
    }

    fn subscribe(&mut self, target: &JsValue, events: &[&'static str]) {
        let Some(target) = target.dyn_ref::<EventTarget>() else {
            return;
        };
        let handler = self.handler.as_ref().unchecked_ref();
        for event in events {
            if target
                .add_event_listener_with_callback(event, handler)
                .is_ok()
            {
                self.subscribed.push((target.clone(), event));
            }
        }
    }
}

/// Returns the document. A worker has none.
fn document() -> JsValue {
    Reflect::get(&js_sys::global(), &"document".into()).unwrap_or_default()
}

/// Returns whether this is a hidden page. The timers of a hidden page are a second late or more.
pub(crate) fn is_hidden() -> bool {
    let hidden = Reflect::get(&document(), &"hidden".into());
    hidden.is_ok_and(|hidden| hidden.is_truthy())
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let handler = self.handler.as_ref().unchecked_ref();
        for (target, event) in &self.subscribed {
            // The listener was added, so removing it cannot fail.
            let _ = target.remove_event_listener_with_callback(event, handler);
        }
    }
}
