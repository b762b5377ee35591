//! The workspace's own commands: `cargo xtask <command>`.

mod bench;
mod build_ebpf;
mod cargo;
mod debian;
mod demo;
mod fuzz;
mod instructions;
mod test;
mod tidy;
mod vm;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The workspace's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure halephant beside other poolers and write a report
    Bench(Box<bench::Options>),
    /// Build the kernel programs' object files
    BuildEbpf(build_ebpf::Options),
    /// Start PostgreSQL and halephant, measure both, and leave them running until Ctrl-C
    Demo(demo::Options),
    /// Run the fuzz targets for a while each
    Fuzz(fuzz::Options),
    /// Count the instructions of a transaction and compare them with the committed baseline
    Instructions(instructions::Options),
    /// Run the whole test suite
    Test(test::Options),
    /// Check what the compiler does not: layers, file headers, names, lengths
    Tidy,
    /// Try the kernel path on other kernels, in virtual machines
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Bench(options) => bench::run(&options),
        Command::BuildEbpf(options) => build_ebpf::run(options),
        Command::Demo(options) => demo::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Instructions(options) => instructions::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Tidy => tidy::run(),
        Command::Vm(options) => vm::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Progress, apart from the result.
fn say(text: &str) {
    eprintln!("==> {text}");
}
