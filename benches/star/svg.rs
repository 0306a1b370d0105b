//! The picture of the table of targets: how far each target was reached. Readable on light and dark backgrounds.

use std::fmt::Write as _;

use crate::{spread::number, table::bound, targets::Outcome};

const WIDTH: usize = 840;
const TOP: usize = 58;
const ROW: usize = 30;
/// The horizontal positions of the start of the bars and of the target line.
const BARS: f64 = 330.0;
const TARGET: f64 = 470.0;
/// The end of the longest bar: three times the target.
const END: f64 = BARS + 3.0 * (TARGET - BARS);

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}\
.small{font-size:11px;fill:#57606a}\
.met{fill:#2da44e}.missed{fill:#d4762c}\
.line{stroke:#57606a;stroke-width:1;stroke-dasharray:3 3}\
.spread{stroke:#24292f;stroke-width:1.5}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#8d96a0}\
.line{stroke:#8d96a0}.spread{stroke:#e6edf3}}";

pub fn draw(outcomes: &[Outcome], subtitle: &str) -> String {
    let height = TOP + ROW * outcomes.len() + 16;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n<title>Targets and results</title>\n\
         <style>{STYLE}</style>\n"
    );
    text(
        &mut svg,
        8.0,
        20,
        "",
        "Targets and results; longer is better, bars end at three times the target",
    );
    text(&mut svg, 8.0, 40, "small", subtitle);
    text(&mut svg, TARGET - 16.0, 52, "small", "target");
    let _ = writeln!(
        svg,
        "<line class=\"line\" x1=\"{TARGET}\" x2=\"{TARGET}\" y1=\"{TOP}\" y2=\"{}\"/>",
        height - 12
    );
    for (n, outcome) in outcomes.iter().enumerate() {
        row(&mut svg, TOP + n * ROW, outcome);
    }
    svg.push_str("</svg>\n");
    svg
}

fn row(svg: &mut String, top: usize, outcome: &Outcome) {
    let baseline = top + 19;
    text(svg, 8.0, baseline, "", outcome.target.work);
    let aim = bound(outcome.target.bound);
    let Some(reached) = outcome.reached else {
        let label = format!("not measured ({aim})");
        return text(svg, BARS + 6.0, baseline, "small", &label);
    };
    let x = |value: f64| (BARS + outcome.score(value) * (TARGET - BARS)).min(END);
    let end = x(reached.median);
    let class = if outcome.is_met() == Some(true) {
        "met"
    } else {
        "missed"
    };
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{BARS}\" y=\"{}\" width=\"{:.1}\" height=\"16\" rx=\"2\"/>",
        top + 6,
        end - BARS
    );
    let (from, to) = (x(reached.min), x(reached.max));
    let middle = top + 14;
    let _ = writeln!(
        svg,
        "<line class=\"spread\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>"
    );
    let label = format!("{} ({aim})", number(reached.median));
    text(svg, end.max(from).max(to) + 8.0, baseline, "small", &label);
}

fn text(svg: &mut String, x: f64, y: usize, class: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y}\">{text}</text>"
    );
}
