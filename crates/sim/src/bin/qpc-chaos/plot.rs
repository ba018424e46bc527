//! Curves over time as an SVG picture: one panel for each. Decides nothing.

const WIDTH: f64 = 760.0;
const PANEL: f64 = 120.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 26.0;
const GAP: f64 = 34.0;

/// One panel.
pub(crate) struct Curve<'a> {
    pub(crate) title: &'a str,
    /// (minutes, value), sorted.
    pub(crate) points: &'a [(f64, f64)],
}

/// The picture; each panel begins at 0, so that a slope looks as large as it is.
pub(crate) fn svg(heading: &str, curves: &[Curve<'_>]) -> String {
    let height = curves.iter().fold(TOP + GAP, |height, _| height + PANEL + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{heading}</text>\n"
    );
    let mut top = TOP + GAP / 2.0;
    for curve in curves {
        out.push_str(&panel(curve, top));
        top += PANEL + GAP;
    }
    out.push_str("</svg>\n");
    out
}

fn panel(curve: &Curve<'_>, top: f64) -> String {
    let most = |of: fn(&(f64, f64)) -> f64| curve.points.iter().map(of).fold(0.0_f64, f64::max);
    let (times, values) = (most(|(time, _)| *time), most(|(_, value)| *value));
    let scale = |value: f64, most: f64| if most > 0.0 { value / most } else { 0.0 };
    let (inner, bottom) = (WIDTH - LEFT - 20.0, top + PANEL);
    let mut line = String::new();
    for (time, value) in curve.points {
        let (x, y) = (LEFT + inner * scale(*time, times), bottom - PANEL * scale(*value, values));
        line.push_str(&format!("{x:.1},{y:.1} "));
    }
    let (right, label, middle) = (LEFT + inner, LEFT - 6.0, LEFT + inner / 2.0);
    format!(
        "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{inner}\" height=\"{PANEL}\" fill=\"none\" \
         stroke=\"#999\"/>\n\
         <line x1=\"{middle}\" y1=\"{top}\" x2=\"{middle}\" y2=\"{bottom}\" stroke=\"#ccc\"/>\n\
         <text x=\"{LEFT}\" y=\"{}\">{}</text>\n\
         <text x=\"{label}\" y=\"{}\" text-anchor=\"end\">{values:.0}</text>\n\
         <text x=\"{label}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\n\
         <text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{times:.0} min</text>\n\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"1.3\"/>\n",
        top - 5.0,
        curve.title,
        top + 10.0,
        bottom + 14.0,
        line.trim_end(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_value_touches_the_top_and_nought_the_bottom() {
        let points = [(0.0, 0.0), (1.0, 10.0)];
        let picture = svg("Soak", &[Curve { title: "memory", points: &points }]);
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
        assert!(picture.contains("points=\"90.0,163.0 740.0,43.0\""), "{picture}");
        assert!(picture.contains(">memory</text>") && picture.contains(">10</text>"));
    }
}
