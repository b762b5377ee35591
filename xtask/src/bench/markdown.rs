//! Results as Markdown: ratios first, then every figure with its spread.

use std::fmt::Write;

use super::figure::{Figure, Summary};
use super::program::Program;
use super::results::{LaneResult, ProgramResult, Results};

/// What the others are compared with.
fn references() -> [&'static str; 2] {
    [Program::Direct.name(), Program::Pgbouncer.name()]
}

pub fn render(results: &Results) -> String {
    let mut text = String::new();
    if results.quick {
        text += "**A quick run: it shows that the benchmark works and says nothing about speed.**\n\n";
    }
    text += &about(results);
    text += &overview(results);
    for lane in &results.lanes {
        text += &table(lane);
    }
    text
}

fn about(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "Machine: {}, {} CPUs, {} GiB, Linux {}, {}; everything on it.\n\n",
        machine.cpu, machine.cpus, machine.memory_gib, machine.kernel, machine.system
    );
    let versions: Vec<String> =
        results.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let _ = writeln!(text, "Versions: {}.\n", versions.join(", "));
    let _ = writeln!(text, "```sh\n{}\n```\n", results.commands.join("\n"));
    text
}

/// One line for each lane and program that is ours: how it compares.
fn overview(results: &Results) -> String {
    let [direct, pgbouncer] = references();
    let mut text = format!(
        "### Ratios\n\nOf medians. Speed: more is better for tps, less for everything else.\n\n\
         | lane | program | figure | × {direct} | × {pgbouncer} | CPU × {direct} | CPU × {pgbouncer} |\n\
         | --- | --- | --- | ---: | ---: | ---: | ---: |\n"
    );
    for lane in &results.lanes {
        let Some(main) = lane.figures.first() else { continue };
        let ours = lane.programs.iter().filter(|program| program.name.starts_with("halephant"));
        for program in ours {
            let ratio = |reference, figure| match lane.ratio(&program.name, reference, figure) {
                Some(ratio) => format!("{ratio:.2}"),
                None => "–".into(),
            };
            let cost = lane.figures.iter().copied().find(|figure| figure.is_cost());
            let of_cost = |reference| cost.map_or_else(|| "–".into(), |figure| ratio(reference, figure));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} |",
                lane.name,
                program.name,
                main.title(),
                ratio(direct, *main),
                ratio(pgbouncer, *main),
                of_cost(direct),
                of_cost(pgbouncer),
            );
        }
    }
    text + "\n"
}

fn table(lane: &LaneResult) -> String {
    let shown: Vec<Figure> = lane
        .figures
        .iter()
        .copied()
        .filter(|figure| lane.programs.iter().any(|program| program.figures.contains_key(figure)))
        .collect();
    let mut text = format!("### {}\n\n{}.\n\n", lane.name, capitalised(&lane.description));
    if let Some(main) = lane.figures.first() {
        let [direct, pgbouncer] = references();
        let _ = write!(text, "| program | {0} × {direct} | {0} × {pgbouncer} |", main.title());
        for figure in &shown {
            let _ = write!(text, " {} |", figure.title());
        }
        let _ = writeln!(text, "\n| --- |{}", " ---: |".repeat(shown.len() + 2));
        for program in &lane.programs {
            let _ = writeln!(text, "| {} |{}", program.name, cells(lane, program, *main, &shown));
        }
    }
    for program in &lane.programs {
        if let Some(reason) = program.reason() {
            let _ = writeln!(text, "\n{}: {reason}", program.name);
        }
    }
    text + "\n"
}

fn cells(lane: &LaneResult, program: &ProgramResult, main: Figure, shown: &[Figure]) -> String {
    let ratios = references().map(|reference| {
        lane.ratio(&program.name, reference, main).map_or_else(|| " – |".into(), |r| format!(" {r:.2} |"))
    });
    let figures = shown.iter().map(|figure| {
        program
            .summary(*figure)
            .map_or_else(|| " – |".into(), |summary| format!(" {} |", cell(*figure, summary)))
    });
    ratios.into_iter().chain(figures).collect()
}

/// `41,000 (39,800..42,100)`, or one value alone.
fn cell(figure: Figure, summary: Summary) -> String {
    let number = |value: f64| thousands(&format!("{value:.*}", figure.decimals()));
    let (median, least, most) = (number(summary.median), number(summary.least), number(summary.most));
    if least == most {
        return median;
    }
    format!("{median} ({least}..{most})")
}

fn thousands(number: &str) -> String {
    let (whole, part) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + part
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::results;

    #[test]
    fn groups_thousands() {
        assert_eq!(thousands("41000"), "41,000");
        assert_eq!(thousands("999.5"), "999.5");
        assert_eq!(thousands("1234567.25"), "1,234,567.25");
    }

    #[test]
    fn shows_ratios_medians_and_spread() {
        let text = render(&results());
        assert!(
            text.contains("| session-simple-8 | halephant | tps | 0.75 | 1.50 | 1.50 | 0.75 |"),
            "{text}"
        );
        assert!(text.contains("| PgBouncer | 0.50 | 1.00 | 100 (90..110) | 40.0 |"), "{text}");
        assert!(text.contains("\nOdyssey: it ended: exit status: 1; no room\n"), "{text}");
        assert!(!text.contains("p50"), "a column without a value: {text}");
    }
}
