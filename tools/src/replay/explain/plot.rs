//! A time-sequence plot: offsets over time, as Van Jacobson drew them.
//!
//! For each connection and each direction that carried data: the bytes sent, the line of
//! acknowledgments below, the line of the window above, retransmissions in red, stalls shaded and
//! takeovers as vertical lines.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Told;
use super::trace::{Dot, Point};
use crate::replay::Side;

const WIDTH: u32 = 1200;
const PANEL: u32 = 420;
/// More panels would be no picture any more.
const PANELS_MAX: usize = 12;

const DATA: RGBColor = RGBColor(31, 90, 166);
const AGAIN: RGBColor = RGBColor(208, 28, 28);
const ACK: RGBColor = RGBColor(34, 139, 34);
const EDGE: RGBColor = RGBColor(190, 130, 20);
const TAKEOVER: RGBColor = RGBColor(140, 20, 140);
const STALL: RGBColor = RGBColor(230, 200, 200);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

/// One direction of one connection.
struct Panel<'a> {
    told: &'a Told,
    from: Side,
}

/// Draws all of them below each other.
pub(super) fn draw(told: &[Told]) -> Result<String, String> {
    let panels: Vec<Panel<'_>> = told.iter().flat_map(panels_of).take(PANELS_MAX).collect();
    if panels.is_empty() {
        return Err("nothing to draw: no connection that is told carried data".to_owned());
    }
    let mut text = String::new();
    {
        let size = (WIDTH, PANEL * panels.len() as u32);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(show)?;
        for (panel, area) in panels.iter().zip(root.split_evenly((panels.len(), 1))) {
            panel.draw(&area)?;
        }
        root.present().map_err(show)?;
    }
    Ok(text)
}

fn show(error: impl std::fmt::Display) -> String {
    format!("cannot draw: {error}")
}

fn panels_of(told: &Told) -> Vec<Panel<'_>> {
    let carried = |from: Side| {
        let points = told.details.trace.points.iter();
        points.filter(|p| p.from == from && p.dot == Dot::Data).map(|p| p.end - p.start).sum()
    };
    let bytes: [i64; 2] = [Side::Client, Side::Server].map(carried);
    [(Side::Server, bytes[1], bytes[0]), (Side::Client, bytes[0], bytes[1])]
        .into_iter()
        // A few requests beside a long download are no picture.
        .filter(|(_, own, other)| *own > 0 && *own * 50 >= *other)
        .map(|(from, _, _)| Panel { told, from })
        .collect()
}

impl Panel<'_> {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.told.details.trace.points.iter().filter(|point| point.from == self.from)
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), String> {
        let from = self.points().map(|p| p.at).min().unwrap_or(0) as f64 / 1e9;
        let to = self.points().map(|p| p.at).max().unwrap_or(0) as f64 / 1e9;
        let top = self.top() as f64;
        let room = ((to - from) * 0.02).max(1e-6);
        let digits = digits(to - from);
        let ends = self.told.summary.ends.map(|ends| ends.to_string()).unwrap_or_default();
        let title =
            format!("connection {}: {ends}, bytes from the {}", self.told.number, self.from);
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(90)
            .build_cartesian_2d((from - room)..(to + room), 0.0..top * 1.05)
            .map_err(show)?;
        self.shade(&mut chart, top * 1.05, (from, to))?;
        chart
            .configure_mesh()
            .light_line_style(WHITE.mix(0.0))
            .bold_line_style(BLACK.mix(0.1))
            .x_desc("seconds since the capture's first packet")
            .y_desc("offset in the stream")
            .y_label_formatter(&|offset| bytes(*offset))
            .x_label_formatter(&|at| format!("{at:.digits$}"))
            .label_style(("sans-serif", 13))
            .draw()
            .map_err(show)?;
        self.lines(&mut chart)?;
        self.takeovers(&mut chart, top * 1.05, (from - room, to + room))?;
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 13))
            .draw()
            .map_err(show)
    }

    /// The highest offset sent, with the window if it is not far above.
    fn top(&self) -> i64 {
        let most = |dot: Dot| self.points().filter(|p| p.dot == dot).map(|p| p.end).max();
        let sent = most(Dot::Data).unwrap_or(0).max(most(Dot::Again).unwrap_or(0)).max(1);
        most(Dot::Edge).map_or(sent, |edge| edge.min(sent.saturating_mul(3) / 2)).max(sent)
    }

    fn shade(&self, chart: &mut Chart<'_, '_>, top: f64, span: (f64, f64)) -> Result<(), String> {
        let stalls = self.told.details.trace.stalls.iter().filter_map(|(from, to)| {
            let (from, to) = (*from as f64 / 1e9, *to as f64 / 1e9);
            (to > span.0 && from < span.1).then(|| {
                let corners = [(from.max(span.0), 0.0), (to.min(span.1), top)];
                Rectangle::new(corners, STALL.mix(0.55).filled())
            })
        });
        let stalls: Vec<_> = stalls.collect();
        if stalls.is_empty() {
            return Ok(());
        }
        chart
            .draw_series(stalls)
            .map_err(show)?
            .label("no progress")
            .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], STALL.filled()));
        Ok(())
    }

    fn lines(&self, chart: &mut Chart<'_, '_>) -> Result<(), String> {
        for (dot, colour, name) in [(Dot::Edge, EDGE, "window"), (Dot::Ack, ACK, "acknowledged")] {
            let steps = steps(self.points().filter(|point| point.dot == dot));
            if steps.is_empty() {
                continue;
            }
            chart
                .draw_series(LineSeries::new(steps, colour.stroke_width(1)))
                .map_err(show)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
        }
        for (dot, colour, name, width) in
            [(Dot::Data, DATA, "sent", 2), (Dot::Again, AGAIN, "sent again", 4)]
        {
            let strokes: Vec<_> = self
                .points()
                .filter(|point| point.dot == dot)
                .map(|point| {
                    let at = point.at as f64 / 1e9;
                    let line = [(at, point.start as f64), (at, point.end as f64)];
                    PathElement::new(line, colour.stroke_width(width))
                })
                .collect();
            if strokes.is_empty() {
                continue;
            }
            chart.draw_series(strokes).map_err(show)?.label(name).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(width))
            });
        }
        Ok(())
    }

    fn takeovers(
        &self,
        chart: &mut Chart<'_, '_>,
        top: f64,
        span: (f64, f64),
    ) -> Result<(), String> {
        let lines: Vec<_> = self
            .told
            .details
            .trace
            .takeovers
            .iter()
            .map(|at| *at as f64 / 1e9)
            .filter(|at| (span.0..=span.1).contains(at))
            .map(|at| PathElement::new([(at, 0.0), (at, top)], TAKEOVER.stroke_width(2)))
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        chart
            .draw_series(lines)
            .map_err(show)?
            .label("takeover")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], TAKEOVER.stroke_width(2)));
        Ok(())
    }
}

/// A line that keeps its height until the next point.
fn steps<'a>(points: impl Iterator<Item = &'a Point>) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = Vec::new();
    for point in points {
        let (at, height) = (point.at as f64 / 1e9, point.end as f64);
        if let Some(&(_, before)) = line.last()
            && before != height
        {
            line.push((at, before));
        }
        line.push((at, height));
    }
    line
}

/// Digits behind the point that tell the marks of an axis of so many seconds apart.
fn digits(span: f64) -> usize {
    (1..9).find(|&digits| span * 10_f64.powi(digits) > 20.0).unwrap_or(9) as usize
}

fn bytes(offset: f64) -> String {
    match offset {
        ..10_000.0 => format!("{offset:.0}"),
        ..10_000_000.0 => format!("{:.0} kB", offset / 1e3),
        _ => format!("{:.1} MB", offset / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::digits;

    #[test]
    fn marks_of_a_short_axis_are_told_apart() {
        assert_eq!([100.0, 3.0, 0.9, 0.001, 2e-6, 0.0].map(digits), [1, 1, 2, 5, 8, 9]);
    }
}
