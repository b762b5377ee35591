//! The demo's table: pgbench over each way to the server.

use anyhow::{Result, bail};
use halephant_harness::pgbench::Length;
use halephant_harness::{Cluster, Login, Pgbench, Proxy, Report, cpu};
use std::time::Duration;

use super::Options;

struct Row {
    name: String,
    report: Report,
    /// CPU time of the whole host: client, halephant, server and kernel.
    host: Duration,
    halephant: Duration,
}

/// Runs pgbench over each of `ways` in turn.
pub fn table(ways: &[(&str, &Login)], cluster: &Cluster, proxy: &Proxy, options: &Options) -> Result<String> {
    let load = Pgbench {
        clients: options.clients,
        length: Length::Time(Duration::from_secs(options.seconds.into())),
        percentiles: true,
        ..Pgbench::default()
    };
    let mut rows = Vec::new();
    for (name, login) in ways {
        let (host, halephant) = (cpu::of_host()?, proxy.cpu());
        let report = load.run(cluster.binaries(), login)?;
        if report.failed > 0 || !report.errors.is_empty() {
            bail!("{name}: {}\n{}", report.errors.join("\n"), proxy.log_tail());
        }
        let (host, halephant) = (cpu::of_host()?.saturating_sub(host), proxy.cpu().saturating_sub(halephant));
        rows.push(Row { name: (*name).to_owned(), report, host, halephant });
    }
    Ok(render(&rows))
}

fn render(rows: &[Row]) -> String {
    let title = format!(
        "{:<24}{:>10}{:>10}{:>10}{:>16}{:>18}",
        "", "tps", "p50 ms", "p99 ms", "CPU µs/tx, host", "halephant's part"
    );
    let lines = rows.iter().map(|row| {
        let transactions = row.report.transactions.max(1) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / transactions;
        format!(
            "{:<24}{:>10.0}{:>10.3}{:>10.3}{:>16.1}{:>18.1}",
            row.name,
            row.report.tps,
            row.report.p50_ms.unwrap_or(f64::NAN),
            row.report.p99_ms.unwrap_or(f64::NAN),
            each(row.host),
            each(row.halephant),
        )
    });
    std::iter::once(title).chain(lines).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_cpu_time_by_transactions() {
        let report = Report {
            transactions: 1000,
            tps: 500.4,
            p50_ms: Some(1.25),
            p99_ms: Some(9.5),
            ..Report::default()
        };
        let (host, halephant) = (Duration::from_millis(50), Duration::from_micros(12_300));
        let text = render(&[Row { name: "direct".into(), report, host, halephant }]);
        let row: Vec<&str> = text.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!(row, ["direct", "500", "1.250", "9.500", "50.0", "12.3"]);
    }
}
