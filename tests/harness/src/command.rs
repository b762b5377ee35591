//! Running a program to its end, within a limit.

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Runs `command` to its end and gives what it wrote, whatever its exit status. At the limit it is killed and that is
/// the error.
pub fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    let name = format!("{:?}", command.get_program());
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(limit) {
        Ok(output) => output.with_context(|| format!("cannot read what {name} wrote")),
        Err(_) => {
            // Not reaped yet: the thread still waits for it, so the process ID cannot be another's.
            let _ = kill(pid, Signal::SIGKILL);
            let output = receiver.recv_timeout(Duration::from_secs(5));
            let said = output.ok().and_then(Result::ok).map(|o| text(&o)).unwrap_or_default();
            bail!("{name} did not end within {limit:?} and was killed\n{said}")
        }
    }
}

/// As [`run`], but a failure exit status is an error that carries what the program wrote; gives standard output.
pub fn succeed(command: &mut Command, limit: Duration) -> Result<String> {
    let output = run(command, limit)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(anyhow!("{command:?} failed ({})\n{}", output.status, text(&output)))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_output_and_status() {
        let output =
            run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]), Duration::from_secs(10))
                .expect("it runs");
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(text(&output), "out\nerr\n");
    }

    #[test]
    fn kills_what_does_not_end() {
        let error =
            run(Command::new("sleep").arg("600"), Duration::from_millis(50)).expect_err("it was killed");
        assert!(error.to_string().contains("did not end"), "{error}");
    }
}
