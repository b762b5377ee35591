//! The main figure of every lane as an SVG: each program as a share of PgBouncer, or of the best where that is missing.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::figure::{Better, Figure};
use super::program::Program;
use super::results::{LaneResult, Results};

const WIDTH: u32 = 1000;
const MARGIN: i32 = 20;
const NAMES_WIDTH: i32 = 260;
const BAR_HEIGHT: i32 = 14;
const LANE_GAP: i32 = 30;
const VALUE_WIDTH: i32 = 150;
const TITLE_HEIGHT: i32 = 60;
const TEXT: (&str, i32) = ("sans-serif", 12);

struct Bar {
    name: String,
    /// As times the reference; more is better.
    times: f64,
    label: String,
}

pub fn render(results: &Results) -> Result<String> {
    let lanes: Vec<(&LaneResult, Vec<Bar>)> =
        results.lanes.iter().map(|lane| (lane, bars(lane))).filter(|(_, bars)| !bars.is_empty()).collect();
    let height = lanes.iter().fold(TITLE_HEIGHT + MARGIN, |height, (_, bars)| {
        height + LANE_GAP + BAR_HEIGHT * i32::try_from(bars.len()).unwrap_or(0)
    });
    let most = lanes.iter().flat_map(|(_, bars)| bars).map(|bar| bar.times).fold(1.0, f64::max);
    let mut svg = String::new();
    {
        let size = (WIDTH, u32::try_from(height)?);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area, &lanes, most).map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw(area: &Area<'_>, lanes: &[(&LaneResult, Vec<Bar>)], most: f64) -> Drawn {
    area.fill(&WHITE)?;
    let title = format!("Times {}, medians: longer is better", Program::Pgbouncer.name());
    area.draw_text(&title, &("sans-serif", 18).into_text_style(area), (MARGIN, MARGIN))?;
    let scale = f64::from(i32::try_from(WIDTH)? - 2 * MARGIN - NAMES_WIDTH - VALUE_WIDTH) / most;
    let x = |times: f64| MARGIN + NAMES_WIDTH + (times * scale) as i32;
    let mut y = TITLE_HEIGHT;
    for (lane, bars) in lanes {
        y += LANE_GAP;
        let main = lane.figures.first().map(|figure| figure.title()).unwrap_or_default();
        let heading = format!("{} ({main})", lane.name);
        area.draw_text(&heading, &("sans-serif", 13).into_text_style(area), (MARGIN, y - 16))?;
        let top = y;
        for bar in bars {
            area.draw_text(&bar.name, &TEXT.into_text_style(area), (MARGIN + 12, y))?;
            let style = color(&bar.name).filled();
            area.draw(&Rectangle::new([(x(0.0), y + 1), (x(bar.times), y + BAR_HEIGHT - 1)], style))?;
            area.draw_text(&bar.label, &TEXT.into_text_style(area), (x(bar.times) + 6, y))?;
            y += BAR_HEIGHT;
        }
        area.draw(&PathElement::new([(x(1.0), top), (x(1.0), y)], BLACK.mix(0.6)))?;
    }
    area.present()?;
    Ok(())
}

fn color(name: &str) -> RGBColor {
    match name {
        "direct" => RGBColor(150, 150, 150),
        "halephant" => RGBColor(31, 119, 180),
        "halephant, own-socket" => RGBColor(88, 160, 210),
        "halephant, co-located" => RGBColor(9, 70, 120),
        "PgBouncer" => RGBColor(214, 118, 28),
        _ => RGBColor(226, 172, 120),
    }
}

fn bars(lane: &LaneResult) -> Vec<Bar> {
    let Some(main) = lane.figures.first().copied() else { return Vec::new() };
    let median = |name: &str| Some(lane.program(name)?.summary(main)?.median);
    let best = || {
        let medians = lane.programs.iter().filter_map(|program| Some(program.summary(main)?.median));
        medians.reduce(if main.better() == Better::More { f64::max } else { f64::min })
    };
    let Some(reference) = median(Program::Pgbouncer.name()).or_else(best) else { return Vec::new() };
    let bar = |name: &str| {
        let value = median(name)?;
        let times = if main.better() == Better::More { value / reference } else { reference / value };
        times.is_finite().then(|| Bar { name: name.to_owned(), times, label: label(main, times, value) })
    };
    lane.programs.iter().filter_map(|program| bar(&program.name)).collect()
}

fn label(main: Figure, times: f64, value: f64) -> String {
    format!("{times:.2}  ({value:.*})", main.decimals())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::results;

    #[test]
    fn draws_every_program_that_has_figures() {
        let svg = render(&results()).expect("it draws");
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for name in ["direct", "PgBouncer", "halephant", "1.50  (150)", "session-simple-8 (tps)"] {
            assert!(svg.contains(name), "no {name} in {svg}");
        }
        assert!(!svg.contains("Odyssey"), "{svg}");
    }
}
