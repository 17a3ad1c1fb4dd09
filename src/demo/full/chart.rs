//! The story as a picture: what was offered and what could be served, nodes, and what was decided, over one axis of time.

use std::fmt::Write;
use std::time::Duration;

use super::watch::Sample;

/// All that is drawn.
#[derive(Debug, Default)]
pub(super) struct Picture {
    /// In the order of time.
    pub(super) samples: Vec<Sample>,
    /// What one node serves, in requests a second.
    pub(super) node_capacity: u32,
    /// When which part of the story began.
    pub(super) acts: Vec<(Duration, String)>,
    /// What the governor did.
    pub(super) decisions: Vec<(Duration, String)>,
    /// When the daemon was killed.
    pub(super) kills: Vec<(Duration, String)>,
}

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 1170.0;
const HEADER: f64 = 78.0;
/// A line of text about a decision.
const LINE: f64 = 15.0;

const OFFERED: &str = "#c2410c";
const ANSWERED: &str = "#15803d";
const CAPACITY: &str = "#1d4ed8";
const WAITING: &str = "#a16207";
const INCIDENT: &str = "#fca5a5";
const KILL: &str = "#b91c1c";
const INK: &str = "#1f2937";
const GRID: &str = "#d1d5db";

/// A part of the picture with a scale of its own.
struct Panel<'a> {
    picture: &'a Picture,
    top: f64,
    height: f64,
    most: f64,
    title: &'static str,
}

impl Picture {
    /// As SVG.
    pub(super) fn svg(&self) -> String {
        let load =
            Panel { picture: self, top: HEADER, height: 260.0, most: self.most_load(), title: "requests a second" };
        let waiting =
            Panel { picture: self, top: 372.0, height: 90.0, most: self.most_waiting(), title: "waiting / failed" };
        let nodes = Panel { picture: self, top: 496.0, height: 130.0, most: self.most_nodes() + 1.0, title: "nodes" };
        let decisions = 668.0;
        let height = decisions + LINE * (count(self.decisions.len()) + 1.0);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
             height=\"{height:.0}\" font-family=\"DejaVu Sans, sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        svg += &Self::header();
        let bottom = nodes.top + nodes.height;
        svg += &self.incidents(load.top, bottom);
        for panel in [&load, &waiting, &nodes] {
            svg += &panel.frame();
        }
        let capacity = |it: &Sample| f64::from(it.in_service) * f64::from(self.node_capacity);
        svg += &load.steps(CAPACITY, capacity);
        svg += &load.line(OFFERED, |it| it.offered);
        svg += &load.line(ANSWERED, |it| it.answered);
        svg += &waiting.line(WAITING, |it| float(it.waiting));
        svg += &waiting.line(KILL, |it| float(it.failed));
        svg += &nodes.steps(GRID, |it| f64::from(it.nodes));
        svg += &nodes.steps(CAPACITY, |it| f64::from(it.in_service));
        svg += &self.moments(load.top, bottom);
        svg += &self.axis(bottom);
        svg += &self.words(decisions);
        svg + "</svg>\n"
    }

    fn length(&self) -> f64 {
        self.samples.last().map_or(1.0, |last| last.at.as_secs_f64()).max(1.0)
    }

    fn x(&self, at: Duration) -> f64 {
        LEFT + (RIGHT - LEFT) * at.as_secs_f64() / self.length()
    }

    fn most_load(&self) -> f64 {
        let capacity = self.samples.iter().map(|it| f64::from(it.in_service) * f64::from(self.node_capacity));
        let load = self.samples.iter().map(|it| it.offered.max(it.answered));
        capacity.chain(load).fold(1.0, f64::max) * 1.05
    }

    fn most_waiting(&self) -> f64 {
        self.samples.iter().map(|it| float(it.waiting.max(it.failed))).fold(10.0, f64::max) * 1.05
    }

    fn most_nodes(&self) -> f64 {
        self.samples.iter().map(|it| f64::from(it.nodes.max(it.in_service))).fold(1.0, f64::max)
    }

    fn header() -> String {
        let mut svg =
            String::from("<text x=\"70\" y=\"26\" font-size=\"17\" font-weight=\"bold\">petrel demo --full</text>\n");
        let legend = [
            (OFFERED, "offered"),
            (ANSWERED, "answered"),
            (CAPACITY, "capacity, in service"),
            (GRID, "node processes"),
            (WAITING, "waiting in HAProxy"),
            (KILL, "failed, kill -9"),
            (INCIDENT, "incident open"),
        ];
        let mut x = LEFT;
        for (colour, text) in legend {
            put(&mut svg, format_args!("<rect x=\"{x:.0}\" y=\"40\" width=\"14\" height=\"10\" fill=\"{colour}\"/>\n"));
            put(&mut svg, format_args!("<text x=\"{:.0}\" y=\"50\">{text}</text>\n", x + 19.0));
            x += 46.0 + 7.2 * count(text.len());
        }
        svg
    }

    /// Bands from the beginning of an incident to its end.
    fn incidents(&self, top: f64, bottom: f64) -> String {
        let mut svg = String::new();
        for pair in self.samples.windows(2) {
            let [from, to] = pair else { continue };
            if from.incidents > 0 {
                let (x, width) = (self.x(from.at), self.x(to.at) - self.x(from.at));
                put(
                    &mut svg,
                    format_args!(
                        "<rect x=\"{x:.1}\" y=\"{top:.0}\" width=\"{width:.2}\" height=\"{:.0}\" fill=\"{INCIDENT}\" \
                         opacity=\"0.35\"/>\n",
                        bottom - top
                    ),
                );
            }
        }
        svg
    }

    /// Where the parts of the story begin, what was decided, and kills.
    fn moments(&self, top: f64, bottom: f64) -> String {
        let mut svg = String::new();
        let mut bar = |at: Duration, colour: &str, dashes: &str| {
            let x = self.x(at);
            put(
                &mut svg,
                format_args!(
                    "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.0}\" y2=\"{bottom:.0}\" stroke=\"{colour}\" \
                     stroke-dasharray=\"{dashes}\"/>\n"
                ),
            );
        };
        self.acts.iter().for_each(|(at, _)| bar(*at, INK, "1 4"));
        self.decisions.iter().for_each(|(at, _)| bar(*at, "#6b7280", "3 3"));
        self.kills.iter().for_each(|(at, _)| bar(*at, KILL, "none"));
        for (at, text) in &self.acts {
            // a name that has no room before the end stands before its moment
            let (x, anchor) = match self.x(*at) {
                x if x > RIGHT - 60.0 => (x - 3.0, "end"),
                x => (x + 3.0, "start"),
            };
            put(
                &mut svg,
                format_args!(
                    "<text x=\"{x:.1}\" y=\"{:.0}\" font-size=\"11\" text-anchor=\"{anchor}\">{}</text>\n",
                    top - 4.0,
                    escaped(text)
                ),
            );
        }
        for (number, (at, _)) in self.decisions.iter().enumerate() {
            let (x, y) = (self.x(*at), bottom - 4.0);
            put(
                &mut svg,
                format_args!("<text x=\"{:.1}\" y=\"{y:.0}\" font-size=\"10\">{}</text>\n", x + 2.0, number + 1),
            );
        }
        svg
    }

    fn axis(&self, bottom: f64) -> String {
        let mut svg = String::new();
        let step = Duration::from_secs(if self.length() > 400.0 { 60 } else { 20 });
        let mut at = Duration::ZERO;
        while at.as_secs_f64() <= self.length() {
            let seconds = at.as_secs();
            put(
                &mut svg,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}:{:02}</text>\n",
                    self.x(at),
                    bottom + 16.0,
                    seconds / 60,
                    seconds % 60
                ),
            );
            at += step;
        }
        svg
    }

    /// What the numbers of the decisions mean.
    fn words(&self, top: f64) -> String {
        let mut svg = String::new();
        for (number, (at, text)) in self.decisions.iter().enumerate() {
            let (y, seconds) = (top + LINE * count(number), at.as_secs());
            put(
                &mut svg,
                format_args!(
                    "<text x=\"{LEFT:.0}\" y=\"{y:.0}\" font-size=\"11\">{}. {}:{:02} {}</text>\n",
                    number + 1,
                    seconds / 60,
                    seconds % 60,
                    escaped(text)
                ),
            );
        }
        svg
    }
}

impl Panel<'_> {
    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - value / self.most)
    }

    fn frame(&self) -> String {
        let Self { top, height, most, title, .. } = self;
        let mut svg = format!(
            "<rect x=\"{LEFT:.0}\" y=\"{top:.0}\" width=\"{:.0}\" height=\"{height:.0}\" fill=\"none\" stroke=\"{GRID}\"/>\n\
             <text x=\"{LEFT:.0}\" y=\"{:.0}\" font-weight=\"bold\">{title}</text>\n",
            RIGHT - LEFT,
            top + 15.0
        );
        let step = round_step(*most, *height / 24.0);
        let mut value = 0.0;
        while value <= *most {
            let y = self.y(value);
            put(
                &mut svg,
                format_args!(
                    "<line x1=\"{LEFT:.0}\" x2=\"{RIGHT:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{GRID}\" \
                     stroke-width=\"0.5\"/>\n<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>\n",
                    LEFT - 6.0,
                    y + 4.0
                ),
            );
            value += step;
        }
        svg
    }

    fn line(&self, colour: &str, value: impl Fn(&Sample) -> f64) -> String {
        let samples = &self.picture.samples;
        let points = samples.iter().map(|it| format!("{:.1},{:.1}", self.picture.x(it.at), self.y(value(it))));
        polyline(colour, &points.collect::<Vec<_>>())
    }

    /// As [`Panel::line`], for what stays as it is until it jumps.
    fn steps(&self, colour: &str, value: impl Fn(&Sample) -> f64) -> String {
        let (mut points, mut before) = (Vec::new(), None);
        for sample in &self.picture.samples {
            let (x, y) = (self.picture.x(sample.at), self.y(value(sample)));
            points.extend(before.map(|before: f64| format!("{x:.1},{before:.1}")));
            points.push(format!("{x:.1},{y:.1}"));
            before = Some(y);
        }
        polyline(colour, &points)
    }
}

fn polyline(colour: &str, points: &[String]) -> String {
    format!("<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" points=\"{}\"/>\n", points.join(" "))
}

/// From one line of the grid to the next, so that there are at most so many.
fn round_step(most: f64, lines: f64) -> f64 {
    let mut step = 1.0;
    for factor in [2.0, 2.5, 2.0].iter().cycle() {
        if most / step <= lines {
            break;
        }
        step *= factor;
    }
    step
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than a float can tell apart")]
fn float(number: u64) -> f64 {
    number as f64
}

fn count(number: usize) -> f64 {
    float(number as u64)
}

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a text takes whatever is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_holds_every_sample_decision_and_kill_and_no_markup_of_theirs() {
        let sample = |second: u64, in_service: u32| Sample {
            at: Duration::from_secs(second),
            offered: 240.0,
            in_service,
            incidents: u32::from(second == 2),
            ..Sample::default()
        };
        let picture = Picture {
            samples: vec![sample(1, 1), sample(2, 1), sample(3, 4)],
            node_capacity: 80,
            acts: vec![(Duration::from_secs(1), "surge".to_owned())],
            decisions: vec![(Duration::from_secs(2), "expanding: <3 nodes>".to_owned())],
            kills: vec![(Duration::from_secs(3), "mid-expand".to_owned())],
        };
        let svg = picture.svg();
        assert!(svg.contains("expanding: &lt;3 nodes&gt;") && !svg.contains("<3 nodes>"), "{svg}");
        assert_eq!(svg.matches("opacity=\"0.35\"").count(), 1, "one incident of one sample");
        assert_eq!(svg.matches(&format!("stroke=\"{KILL}\" stroke-dasharray")).count(), 1, "one kill");
        assert!(svg.contains("1170.0,"), "the last sample is at the right end");
    }

    #[test]
    fn a_grid_has_round_steps_and_few_lines() {
        let steps = [3.0, 10.0, 11.0, 330.0, 900.0].map(|most| format!("{}", round_step(most, 10.0)));
        assert_eq!(steps, ["1", "1", "2", "50", "100"]);
    }
}
