//! Pictures of the last hour: diagrams that the server draws as SVG.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::history::COLUMNS;

/// The height of a picture in its own units, and how much of that is left free at the top.
const HEIGHT: u64 = 60;
const ABOVE: u64 = 4;

/// The diagram of one value over the last hour.
pub(super) struct Picture<'a> {
    pub(super) title: &'a str,
    pub(super) columns: [Option<u64>; COLUMNS],
    /// The current value.
    pub(super) now: u64,
    /// Formats a value as text.
    pub(super) written: fn(u64) -> String,
}

impl Picture<'_> {
    pub(super) fn draw(&self) -> Markup {
        let known = self.columns.iter().flatten();
        let highest = known.copied().max().unwrap_or_default().max(self.now);
        let (now, most) = ((self.written)(self.now), (self.written)(highest));
        let told = format!("{} in the last hour: {now} now, {most} at most", self.title);
        let (line, area) = paths(&self.columns, highest);
        html! {
            figure {
                figcaption { (self.title) " " span { "at most " (most) } }
                svg viewBox={ "0 0 " (COLUMNS) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(told) {
                    path class="grid" d=(grid()) {}
                    path class="area" d=(area) {}
                    path class="line" d=(line) {}
                }
                div class="axis" aria-hidden="true" { span { "an hour ago" } span { "now" } }
            }
        }
    }
}

/// Returns the path of the grid: a line each 10 minutes, and one at the bottom.
fn grid() -> String {
    let mut path = format!("M0 {HEIGHT}H{COLUMNS}");
    for tenth in 0..=6 {
        let x = tenth * COLUMNS / 6;
        // Writing to a String cannot fail.
        let _ = write!(path, "M{x} 0V{HEIGHT}");
    }
    path
}

/// Returns the path of the line through the known values, and of the area below it. Both have gaps where nothing is
/// known.
fn paths(columns: &[Option<u64>], highest: u64) -> (String, String) {
    let (mut line, mut area) = (String::new(), String::new());
    let mut is_drawn = false;
    for (x, value) in columns.iter().enumerate() {
        let Some(value) = value else {
            if is_drawn {
                let _ = write!(area, "V{HEIGHT}Z");
            }
            is_drawn = false;
            continue;
        };
        let y = height(*value, highest);
        match is_drawn {
            true => {
                let _ = write!(line, "L{x} {y}");
                let _ = write!(area, "L{x} {y}");
            }
            false => {
                let _ = write!(line, "M{x} {y}");
                let _ = write!(area, "M{x} {HEIGHT}V{y}");
            }
        }
        // Each column is as wide as the time that it stands for.
        let _ = write!(line, "h1");
        let _ = write!(area, "h1");
        is_drawn = true;
    }
    if is_drawn {
        let _ = write!(area, "V{HEIGHT}Z");
    }
    (line, area)
}

/// Returns how far below the top a value is drawn, rounded to one decimal.
fn height(value: u64, highest: u64) -> f64 {
    let part = value as f64 / highest.max(1) as f64;
    let y = HEIGHT as f64 - part * (HEIGHT - ABOVE) as f64;
    (y * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rendezvous::admin::units;

    #[test]
    fn what_is_known_is_drawn_and_gaps_are_left() {
        let columns = [None, Some(0), Some(10), None, Some(5)];
        let (line, area) = paths(&columns, 10);
        assert_eq!(line, "M1 60h1L2 4h1M4 32h1");
        assert_eq!(area, "M1 60V60h1L2 4h1V60ZM4 60V32h1V60Z");
        assert_eq!(paths(&[None; 3], 10), (String::new(), String::new()));
        assert_eq!(paths(&[Some(0)], 0).0, "M0 60h1");
    }

    #[test]
    fn a_picture_says_what_it_shows() {
        let picture = Picture {
            title: "Peers",
            columns: [Some(1234); COLUMNS],
            now: 7,
            written: units::count,
        };
        let drawn = picture.draw().into_string();
        let told = r#"role="img" aria-label="Peers in the last hour: 7 now, 1,234 at most""#;
        assert!(drawn.contains(told), "{drawn}");
        assert!(drawn.len() < 6000, "{}", drawn.len());
    }
}
