//! The ratios as a bar chart: SVG by hand, readable on light and on dark pages.

use super::{ROWS, Record, Row, foreign, grouped};
use crate::subjects::Subject;
use crate::work::Metric;

const WIDTH: f64 = 720.0;
const MARGIN: f64 = 16.0;
/// Where bars start, and the longest there is room for beside its label.
const BARS: f64 = 200.0;
const BAR_LONGEST: f64 = 370.0;
const BAR_HEIGHT: f64 = 16.0;
const LINE: f64 = 22.0;
const PANEL_GAP: f64 = 18.0;

/// What is 1 in each panel.
const PANELS: [(Metric, Subject); 11] = [
    (Metric::Fanout, Subject::Floor),
    (Metric::Burst, Subject::Floor),
    (Metric::Echo, Subject::Floor),
    (Metric::Connect, Subject::Ws),
    (Metric::Memory, Subject::Ws),
    (Metric::SocketioFanout, Subject::Duplex),
    (Metric::SocketioBurst, Subject::Duplex),
    (Metric::SocketioMemory, Subject::Duplex),
    (Metric::SignalrFanout, Subject::Duplex),
    (Metric::SignalrBurst, Subject::Duplex),
    (Metric::SignalrMemory, Subject::Duplex),
];

const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328}
.head{font-size:16px;font-weight:600}.title{font-weight:600}.soft{fill:#59636e}
.duplex{fill:#2f81f7}.duplex-socketio{fill:#39a96b}.duplex-signalr{fill:#d1618f}.duplex-signalr-messagepack{fill:#d18f61}.floor{fill:#8c959f}.ws{fill:#d4943a}.socketio{fill:#a475f9}.one{stroke:#8c959f;stroke-dasharray:2 3}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.soft{fill:#9198a1}}
";

struct Bar {
    subject: Subject,
    ratio: f64,
    figure: f64,
}

/// The chart; panels without figures are left out.
pub fn render(record: &Record) -> String {
    let mut body = String::new();
    let mut y = MARGIN + 16.0;
    body += &text(MARGIN, y, "head", "Cost to the server: shorter is better");
    for (metric, base) in PANELS {
        let bars = bars(record, metric, base);
        let rows = foreign::ALL.into_iter().flat_map(|protocol| protocol.rows);
        let Some(row) = ROWS.iter().chain(rows).find(|row| row.metric == metric) else { continue };
        // A base alone says nothing.
        if bars.len() > 1 {
            y += PANEL_GAP + LINE;
            body += &panel(row, base, &bars, y);
            y += bars.len() as f64 * LINE;
        }
    }
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"Server cost of duplex beside a bare epoll loop, npm ws and socket.io\">\n\
         <style>{STYLE}</style>\n{body}</svg>\n"
    )
}

fn bars(record: &Record, metric: Metric, base: Subject) -> Vec<Bar> {
    let bar = |&subject: &Subject| {
        let ratio = record.ratio(metric, subject, base)?.median;
        Some(Bar { subject, ratio, figure: record.figure(metric, subject)? })
    };
    record.subjects.iter().filter_map(bar).collect()
}

fn panel(row: &Row, base: Subject, bars: &[Bar], top: f64) -> String {
    let longest = bars.iter().map(|bar| bar.ratio).fold(1.0, f64::max);
    let scale = BAR_LONGEST / longest;
    let title = format!(
        "{} <tspan class=\"soft\" font-weight=\"400\">{}, {} = 1</tspan>",
        row.title,
        row.unit,
        base.name()
    );
    let mut out = text(MARGIN, top, "title", &title);
    let mut y = top + 8.0;
    for bar in bars {
        let width = (bar.ratio * scale).max(1.0);
        let class = bar.subject.key();
        let baseline = y + BAR_HEIGHT - 4.0;
        out += &text(MARGIN, baseline, "name", bar.subject.name());
        out += &format!(
            "<rect class=\"{class}\" x=\"{BARS}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" rx=\"3\"/>\n"
        );
        let label = format!(
            "{:.2} × <tspan class=\"soft\">{} {}</tspan>",
            bar.ratio,
            grouped(bar.figure, row.decimals),
            row.unit.split(' ').next().unwrap_or_default()
        );
        out += &text(BARS + width + 8.0, baseline, "value", &label);
        y += LINE;
    }
    let (x, from, to) = (BARS + scale, top + 4.0, y - 2.0);
    out + &format!("<line class=\"one\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\"/>\n")
}

fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{content}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn the_chart_has_a_bar_for_each_figure_that_has_a_base() {
        let chart = render(&example());
        assert_eq!(chart.matches("<rect").count(), 4 + 4 + 3);
        assert_eq!(chart.matches("<text").count(), chart.matches("</text>").count());
        assert!(chart.contains("1.06 × "));
    }
}
