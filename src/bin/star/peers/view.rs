//! The display of the peers: a table that is redrawn on a terminal, a line for each event in a pipe, or JSON.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use console::{Term, style};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use serde_json::json;

use crate::{
    failure::Failure,
    output::{milliseconds, note, rounded, say},
};

/// The lines of the terminal that are not for peers.
const FRAME: u16 = 3;

/// An event to display.
#[derive(Debug)]
pub enum News {
    Joined(Multiaddr),
    /// The link to the rendezvous was lost, for the given reason; the node joins again.
    Lost(String),
    Discovered(PeerId, Multiaddr),
    Expired(PeerId),
    RoundTrip(PeerId, Duration),
    Unreachable(PeerId, String),
}

/// The way in which the peers are displayed.
pub enum View {
    Table(Box<Table>),
    Lines,
    Json,
}

/// The table of all known peers, on a terminal.
pub struct Table {
    terminal: Term,
    rendezvous: String,
    trouble: Option<String>,
    peers: BTreeMap<PeerId, Row>,
    /// The number of lines that were last drawn.
    drawn: usize,
    is_stale: bool,
}

enum Row {
    Unknown,
    RoundTrip(Duration),
    Unreachable(String),
}

impl View {
    pub fn new(json: bool, rendezvous: String) -> Self {
        if json {
            return Self::Json;
        }
        match std::io::stdout().is_terminal() {
            true => Self::Table(Box::new(Table::new(rendezvous))),
            false => Self::Lines,
        }
    }

    /// Adds an event to the display. A table shows it when it is next drawn.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn tell(&mut self, news: &News) -> Result<(), Failure> {
        match self {
            Self::Table(table) => {
                table.apply(news);
                Ok(())
            }
            Self::Lines => line(news),
            Self::Json => say(&as_json(news).to_string()),
        }
    }

    /// Redraws the table if it has changed.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn draw(&mut self) -> Result<(), Failure> {
        match self {
            Self::Table(table) if table.is_stale => table.draw(),
            _ => Ok(()),
        }
    }

    /// Shows the last state.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn end(&mut self) -> Result<(), Failure> {
        self.draw()
    }
}

fn line(news: &News) -> Result<(), Failure> {
    match news {
        News::Joined(address) => {
            note(&format!("joined as {address}"));
            Ok(())
        }
        News::Lost(why) => {
            note(&format!("{why}; joining again"));
            Ok(())
        }
        News::Discovered(peer, _) => say(&format!("+ {peer}")),
        News::Expired(peer) => say(&format!("- {peer}")),
        News::RoundTrip(peer, time) => say(&format!("= {peer} {}", milliseconds(*time))),
        News::Unreachable(peer, why) => say(&format!("! {peer} {why}")),
    }
}

fn as_json(news: &News) -> serde_json::Value {
    match news {
        News::Joined(address) => json!({"event": "joined", "address": address.to_string()}),
        News::Lost(why) => json!({"event": "lost", "reason": why}),
        News::Discovered(peer, address) => {
            json!({"event": "discovered", "peer": peer.to_string(), "address": address.to_string()})
        }
        News::Expired(peer) => json!({"event": "expired", "peer": peer.to_string()}),
        News::RoundTrip(peer, time) => {
            json!({"event": "round_trip", "peer": peer.to_string(), "milliseconds": rounded(*time)})
        }
        News::Unreachable(peer, why) => {
            json!({"event": "unreachable", "peer": peer.to_string(), "reason": why})
        }
    }
}

impl Table {
    fn new(rendezvous: String) -> Self {
        Self {
            terminal: Term::buffered_stdout(),
            rendezvous,
            trouble: None,
            peers: BTreeMap::new(),
            drawn: 0,
            is_stale: true,
        }
    }

    fn apply(&mut self, news: &News) {
        self.is_stale = true;
        match news {
            News::Joined(_) => self.trouble = None,
            News::Lost(why) => self.trouble = Some(why.clone()),
            News::Discovered(peer, _) => {
                self.peers.entry(*peer).or_insert(Row::Unknown);
            }
            News::Expired(peer) => {
                self.peers.remove(peer);
            }
            News::RoundTrip(peer, time) => self.set(peer, Row::RoundTrip(*time)),
            News::Unreachable(peer, why) => self.set(peer, Row::Unreachable(why.clone())),
        }
    }

    fn set(&mut self, peer: &PeerId, row: Row) {
        if let Some(known) = self.peers.get_mut(peer) {
            *known = row;
        }
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let (height, width) = self.terminal.size();
        let lines = self.lines(usize::from(height.saturating_sub(FRAME)));
        let drawn = self.terminal.clear_last_lines(self.drawn).and_then(|()| {
            for line in &lines {
                // A wrapped line would not be cleared completely.
                let cut = console::truncate_str(line, usize::from(width), "…");
                self.terminal.write_line(&cut)?;
            }
            self.terminal.flush()
        });
        drawn.map_err(Failure::from_output)?;
        self.drawn = lines.len();
        self.is_stale = false;
        Ok(())
    }

    fn lines(&self, room: usize) -> Vec<String> {
        let count = self.peers.len();
        let mut head = match count {
            1 => format!("1 peer at {}", self.rendezvous),
            _ => format!("{count} peers at {}", self.rendezvous),
        };
        if let Some(why) = &self.trouble {
            head += &format!(", {}", style(format!("{why}; joining again")).red());
        }
        let mut lines = vec![head];
        lines.extend(self.peers.iter().take(room).map(|(peer, row)| {
            let told = match row {
                Row::Unknown => style("…".to_owned()).dim(),
                Row::RoundTrip(time) => style(milliseconds(*time)).green(),
                Row::Unreachable(why) => style(why.clone()).yellow(),
            };
            format!("{peer}  {told}")
        }));
        if count > room {
            lines.push(format!("and {} more", count - room));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_terminal_and_tells_how_many_are_left_out() {
        console::set_colors_enabled(false);
        let mut table = Table::new("wss://star.example".to_owned());
        assert_eq!(table.lines(2), ["0 peers at wss://star.example"]);
        let peers: Vec<_> = (0..5).map(|_| PeerId::random()).collect();
        let address: Multiaddr = "/ip4/127.0.0.1".parse().expect("an address");
        for peer in &peers {
            table.apply(&News::Discovered(*peer, address.clone()));
        }
        table.apply(&News::Lost("it is gone".to_owned()));
        let lines = table.lines(2);
        let head = "5 peers at wss://star.example, it is gone; joining again";
        assert_eq!(
            (lines.len(), &*lines[0], &*lines[3]),
            (4, head, "and 3 more")
        );
        for peer in &peers[1..] {
            table.apply(&News::Expired(*peer));
        }
        table.apply(&News::Joined(address));
        table.apply(&News::RoundTrip(peers[0], Duration::from_millis(2)));
        // A late round trip does not bring back a peer that has left.
        table.apply(&News::RoundTrip(peers[1], Duration::from_millis(2)));
        let row = format!("{}  2.00 ms", peers[0]);
        assert_eq!(table.lines(2), ["1 peer at wss://star.example", &row]);
    }
}
