//! Whether the kernel path starts here.

use anyhow::{Context as _, Result, ensure};
use halephant::splice::policy::{Policy, directions};
use halephant::splice::settings::SpliceMode;
use halephant::splice::{Path, Splice};
use halephant_kernel_tests::rig::{CREDIT_BYTES, settings};

#[test]
fn every_path_passes_the_self_test() -> Result<()> {
    let splice = Splice::start(&settings(SpliceMode::Require, CREDIT_BYTES), &[])?.context("off")?;
    for (outcome, path) in splice.report().paths.iter().zip(Path::ALL) {
        ensure!(outcome.path == path && outcome.used.client_to_server(), "{}", splice.report());
        ensure!(outcome.used.server_to_client(), "{}", splice.report());
    }
    Ok(())
}

#[test]
fn what_measurement_speaks_for_is_used() -> Result<()> {
    let mut measured = settings(SpliceMode::Require, CREDIT_BYTES);
    measured.policy = Policy::Measured;
    let splice = Splice::start(&measured, &[])?.context("off")?;
    for outcome in &splice.report().paths {
        let (wanted, _) = directions(Policy::Measured, outcome.path);
        ensure!(outcome.used == wanted, "{}", splice.report());
    }
    Ok(())
}

#[test]
fn what_the_policy_leaves_out_does_not_start() -> Result<()> {
    let mut measured = settings(SpliceMode::Require, CREDIT_BYTES);
    (measured.policy, measured.colocated) = (Policy::Measured, false);
    let error = Splice::start(&measured, &[]).err().context("it starts")?;
    ensure!(error.to_string().starts_with("the policy uses no path here (own_socket: not faster"), "{error}");
    measured.mode = SpliceMode::Auto;
    ensure!(Splice::start(&measured, &[])?.is_none());
    Ok(())
}

#[test]
fn without_a_cgroup_it_says_so() -> Result<()> {
    let mut wrong = settings(SpliceMode::Require, CREDIT_BYTES);
    wrong.cgroup = "/proc".into();
    let error = Splice::start(&wrong, &[]).err().context("it starts")?;
    ensure!(error.to_string() == "no cgroup2 hierarchy at /proc", "{error}");
    wrong.mode = SpliceMode::Auto;
    ensure!(Splice::start(&wrong, &[])?.is_none());
    Ok(())
}
