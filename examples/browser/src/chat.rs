//! The chat in the page.

use std::collections::VecDeque;

use libp2p::PeerId;
use wasm_bindgen::JsCast as _;
use web_sys::{Element, HtmlInputElement};

use crate::{
    dom::{Row, by_id, set, show},
    text::{cut, short},
};

/// The most lines that are kept.
const LINES: usize = 300;
/// The most characters of a message that are shown.
const LENGTH: usize = 2000;

pub struct Chat {
    log: Element,
    lines: VecDeque<Row>,
}

impl Chat {
    pub fn new() -> Self {
        Self {
            log: by_id("log"),
            lines: VecDeque::new(),
        }
    }

    pub fn said(&mut self, who: Option<&PeerId>, words: &[u8]) {
        self.line("said", who, &String::from_utf8_lossy(words));
    }

    pub fn said_here(&mut self, words: &str) {
        let line = self.line("ours", None, words);
        line.text("who", "You");
        if let Ok(input) = by_id("words").dyn_into::<HtmlInputElement>() {
            input.set_value("");
        }
    }

    /// Adds a note about a peer or a message.
    pub fn note(&mut self, who: Option<&PeerId>, words: &str) {
        self.line("note", who, words);
    }

    fn line(&mut self, kind: &str, who: Option<&PeerId>, words: &str) -> &Row {
        show(&by_id("no-words"), false);
        let hidden = self.log.scroll_height() - self.log.client_height() - self.log.scroll_top();
        // If the reader has scrolled up, the log stays at that place.
        let at_end = hidden < 32;
        if self.lines.len() >= LINES {
            self.lines.pop_front();
        }
        let line = Row::add("line", &self.log);
        set(line.element(), "data-kind", kind);
        if let Some(who) = who {
            line.text("who", &short(who));
            line.set("who", "title", &who.to_string());
        }
        line.text("words", &cut(words, LENGTH));
        if at_end {
            self.log.set_scroll_top(self.log.scroll_height());
        }
        self.lines.push_back(line);
        &self.lines[self.lines.len() - 1]
    }
}
