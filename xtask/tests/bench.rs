//! The benchmark's short form runs and its output is complete. Nothing of what it measures is judged.

use halephant_harness::command;
use halephant_harness::proxy::binary;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

/// Counted by strace, which need not be here, and may not be allowed to trace.
const OPTIONAL: &str = "syscalls_per_transaction";

/// Of a program that goes between: direct connections have none.
const PROGRAMS_OWN: [&str; 2] = ["program_us_per_transaction", "program_seconds_per_gb"];

fn quick(output: &Path) -> Value {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_xtask"));
    bench.args(["bench", "--quick", "--halephant"]).arg(binary::find().expect("halephant builds"));
    bench.arg("--output").arg(output);
    command::succeed(&mut bench, LIMIT).expect("the benchmark runs");
    let text = std::fs::read(output.join("results.json")).expect("it writes results");
    serde_json::from_slice(&text).expect("they are JSON")
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// One end on another host: the other poolers are not measured there, and it needs root.
fn is_remote(lane: &Value) -> bool {
    text(lane, "name").contains("-remote-")
}

/// Figures that `program` has not, of those the lane has.
fn absent(lane: &Value, program: &Value) -> Vec<String> {
    let is_direct = text(program, "name") == "direct";
    let wanted = list(lane, "figures").iter().filter_map(Value::as_str);
    wanted
        .filter(|figure| *figure != OPTIONAL && !(is_direct && PROGRAMS_OWN.contains(figure)))
        .filter(|figure| list(&program["figures"], figure).is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_quick_run_is_complete() {
    let directory = tempfile::tempdir().expect("there is room");
    let results = quick(directory.path());
    let lanes = list(&results, "lanes");
    assert!(lanes.len() > 5, "{results:#}");
    for lane in lanes {
        let names: Vec<&str> = list(lane, "programs").iter().map(|program| text(program, "name")).collect();
        let is_remote = is_remote(lane);
        assert!((is_remote || names.contains(&"PgBouncer")) && names.contains(&"halephant"), "{names:?}");
        for program in list(lane, "programs") {
            let (lane_name, name, missing) =
                (text(lane, "name"), text(program, "name"), text(program, "missing"));
            // PgBouncer need not be installed and the kernel path not be possible, but the report has to say so.
            if !missing.is_empty() && (is_remote && !is_root() || name != "direct" && name != "halephant") {
                eprintln!("MISSING: {lane_name}, {name}: {missing}");
                continue;
            }
            assert_eq!(missing, "", "{lane_name}, {name}");
            assert_eq!(absent(lane, program), [""; 0], "{lane_name}, {name}");
        }
    }
    let report = std::fs::read_to_string(directory.path().join("report.md")).expect("it writes a report");
    let chart = std::fs::read_to_string(directory.path().join("chart.svg")).expect("it draws a chart");
    for lane in lanes.iter().filter(|lane| !is_remote(lane) || is_root()) {
        let name = text(lane, "name");
        assert!(report.contains(&format!("### {name}")) && chart.contains(name), "{name}");
    }
}
