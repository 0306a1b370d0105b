//! What the browser tells of the network and of the page.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
};

use js_sys::Reflect;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{Event, EventTarget};

use crate::runtime::Changed;

/// Told to pages and workers.
const OF_ALL: [&str; 2] = ["online", "offline"];
/// Told to the window of a page.
const OF_THE_WINDOW: [&str; 1] = ["pageshow"];
/// Told to its document.
const OF_THE_DOCUMENT: [&str; 2] = ["visibilitychange", "resume"];

/// Tells when a link that was there may be gone, or one that was not could be opened: the network has come or gone, or the
/// page is shown again, or goes on after it was frozen.
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
        // The one that says more stays.
        if self.latest.get() != Some(Changed::Network) {
            self.latest.set(Some(change));
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Changes {
    /// What has changed since it was asked last. The task is woken for the next one.
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
                // A page that is hidden is no reason to hurry.
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

/// A worker has none.
fn document() -> JsValue {
    Reflect::get(&js_sys::global(), &"document".into()).unwrap_or_default()
}

/// Whether this is a page that nobody sees: its timers are a second late or more.
pub(crate) fn is_hidden() -> bool {
    let hidden = Reflect::get(&document(), &"hidden".into());
    hidden.is_ok_and(|hidden| hidden.is_truthy())
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let handler = self.handler.as_ref().unchecked_ref();
        for (target, event) in &self.subscribed {
            // It was there, so it can be taken away.
            let _ = target.remove_event_listener_with_callback(event, handler);
        }
    }
}
