//! One client of a tenant: it marks what it writes and asks, and checks that what it gets bears its mark.

use anyhow::{Context as _, Result, ensure};
use halephant_harness::Login;
use halephant_suite::message::{self, Message};
use halephant_suite::{Client, Silence, encode};
use rand::RngExt;
use rand::rngs::StdRng;
use std::sync::atomic::{AtomicBool, Ordering};

pub const NAMES: [&str; 2] = ["tenant_a", "tenant_b"];
pub const PASSWORD: &str = "tenant-password";

/// Begins what no client ever commits.
pub const NEVER: &str = "never ";

/// A table of the same name for each tenant, found by its search path: who asks as somebody else gets other rows.
pub fn schema(name: &str) -> Vec<String> {
    vec![
        format!("CREATE SCHEMA {name} AUTHORIZATION {name}"),
        format!("CREATE TABLE {name}.note (owner text DEFAULT current_user, mark text)"),
        format!("INSERT INTO {name}.note SELECT '{name}', 'fixed ' || n FROM generate_series(1, 50) n"),
        format!("GRANT ALL ON {name}.note TO {name}"),
    ]
}

/// What a client went through.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answers that were checked.
    pub answers: u64,
    /// ErrorResponses and ends of the connection, which the chaos explains.
    pub errors: u64,
    /// Connections that this client broke off.
    pub broken: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.errors += other.errors;
        self.broken += other.broken;
    }
}

pub struct Tenant {
    pub login: Login,
    pub number: u64,
    pub session: bool,
    pub random: StdRng,
}

/// How an exchange ended, other than with a wrong answer.
enum Outcome {
    /// Right, and the connection goes on.
    Answered,
    /// Refused or cut by the chaos.
    Failed,
    /// By this client, in the middle.
    Broken,
}

impl Tenant {
    /// Connects, asks and breaks off until `done`. An error is a wrong answer or silence.
    pub fn live(mut self, done: &AtomicBool) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut client = None;
        let mut serial = 0;
        while !done.load(Ordering::SeqCst) {
            let mut open = match client.take().map_or_else(|| Client::connect(&self.login), Ok) {
                Ok(open) => open,
                Err(error) => {
                    tally.errors += 1;
                    no_silence(error)?;
                    continue;
                }
            };
            serial += 1;
            let mark = format!("{}/{}/{serial}", self.login.user, self.number);
            match self.exchange(&mut open, &mark) {
                Ok(Outcome::Answered) => {
                    tally.answers += 1;
                    if !self.random.random_ratio(1, 20) {
                        client = Some(open);
                    }
                }
                Ok(Outcome::Failed) => {
                    tally.errors += 1;
                    // Half of them go on with the session, where there is still one.
                    client = self.random.random_ratio(1, 2).then_some(open);
                }
                Ok(Outcome::Broken) => {
                    tally.broken += 1;
                    open.cut();
                }
                Err(error) => {
                    tally.errors += 1;
                    no_silence(error)?;
                }
            }
        }
        Ok(tally)
    }

    fn exchange(&mut self, client: &mut Client, mark: &str) -> Result<Outcome> {
        match self.random.random_range(0..10_u32) {
            0 | 1 => self.simple(client, mark),
            2 => self.pipeline(client, mark),
            3 | 4 => self.transaction(client, mark),
            5 => self.rows(client),
            6 => self.break_off(client, mark),
            7 => self.copy(client, mark),
            8 => self.settings(client, mark),
            _ => self.identity(client),
        }
    }

    fn simple(&self, client: &mut Client, mark: &str) -> Result<Outcome> {
        let answer = to_ready(client, &encode::query(&format!("SELECT '{mark}'")), 1)?;
        expect(&answer, &[mark.to_owned()])
    }

    /// Statements with a Sync each, or one for all.
    fn pipeline(&mut self, client: &mut Client, mark: &str) -> Result<Outcome> {
        let count = self.random.random_range(2..20_usize);
        let each = self.random.random_bool(0.5);
        let mut bytes = Vec::new();
        for index in 0..count {
            let value = format!("{mark}.{index}");
            bytes.extend(encode::parse("", "SELECT $1::text"));
            bytes.extend(encode::bind("", "", &[Some(&value)]));
            bytes.extend(encode::execute("", 0));
            if each || index + 1 == count {
                bytes.extend(encode::sync());
            }
        }
        let answer = to_ready(client, &bytes, if each { count } else { 1 })?;
        let wanted: Vec<String> = (0..count).map(|index| format!("{mark}.{index}")).collect();
        expect(&answer, &wanted)
    }

    /// What is written is there in the transaction, and afterwards if it was committed, and only then.
    fn transaction(&mut self, client: &mut Client, mark: &str) -> Result<Outcome> {
        let commit = self.random.random_bool(0.5);
        let count = format!("SELECT count(*) FROM note WHERE mark = '{mark}'");
        for sql in ["BEGIN", &format!("INSERT INTO note (mark) VALUES ('{mark}')")] {
            if message::error(&to_ready(client, &encode::query(sql), 1)?).is_some() {
                return self.end_transaction(client);
            }
        }
        let inside = to_ready(client, &encode::query(&count), 1)?;
        if let Outcome::Failed = expect(&inside, &["1".into()])? {
            return self.end_transaction(client);
        }
        let end = if commit { "COMMIT" } else { "ROLLBACK" };
        let ended = to_ready(client, &encode::query(end), 1)?;
        if message::error(&ended).is_some() {
            return Ok(Outcome::Failed);
        }
        // COMMIT of a transaction that had failed says ROLLBACK.
        let committed = ended.iter().any(|message| message.tag == b'C' && message.body == b"COMMIT\0");
        let after = to_ready(client, &encode::query(&count), 1)?;
        expect(&after, &[u8::from(committed).to_string()])
    }

    fn end_transaction(&self, client: &mut Client) -> Result<Outcome> {
        to_ready(client, &encode::query("ROLLBACK"), 1)?;
        Ok(Outcome::Failed)
    }

    /// All rows are this tenant's.
    fn rows(&self, client: &mut Client) -> Result<Outcome> {
        let sql = "SELECT owner FROM note WHERE mark LIKE 'fixed %'";
        let answer = to_ready(client, &encode::query(sql), 1)?;
        expect(&answer, &vec![self.login.user.clone(); 50])
    }

    fn identity(&self, client: &mut Client) -> Result<Outcome> {
        let answer = to_ready(client, &encode::query("SELECT current_user || ' ' || session_user"), 1)?;
        expect(&answer, &[format!("{0} {0}", self.login.user)])
    }

    /// A setting that is for one transaction, or for one session.
    fn settings(&mut self, client: &mut Client, mark: &str) -> Result<Outcome> {
        let scope = if self.session { "" } else { "LOCAL " };
        let show = "SELECT coalesce(current_setting('chaos.mark', true), '')";
        let before = to_ready(client, &encode::query(show), 1)?;
        // Its own from before, in a session, or nothing.
        let own = format!("{}/{}/", self.login.user, self.number);
        let found = message::values(&before).pop().unwrap_or_default();
        ensure!(
            found.is_empty() || self.session && found.starts_with(&own),
            Wrong(format!("{mark} finds {found:?}"))
        );
        let sql = format!("BEGIN; SET {scope}chaos.mark = '{mark}'; {show}; COMMIT");
        let answer = to_ready(client, &encode::query(&sql), 1)?;
        expect(&answer, &[mark.to_owned()])
    }

    /// A COPY that is ended in one of the ways there are.
    fn copy(&mut self, client: &mut Client, mark: &str) -> Result<Outcome> {
        client.send(&encode::query("COPY note (mark) FROM STDIN"))?;
        let start = client.receive()?;
        if start.tag != b'G' {
            client.receive_until(b'Z').with_context(|| format!("COPY was answered by {start:?}"))?;
            return Ok(Outcome::Failed);
        }
        client.send(&encode::copy_data(format!("{mark}\n").as_bytes()))?;
        match self.random.random_range(0..4_u32) {
            0 => return Ok(Outcome::Broken),
            1 => client.send(&encode::copy_fail("chaos"))?,
            2 => client.send(&[encode::copy_data(b"too\tmany\n"), encode::copy_done()].concat())?,
            _ => client.send(&encode::copy_done())?,
        }
        let done = client.receive_until(b'Z')?;
        if message::error(&done).is_some() {
            return Ok(Outcome::Failed);
        }
        let count = format!("SELECT count(*) FROM note WHERE mark = '{mark}'");
        expect(&to_ready(client, &encode::query(&count), 1)?, &["1".into()])
    }

    /// Goes in the middle of something.
    fn break_off(&mut self, client: &mut Client, mark: &str) -> Result<Outcome> {
        let whole = match self.random.random_range(0..6_u32) {
            0 => encode::query(&format!("SELECT '{mark}' FROM pg_sleep(0.2)")),
            1 => encode::query(&format!("SELECT repeat('{mark} ', 10000) FROM generate_series(1, 500)")),
            2 => encode::query(&format!("BEGIN; INSERT INTO note (mark) VALUES ('{NEVER}{mark}')")),
            3 => {
                let insert = encode::parse("", &format!("INSERT INTO note (mark) VALUES ('{NEVER}{mark}')"));
                [insert, encode::bind("", "", &[]), encode::execute("", 0), encode::flush()].concat()
            }
            4 => [encode::query("BEGIN"), encode::query(&format!("SELECT '{mark}'"))].concat(),
            _ => encode::terminate(),
        };
        let sent = self.random.random_range(1..=whole.len());
        client.send(&whole[..sent])?;
        if sent == whole.len() && self.random.random_bool(0.5) {
            // It has seen the beginning of the answer, and what it has seen is its own.
            if let Some(value) =
                client.receive_or_end()?.filter(|message| message.tag == b'D').and_then(|row| row.value())
            {
                ensure!(value.starts_with(mark), Wrong(format!("{mark} got {value:.60}")));
            }
        }
        Ok(Outcome::Broken)
    }
}

/// Sends `bytes` and gives all up to the `count`th ReadyForQuery.
fn to_ready(client: &mut Client, bytes: &[u8], count: usize) -> Result<Vec<Message>> {
    client.send(bytes)?;
    let mut messages = Vec::new();
    for _ in 0..count {
        messages.extend(client.receive_until(b'Z')?);
    }
    Ok(messages)
}

/// All of `wanted` in order, or an error and before it only what was wanted.
fn expect(answer: &[Message], wanted: &[String]) -> Result<Outcome> {
    let values = message::values(answer);
    let failed = message::error(answer).is_some();
    let mut rest = wanted.iter();
    // With an error in a pipeline some answers are left out, never put in.
    let right = values.iter().all(|value| rest.any(|wanted| wanted == value))
        && (failed || values.len() == wanted.len());
    ensure!(right, Wrong(format!("wanted {wanted:?}, got {answer:?}")));
    Ok(if failed { Outcome::Failed } else { Outcome::Answered })
}

/// An answer that no chaos explains.
#[derive(Debug)]
struct Wrong(String);

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a wrong answer: {}", self.0)
    }
}

impl std::error::Error for Wrong {}

/// Errors are part of the chaos, unless they are wrong answers or waits in vain.
fn no_silence(error: anyhow::Error) -> Result<()> {
    let is_fault = error.downcast_ref::<Wrong>().is_some() || error.downcast_ref::<Silence>().is_some();
    if is_fault { Err(error) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{Wrong, expect, no_silence};
    use halephant_suite::Message;

    fn row(value: &str) -> Message {
        let length = u32::try_from(value.len()).expect("it is short").to_be_bytes();
        Message { tag: b'D', body: [b"\0\x01", length.as_slice(), value.as_bytes()].concat() }
    }

    #[test]
    fn a_foreign_a_missing_and_a_late_answer_are_wrong() {
        let wanted = ["a".to_owned(), "b".to_owned()];
        assert!(expect(&[row("a"), row("b")], &wanted).is_ok());
        for wrong in [
            vec![row("a"), row("x")],
            vec![row("a")],
            vec![row("b"), row("a")],
            vec![row("a"), row("b"), row("b")],
        ] {
            assert!(expect(&wrong, &wanted).is_err(), "{wrong:?}");
        }
        // An error may cut the answer short, and put nothing in.
        let error = Message { tag: b'E', body: b"C57P01\0\0".to_vec() };
        assert!(expect(&[row("b"), error.clone()], &wanted).is_ok());
        assert!(expect(&[row("x"), error], &wanted).is_err());
    }

    #[test]
    fn wrong_answers_are_not_part_of_the_chaos() {
        let wrong = anyhow::Error::from(Wrong("x".into())).context("while it asked");
        assert!(no_silence(wrong).is_err());
        assert!(no_silence(anyhow::anyhow!("connection reset")).is_ok());
    }
}
