//! Plots as SVG, drawn by plain code: a report is one file that needs nothing else.

use std::fmt::Write;

/// One line of a plot.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    /// The class that gives it its colour.
    pub(crate) class: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 44.0;
const BOTTOM: f64 = 22.0;
const TOP: f64 = 10.0;

/// A plot of lines over seconds, with a legend and words for who cannot see it.
pub(crate) fn over_time(title: &str, lines: &[Line<'_>]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let end = points().map(|point| point.0).fold(0.1, f64::max);
    let top = nice(points().map(|point| point.1).fold(1.0, f64::max));
    let x = |at: f64| LEFT + at / end * (WIDTH - LEFT - 8.0);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP);
    let mut svg = format!(
        "<figure><figcaption>{}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title),
        escape(&in_words(title, lines))
    );
    for step in 0..=4 {
        let (at, value) = (end * f64::from(step) / 4.0, top * f64::from(step) / 4.0);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>\
             <text x=\"{4:.1}\" y=\"{5}\" text-anchor=\"{6}\">{at:.1} s</text>",
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
            short(value),
            x(at),
            HEIGHT - 6.0,
            if step == 4 { "end" } else { "middle" },
        );
    }
    for line in lines {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)))
            .collect();
        let (class, path) = (line.class, path.join(" "));
        let _ = writeln!(svg, "<polyline class=\"{class}\" points=\"{path}\"/>");
    }
    svg += "</svg>\n<p class=\"legend\">";
    for line in lines {
        let _ = write!(
            svg,
            "<span class=\"{}\">{}</span> ",
            line.class,
            escape(line.name)
        );
    }
    svg + "</p></figure>\n"
}

fn in_words(title: &str, lines: &[Line<'_>]) -> String {
    let most = |line: &Line<'_>| {
        let most = line.points.iter().map(|point| point.1).fold(0.0, f64::max);
        format!("{} at most {most:.0}", line.name)
    };
    let most: Vec<String> = lines.iter().map(most).collect();
    format!("{title}: {}", most.join(", "))
}

/// The next of 1, 2, 4, 5 and 8 times a power of ten, which four lines divide well.
fn nice(most: f64) -> f64 {
    let power = 10_f64.powf(most.log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= most * 0.999);
    step.unwrap_or(10.0) * power
}

fn short(value: f64) -> String {
    match value {
        whole if whole >= 10.0 || whole.fract() == 0.0 => format!("{whole:.0}"),
        small => format!("{small:.2}").trim_end_matches('0').to_owned(),
    }
}

/// Text that can stand in HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_lines_a_scale_and_words() {
        let line = Line {
            name: "in <use>",
            class: "used",
            points: vec![(0.0, 0.0), (1.0, 7.0), (2.0, 3.0)],
        };
        let svg = over_time("Connections", &[line]);
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert!(svg.contains("points=\"44.0,168.0 338.0,"), "{svg}");
        assert!(
            svg.contains(">8</text>"),
            "the scale ends above the most: {svg}"
        );
        assert!(svg.contains("Connections: in &lt;use&gt; at most 7"));
        assert!(!svg.contains("in <use>"));
    }

    #[test]
    fn scales_end_at_a_round_number() {
        let ends = [0.3, 1.0, 3.0, 7.0, 10.0, 61.0, 4_900.0].map(nice);
        let expected = [0.4, 1.0, 4.0, 8.0, 10.0, 80.0, 5000.0];
        for (end, expected) in ends.into_iter().zip(expected) {
            assert!((end - expected).abs() < 1e-9, "{end} for {expected}");
        }
    }
}
