//! The picture: per panel, bars in groups, their quartiles as whiskers, their ratios written above.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::samples::{Better, Case, Panel, Sheet};
use super::stats::{Ratio, Spread};
use super::table::number;

const WIDTH: i32 = 1200;
const PANEL: i32 = 440;
const HEAD: i32 = 44;
const FOOT: i32 = 48;
/// Room for a panel's name and legend, and below it for the names of the cases.
const CAPTION: i32 = 64;
const LABELS: u32 = 58;
/// The breadth of a bar at most, as a share of the picture's.
const BAR_MAX: f64 = 0.08;

const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(120, 120, 120);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), String>;

pub(super) fn draw(sheet: &Sheet) -> Result<String, String> {
    let panels: Vec<&Panel> = sheet.panels.iter().filter(|panel| !panel.cases.is_empty()).collect();
    if panels.is_empty() {
        return Err("nothing to draw: no samples".to_owned());
    }
    let mut svg = String::new();
    {
        let height = HEAD + PANEL * panels.len() as i32 + FOOT;
        let root =
            SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE).map_err(show)?;
        write(&root, &sheet.title, (28, 24), 24, INK, HPos::Left)?;
        let (_, rest) = root.split_vertically(HEAD);
        let (body, foot) = rest.split_vertically(PANEL * panels.len() as i32);
        for (panel, area) in panels.iter().zip(body.split_evenly((panels.len(), 1))) {
            Picture::of(panel).draw(&area)?;
        }
        machine(&foot, sheet)?;
        root.present().map_err(show)?;
    }
    Ok(svg)
}

fn show(error: impl std::fmt::Display) -> String {
    format!("cannot draw: {error}")
}

fn write(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: u32,
    ink: RGBColor,
    anchor: HPos,
) -> Drawn {
    let style = ("sans-serif", size).into_font().color(&ink).pos(Pos::new(anchor, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style)).map_err(show)
}

/// On what it was measured: as many words a line as fit.
fn machine(area: &Area<'_>, sheet: &Sheet) -> Drawn {
    let mut lines = vec![String::new()];
    for (key, value) in &sheet.machine {
        let word = format!("{key} {value}");
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = word,
            Some(line) if line.len() + word.len() < 170 => *line = format!("{line} · {word}"),
            _ => lines.push(word),
        }
    }
    for (line, y) in lines.iter().zip((10..FOOT).step_by(16)) {
        write(area, line, (28, y), 12, FAINT, HPos::Left)?;
    }
    Ok(())
}

/// A panel and its scale.
struct Picture<'a> {
    panel: &'a Panel,
    series: Vec<&'a str>,
    /// Values at the axis' ends, logarithms where the axis is.
    ends: (f64, f64),
}

impl<'a> Picture<'a> {
    fn of(panel: &'a Panel) -> Self {
        let values = || {
            let series = panel.cases.iter().flat_map(|case| &case.series);
            series.flat_map(|series| &series.values).copied()
        };
        let most = values().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let least = values().filter(|value| *value > 0.0).fold(most, f64::min);
        let ends = if panel.log {
            let (low, high) = (least.log10().floor(), most.log10() + 0.25);
            (if low < high { low } else { high - 1.0 }, high)
        } else {
            (0.0, most * 1.18)
        };
        Self { panel, series: panel.series(), ends }
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        self.caption(area)?;
        let mut chart = ChartBuilder::on(area)
            .margin_top(CAPTION)
            .margin_left(12)
            .margin_right(28)
            .x_label_area_size(LABELS)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..self.panel.cases.len() as f64, self.ends.0..self.ends.1)
            .map_err(show)?;
        self.axes(&mut chart)?;
        for (at, case) in self.panel.cases.iter().enumerate() {
            self.label(area, &chart, at, case)?;
            // Few bars stay bars.
            let broadest = BAR_MAX * self.panel.cases.len() as f64;
            let width = (0.84 / self.series.len() as f64).min(broadest);
            let margin = (1.0 - width * self.series.len() as f64) / 2.0;
            for (place, name) in self.series.iter().enumerate() {
                let from = at as f64 + margin + width * place as f64;
                self.bar(area, &mut chart, (from, from + width * 0.9), (case, name))?;
            }
        }
        Ok(())
    }

    fn caption(&self, area: &Area<'_>) -> Drawn {
        let way = match self.panel.better {
            Better::Higher => "more is better",
            Better::Lower | Better::Spread => "less is better",
        };
        let mut caption = format!("{} ({way})", self.panel.name);
        if let Some(baseline) = &self.panel.baseline {
            caption += &format!("; above the bars: the ratio to {baseline}, and the median");
        }
        write(area, &caption, (28, 14), 16, INK, HPos::Left)?;
        let mut x = 90;
        for (place, name) in self.series.iter().enumerate() {
            let square = Rectangle::new([(x, 32), (x + 14, 46)], colour(name, place).filled());
            area.draw(&square).map_err(show)?;
            write(area, name, (x + 20, 39), 14, INK, HPos::Left)?;
            x += 44 + 8 * name.chars().count() as i32;
        }
        Ok(())
    }

    fn axes(&self, chart: &mut Chart<'_, '_>) -> Drawn {
        let log = self.panel.log;
        let label = move |y: &f64| number(if log { 10_f64.powf(*y) } else { *y });
        let decades = (self.ends.1 - self.ends.0).ceil() as usize + 1;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_labels(if log { decades } else { 8 })
            .light_line_style(WHITE.mix(0.0))
            .bold_line_style(BLACK.mix(0.12))
            .axis_style(FAINT)
            .y_desc(self.panel.unit.as_str())
            .y_label_formatter(&label)
            .label_style(("sans-serif", 13))
            .draw()
            .map_err(show)
    }

    /// The case's name below the axis, a line for each of its parts.
    fn label(&self, area: &Area<'_>, chart: &Chart<'_, '_>, at: usize, case: &Case) -> Drawn {
        let (x, y) = self.pixel(area, chart, at as f64 + 0.5, self.ends.0);
        for (line, part) in case.name.split(", ").enumerate() {
            write(area, part, (x, y + 14 + 15 * line as i32), 13, INK, HPos::Center)?;
        }
        Ok(())
    }

    fn bar(
        &self,
        area: &Area<'_>,
        chart: &mut Chart<'_, '_>,
        (left, right): (f64, f64),
        (case, name): (&Case, &str),
    ) -> Drawn {
        let values = case.values(name);
        let Some(spread) = Spread::of(values) else { return Ok(()) };
        let place = self.series.iter().position(|series| *series == name).unwrap_or(0);
        let (colour, middle) = (colour(name, place), f64::midpoint(left, right));
        let y = |value: f64| self.scaled(value);
        let top = if self.panel.better == Better::Spread {
            self.dots(chart, (left, right), values, colour)?;
            let line = [(left, y(spread.median)), (right, y(spread.median))];
            chart
                .plotting_area()
                .draw(&PathElement::new(line, INK.stroke_width(2)))
                .map_err(show)?;
            spread.max
        } else {
            let corners = [(left, self.ends.0), (right, y(spread.median))];
            chart.plotting_area().draw(&Rectangle::new(corners, colour.filled())).map_err(show)?;
            let line = [(middle, y(spread.q1)), (middle, y(spread.q3))];
            chart
                .plotting_area()
                .draw(&PathElement::new(line, INK.stroke_width(2)))
                .map_err(show)?;
            spread.q3.max(spread.median)
        };
        let above = self.pixel(area, chart, middle, y(top));
        self.written(area, above, (case, name), &spread)
    }

    /// What stands above a bar.
    fn written(
        &self,
        area: &Area<'_>,
        (x, y): (i32, i32),
        (case, name): (&Case, &str),
        spread: &Spread,
    ) -> Drawn {
        if self.panel.better == Better::Spread {
            let said = format!("p50 {}  p99 {}", number(spread.median), number(spread.p99));
            return write(area, &said, (x, y - 10), 12, INK, HPos::Center);
        }
        write(area, &number(spread.median), (x, y - 8), 11, FAINT, HPos::Center)?;
        let baseline = self.panel.baseline.as_deref().filter(|baseline| *baseline != name);
        let ratio = baseline.and_then(|b| Ratio::of(case.values(name), case.values(b)));
        ratio.map_or(Ok(()), |ratio| {
            let said = format!("{:.2}", ratio.of_medians);
            write(area, &said, (x, y - 22), 14, INK, HPos::Center)
        })
    }

    /// Every value, spread over the width in the order of the rounds.
    fn dots(
        &self,
        chart: &mut Chart<'_, '_>,
        (left, right): (f64, f64),
        values: &[f64],
        colour: RGBColor,
    ) -> Drawn {
        let step = (right - left) / values.len() as f64;
        for (at, value) in values.iter().enumerate() {
            let centre = (left + step * (at as f64 + 0.5), self.scaled(*value));
            let dot = Circle::new(centre, 3, colour.mix(0.7).filled());
            chart.plotting_area().draw(&dot).map_err(show)?;
        }
        Ok(())
    }

    fn scaled(&self, value: f64) -> f64 {
        let value = if self.panel.log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        value.clamp(self.ends.0, self.ends.1)
    }

    /// Where a point of the chart is in the panel's area.
    fn pixel(&self, area: &Area<'_>, chart: &Chart<'_, '_>, x: f64, y: f64) -> (i32, i32) {
        let (px, py) = chart.backend_coord(&(x, y));
        let (left, top) = area.get_base_pixel();
        (px - left, py - top)
    }
}

/// Those who are always there keep their colour in every picture.
fn colour(name: &str, place: usize) -> RGBColor {
    const OTHERS: [RGBColor; 4] = [
        RGBColor(31, 90, 166),
        RGBColor(104, 163, 219),
        RGBColor(34, 139, 90),
        RGBColor(150, 90, 160),
    ];
    match name {
        "kernel" => RGBColor(150, 150, 150),
        "haproxy" => RGBColor(224, 142, 50),
        "simplex" => RGBColor(104, 163, 219),
        "duplex" => RGBColor(31, 90, 166),
        _ => OTHERS[place % OTHERS.len()],
    }
}
