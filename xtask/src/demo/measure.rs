//! The demo's table: pgbench over each way to the server.

use anyhow::{Result, bail};
use halephant_harness::pgbench::{Measured, Processes, Window};
use halephant_harness::{Cluster, Login, Pgbench, Proxy};

use super::Options;

/// The share of transactions whose latency is written down.
const SAMPLING: f64 = 0.5;

struct Row {
    name: String,
    /// Watched: halephant.
    measured: Measured,
}

/// Runs pgbench over each of `ways` in turn.
pub fn table(ways: &[(&str, &Login)], cluster: &Cluster, proxy: &Proxy, options: &Options) -> Result<String> {
    let load = Pgbench { clients: options.clients, ..Pgbench::default() };
    let window = Window { seconds: options.seconds, sampling: SAMPLING };
    let (watched, servers) = ([proxy.pid()?], cluster.server_pids());
    let processes = Processes { watched: &watched, servers: &servers };
    let mut rows = Vec::new();
    for (name, login) in ways {
        let measured = load.measure(cluster.binaries(), login, window, processes, || Ok(()))?;
        if !measured.errors.is_empty() {
            bail!("{name}: {}\n{}", measured.errors.join("\n"), proxy.log_tail());
        }
        rows.push(Row { name: (*name).to_owned(), measured });
    }
    Ok(render(&rows))
}

fn render(rows: &[Row]) -> String {
    let title = format!(
        "{:<24}{:>10}{:>10}{:>10}{:>16}{:>18}",
        "", "tps", "p50 ms", "p99 ms", "CPU µs/tx, host", "halephant's part"
    );
    let lines = rows.iter().map(|Row { name, measured }| {
        let percentile = |percent| measured.latencies.percentile_ms(percent).unwrap_or(f64::NAN);
        format!(
            "{:<24}{:>10.0}{:>10.3}{:>10.3}{:>16.1}{:>18.1}",
            name,
            measured.tps(),
            percentile(50.0),
            percentile(99.0),
            measured.each_us(measured.host),
            measured.each_us(measured.watched),
        )
    });
    std::iter::once(title).chain(lines).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use halephant_harness::pgbench::Latencies;
    use std::time::Duration;

    #[test]
    fn divides_cpu_time_by_transactions() {
        let measured = Measured {
            transactions: 1000.0,
            time: Duration::from_secs(2),
            latencies: Latencies::from(vec![1250, 9500]),
            host: Duration::from_millis(50),
            watched: Duration::from_micros(12_300),
            ..Measured::default()
        };
        let text = render(&[Row { name: "direct".into(), measured }]);
        let row: Vec<&str> = text.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!(row, ["direct", "500", "1.250", "9.500", "50.0", "12.3"]);
    }
}
