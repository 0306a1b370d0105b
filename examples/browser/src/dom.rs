//! Access to the elements of the page. Text from others is only ever inserted as text, never as HTML.

use std::time::Duration;

use futures_timer::Delay;
use js_sys::Promise;
use wasm_bindgen::{JsCast as _, prelude::*};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Document, Element, HtmlElement, HtmlTemplateElement};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn log_error(text: &str);

    #[wasm_bindgen(catch, js_namespace = ["navigator", "clipboard"], js_name = writeText)]
    fn write_clipboard(text: &str) -> Result<Promise, JsValue>;
}

/// Writes to the browser's console.
pub fn complain(text: &str) {
    log_error(text);
}

pub fn document() -> Document {
    let window = web_sys::window().expect("the library runs in a page");
    window.document().expect("a page has a document")
}

/// Returns an element that is in the page from the start.
pub fn by_id(id: &str) -> Element {
    let element = document().get_element_by_id(id);
    element.unwrap_or_else(|| panic!("the page has no {id}"))
}

pub fn set_text(element: &Element, text: &str) {
    element.set_text_content(Some(text));
}

/// Sets an attribute. That fails only for an invalid attribute name, and all names used here are valid.
pub fn set(element: &Element, attribute: &str, value: &str) {
    let done = element.set_attribute(attribute, value);
    done.expect("the name of an attribute");
}

pub fn show(element: &Element, shown: bool) {
    let done = element.toggle_attribute_with_force("hidden", !shown);
    done.expect("the name of an attribute");
}

/// Announces a change to people who do not see the page, through a screen reader.
pub fn tell(text: &str) {
    set_text(&by_id("told"), text);
}

pub fn focus(element: &Element) {
    if let Some(element) = element.dyn_ref::<HtmlElement>() {
        // If an element cannot have the focus, the focus stays where it was.
        let _ = element.focus();
    }
}

/// Shows the state of the link to the rendezvous. `kind` is one of `waiting`, `joined` and `lost`.
pub fn set_state(kind: &str, text: &str) {
    let state = by_id("state");
    set(&state, "data-kind", kind);
    set_text(&state, text);
}

/// Shows a text, and enables the button that copies it.
pub fn share(code: &str, button: &str, text: &str) {
    set_text(&by_id(code), text);
    let button = by_id(button);
    set(&button, "data-copy", text);
    let done = button.remove_attribute("disabled");
    done.expect("the name of an attribute");
}

/// Copies the text of a button, and shows on the button whether that worked.
pub fn copy(button: Element) {
    let Some(text) = button.get_attribute("data-copy") else {
        return;
    };
    spawn_local(async move {
        // On plain HTTP, browsers offer the clipboard only to pages from this machine.
        let copied = match write_clipboard(&text) {
            Ok(copied) => JsFuture::from(copied).await.is_ok(),
            Err(_) => false,
        };
        let word = if copied { "Copied" } else { "Not possible" };
        tell(word);
        let before = button.text_content().unwrap_or_default();
        if before == word {
            return;
        }
        set_text(&button, word);
        Delay::new(Duration::from_secs(2)).await;
        set_text(&button, &before);
    });
}

/// A copy of one of the page's templates. Dropping it removes it from the page.
pub struct Row(Element);

impl Row {
    /// Copies the template with this id, and adds the copy at the end of `list`.
    pub fn add(template: &str, list: &Element) -> Self {
        let template = by_id(template).unchecked_into::<HtmlTemplateElement>();
        let content = template.content();
        let content = content
            .first_element_child()
            .expect("a template has content");
        let copy = document().import_node_with_deep(&content, true);
        let row: Element = copy.expect("an element can be copied").unchecked_into();
        list.append_child(&row).expect("a list takes its rows");
        Self(row)
    }

    pub fn element(&self) -> &Element {
        &self.0
    }

    pub fn part(&self, name: &str) -> Element {
        let found = self.0.query_selector(&format!("[data-part={name}]"));
        let part = found.expect("a selector");
        part.unwrap_or_else(|| panic!("the row has no {name}"))
    }

    pub fn text(&self, part: &str, text: &str) {
        let part = self.part(part);
        // If the text is the same, leave it: a write would disturb screen readers and selections.
        if part.text_content().as_deref() != Some(text) {
            set_text(&part, text);
        }
    }

    pub fn set(&self, part: &str, attribute: &str, value: &str) {
        set(&self.part(part), attribute, value);
    }

    pub fn show(&self, part: &str, shown: bool) {
        show(&self.part(part), shown);
    }

    /// Hides some parts and shows others. If a hidden part had the focus, the first shown part gets it.
    pub fn exchange(&self, hidden: &[&str], shown: &[&str]) {
        let focused = document().active_element();
        let had = hidden.iter().any(|part| Some(self.part(part)) == focused);
        shown.iter().for_each(|part| self.show(part, true));
        if let (true, Some(first)) = (had, shown.first()) {
            focus(&self.part(first));
        }
        hidden.iter().for_each(|part| self.show(part, false));
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.0.remove();
    }
}
