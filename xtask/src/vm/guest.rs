//! [`Findings`]: boots a kernel in qemu and reads what the test program in it prints.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use halephant_harness::command::run;

use super::kernel::Kernel;

const QEMU: &str = "qemu-system-x86_64";
/// Software emulation: this works where there is no KVM, as on most CI machines.
const MEMORY: &str = "512";
/// Longest that a machine may take, from start to power-off.
const LIMIT: Duration = Duration::from_secs(300);
/// How often a machine is started at most.
const BOOTS: u32 = 3;
/// Each line of the test program begins with this.
const MARK: &str = "matrix\t";

/// What the test program found, by the first field of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub kernel: String,
    pub programs: Vec<Loaded>,
    /// Programs are told the network namespace.
    pub netns: bool,
    pub paths: Vec<PathState>,
    pub trips: Vec<Trip>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub name: String,
    /// The verifier's words where it does not load.
    pub refused: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathState {
    pub name: String,
    pub on: bool,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trip {
    pub path: String,
    pub family: String,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The path is off.
    Skipped(String),
    /// All bytes arrived, so many of them by the kernel path.
    Equal {
        redirected: u64,
    },
    Failed(String),
}

/// Boots `kernel` with `initrd` and waits for its end. A machine that stops before the test program has said anything is
/// started again: software emulation has been seen to crash a kernel in its second second.
pub fn boot(kernel: &Kernel, initrd: &Path) -> Result<Findings> {
    for _ in 1..BOOTS {
        let console = console(kernel, initrd)?;
        if console.contains(MARK) {
            return findings(&console);
        }
        let last = console.lines().rev().take(5).collect::<Vec<_>>();
        eprintln!("{}: it does not come up, once more: {last:?}", kernel.image.display());
    }
    findings(&console(kernel, initrd)?)
}

fn findings(console: &str) -> Result<Findings> {
    parse(console).with_context(|| format!("the console said:\n{console}"))
}

/// What the machine says from start to end.
fn console(kernel: &Kernel, initrd: &Path) -> Result<String> {
    let mut qemu = Command::new(QEMU);
    qemu.args(["-m", MEMORY, "-nographic", "-no-reboot", "-nic", "none", "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", "console=ttyS0 panic=-1 quiet"]);
    let output = run(&mut qemu, LIMIT).with_context(|| format!("{QEMU}: apt-get install qemu-system-x86"))?;
    let console = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{QEMU}: {}\n{console}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(console)
}

fn parse(console: &str) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut end = None;
    for line in console.lines() {
        // The first line may stand behind what the firmware left on the screen.
        let Some((_, line)) = line.split_once(MARK) else { continue };
        let fields: Vec<&str> = line.trim_end().split('\t').collect();
        match fields[..] {
            ["kernel", release] => findings.kernel = release.to_owned(),
            ["program", name, "loads"] => {
                findings.programs.push(Loaded { name: name.to_owned(), refused: None });
            }
            ["program", name, "refused", why] => {
                findings.programs.push(Loaded { name: name.to_owned(), refused: Some(why.to_owned()) });
            }
            ["netns", state] => findings.netns = state == "on",
            ["path", name, state, reason] => findings.paths.push(PathState {
                name: name.to_owned(),
                on: state == "on",
                reason: reason.to_owned(),
            }),
            ["trip", path, family, ref outcome @ ..] => findings.trips.push(Trip {
                path: path.to_owned(),
                family: family.to_owned(),
                outcome: match *outcome {
                    ["skipped", why] => Outcome::Skipped(why.to_owned()),
                    ["equal", _, redirected] => Outcome::Equal { redirected: redirected.parse()? },
                    _ => Outcome::Failed(outcome.join(" ")),
                },
            }),
            ["end", ref words @ ..] => end = Some(words.join(" ")),
            _ => anyhow::bail!("a line that means nothing: {line}"),
        }
    }
    let end = end.context("the test program did not run to its end")?;
    ensure!(end == "ok", "the test program: {end}");
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "Booting..\x1b[2Jmatrix\tkernel\t5.10.0\r\nmatrix\tprogram\tenrol\trefused\tunknown func\r\n\
        matrix\tprogram\town_verdict\tloads\r\n[ 1.0] noise\r\nmatrix\tnetns\toff\r\nmatrix\tpath\tcolocated\toff\tno: why\r\n\
        matrix\ttrip\town_socket\tipv4\tequal\t12\t34\r\nmatrix\ttrip\tcolocated\tipv4\tskipped\twhy\r\n";

    #[test]
    fn what_the_program_prints_is_read() {
        let findings = parse(&format!("{CONSOLE}matrix\tend\tok\r\n[ 2.0] reboot: Power down\r\n")).unwrap();
        assert_eq!((findings.kernel.as_str(), findings.netns), ("5.10.0", false));
        assert_eq!(findings.programs[0].refused.as_deref(), Some("unknown func"));
        assert_eq!(findings.programs[1].refused, None);
        assert_eq!((findings.paths[0].on, findings.paths[0].reason.as_str()), (false, "no: why"));
        assert_eq!(findings.trips[0].outcome, Outcome::Equal { redirected: 34 });
        assert_eq!(findings.trips[1].outcome, Outcome::Skipped("why".to_owned()));
    }

    #[test]
    fn a_program_that_does_not_end_is_an_error() {
        assert!(parse(CONSOLE).unwrap_err().to_string().contains("did not run to its end"));
        let failed = parse(&format!("{CONSOLE}matrix\tend\tfailed\tno memory\n")).unwrap_err();
        assert_eq!(failed.to_string(), "the test program: failed no memory");
    }
}
