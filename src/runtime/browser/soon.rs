//! A wake-up in the next task of the browser's queue.

use std::{cell::RefCell, rc::Rc, time::Duration};

use futures::channel::oneshot;
use futures_timer::Delay;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use wasm_bindgen_futures::spawn_local;
use web_sys::MessageChannel;

thread_local! {
    static MESSAGES: Option<Messages> = Messages::new();
}

/// Resolves in the browser's next task. That is immediate even in a hidden page, whose timers are a second late or
/// more.
pub(crate) fn soon() -> oneshot::Receiver<()> {
    let (tell, told) = oneshot::channel();
    MESSAGES.with(|messages| match messages {
        Some(messages) => messages.post(tell),
        // Without a message channel, a timer is used, which is later.
        None => spawn_local(async move {
            Delay::new(Duration::ZERO).await;
            // The receiver may be gone.
            let _ = tell.send(());
        }),
    });
    told
}

/// A message channel from this thread to itself.
struct Messages {
    channel: MessageChannel,
    waiting: Rc<RefCell<Vec<oneshot::Sender<()>>>>,
    _handler: Closure<dyn FnMut()>,
}

impl Messages {
    fn new() -> Option<Self> {
        let channel = MessageChannel::new().ok()?;
        let waiting = Rc::<RefCell<Vec<oneshot::Sender<()>>>>::default();
        let this = waiting.clone();
        let handler = Closure::<dyn FnMut()>::new(move || {
            for tell in this.take() {
                // The receiver may be gone.
                let _ = tell.send(());
            }
        });
        let port = channel.port1();
        port.set_onmessage(Some(handler.as_ref().unchecked_ref()));
        Some(Self {
            channel,
            waiting,
            _handler: handler,
        })
    }

    fn post(&self, tell: oneshot::Sender<()>) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.push(tell);
        if waiting.len() == 1 {
            // This cannot fail, because the message can be copied.
            let _ = self.channel.port2().post_message(&JsValue::NULL);
        }
    }
}
