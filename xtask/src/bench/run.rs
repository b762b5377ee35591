//! The order of a run: lane by lane, round by round, one program after the other, each started afresh.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::BTreeMap;

use super::figure::{Figure, Sample};
use super::lane::{Lane, Work};
use super::machine::Machine;
use super::measure;
use super::options::Plan;
use super::peer::{pgbouncer, version_line};
use super::program::Program;
use super::results::{LaneResult, ProgramResult, Results};
use super::stage::Stage;
use super::syscalls;
use crate::say;

/// pgbench's scale: times 100,000 accounts.
const SCALE: u32 = 10;
const QUICK_SCALE: u32 = 1;

/// With more, strace takes too long.
const SYSCALL_CLIENTS_MAX: u32 = 64;

pub fn run(plan: &Plan) -> Result<Results> {
    raise_open_files()?;
    say("starting PostgreSQL and making its tables");
    let scale = if plan.quick { QUICK_SCALE } else { SCALE };
    let stage = Stage::start(plan, scale)?;
    let mut lanes = Vec::new();
    for (index, lane) in plan.lanes.iter().enumerate() {
        say(&format!("{} of {}: {}", index + 1, plan.lanes.len(), lane.name));
        lanes.push(run_lane(plan, &stage, lane));
    }
    Ok(Results {
        machine: Machine::of_this_host(),
        versions: versions(plan, &stage)?,
        commands: vec![plan.command.clone()],
        quick: plan.quick,
        lanes,
    })
}

/// Thousands of clients are as many files, here and in every program that is started.
fn raise_open_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit of open files")
}

fn run_lane(plan: &Plan, stage: &Stage, lane: &Lane) -> LaneResult {
    let programs: Vec<Program> =
        plan.programs.iter().copied().filter(|program| program.is_for(lane)).collect();
    let mut results: Vec<ProgramResult> =
        programs.iter().map(|program| ProgramResult::new(program.name())).collect();
    for round in 0..plan.pace.rounds as usize {
        for step in 0..programs.len() {
            let index = (round + step) % programs.len();
            if results[index].missing.is_none() {
                record(&mut results[index], sample(plan, stage, programs[index], lane));
            }
        }
    }
    if plan.syscalls && syscalls::is_available() {
        count_syscalls(stage, lane, &programs, &mut results);
    }
    LaneResult {
        name: lane.name.clone(),
        description: lane.description(),
        figures: lane.figures().to_vec(),
        programs: results,
    }
}

/// Once for each program that was measured, after the rounds: strace slows everything down.
fn count_syscalls(stage: &Stage, lane: &Lane, programs: &[Program], results: &mut [ProgramResult]) {
    let Work::Load(load) = &lane.work else { return };
    // Where the other end is makes no difference to them.
    if load.reconnect || load.clients > SYSCALL_CLIENTS_MAX || lane.remote.is_some() {
        return;
    }
    for (program, result) in programs.iter().zip(results) {
        if result.missing.is_none() {
            let subject = stage.subject(*program, lane);
            let calls = subject.and_then(|subject| syscalls::per_transaction(stage, &subject, load));
            let figure = |calls| Sample::from([(Figure::SyscallsPerTransaction, calls)]);
            record(result, calls.map(|calls| calls.map(figure).unwrap_or_default()));
        }
    }
}

fn record(result: &mut ProgramResult, outcome: Result<Sample>) {
    match outcome {
        Ok(sample) => result.add(sample),
        Err(error) => {
            say(&format!("{} failed: {error:#}", result.name));
            result.missing = Some(format!("{error:#}"));
        }
    }
}

fn sample(plan: &Plan, stage: &Stage, program: Program, lane: &Lane) -> Result<Sample> {
    if let Some(name) = program.peer() {
        let file = plan.peers.get(name).with_context(|| {
            format!("{name} is neither on PATH nor given by --{name} (Debian: apt-get install {name})")
        })?;
        if name == "pgbouncer"
            && lane.keeps_statements()
            && pgbouncer::version(file)? < pgbouncer::PREPARED_STATEMENTS
        {
            anyhow::bail!("prepared statements in transaction mode need PgBouncer 1.21");
        }
    }
    let subject = stage.subject(program, lane)?;
    let sample = stage
        .at_clients(lane, || measure::sample(stage, &subject, lane, &plan.pace))
        .map_err(|error| error.context(subject.log_tail()).context(program.name()))?;
    if let Some((figure, value)) = lane.figures().first().and_then(|f| Some((f, sample.get(f)?))) {
        say(&format!("    {:<32}{value:>12.*} {}", program.name(), figure.decimals(), figure.title()));
    }
    Ok(sample)
}

fn versions(plan: &Plan, stage: &Stage) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::from([
        ("PostgreSQL".to_owned(), stage.cluster.binaries().version.to_string()),
        ("halephant".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    for (name, file) in plan.peers.iter().filter(|(name, _)| **name != "baseline") {
        let line = version_line(file)?;
        let number = line.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        versions.insert((*name).to_owned(), number.unwrap_or(&line).to_owned());
    }
    Ok(versions)
}
