//! The channels of random transactions beside those of a model.

use super::*;
use TransactionStatus::{Failed, Idle, InTransaction};
use proptest::prelude::*;

fn channel(name: &str) -> Channel {
    Channel::new(name.as_bytes())
}

fn listen(name: &str) -> Command {
    Command::Listen(channel(name))
}

fn name(name: &str) -> Box<[u8]> {
    name.as_bytes().into()
}

fn active(subscriptions: &Subscriptions) -> Vec<String> {
    subscriptions.active().map(|channel| channel.to_string()).collect()
}

/// A Query whose statements are answered by these tags, up to an error if it fails.
fn query(
    subscriptions: &mut Subscriptions,
    commands: &[Command],
    tags: &[&str],
    end: (bool, TransactionStatus),
) {
    commands.iter().for_each(|command| subscriptions.announce(command.clone()));
    subscriptions.asked_for_ready();
    for tag in tags {
        subscriptions.completed(tag.as_bytes());
    }
    if end.0 {
        subscriptions.failed();
    }
    subscriptions.ready(end.1, 0);
}

#[test]
fn a_statement_alone_is_committed_by_ready() {
    let mut it = Subscriptions::default();
    query(&mut it, &[listen("a")], &["LISTEN"], (false, Idle));
    assert_eq!(active(&it), ["a"]);
    query(&mut it, &[Command::Unlisten(channel("a"))], &["UNLISTEN"], (false, Idle));
    assert_eq!(active(&it), [""; 0]);
    query(&mut it, &[listen("a")], &[], (true, Idle));
    assert_eq!((active(&it), it.is_open()), (vec![], false));
}

#[test]
fn a_transaction_decides() {
    let mut it = Subscriptions::default();
    query(&mut it, &[listen("a")], &["LISTEN"], (false, InTransaction));
    assert!(active(&it).is_empty() && it.is_wanted(&channel("a")));
    query(&mut it, &[Command::Commit], &["COMMIT"], (false, Idle));
    assert_eq!(active(&it), ["a"]);
    query(&mut it, &[listen("b"), Command::UnlistenAll], &["LISTEN", "UNLISTEN"], (false, InTransaction));
    query(&mut it, &[Command::Rollback], &["ROLLBACK"], (false, Idle));
    assert_eq!(active(&it), ["a"]);
    // COMMIT of a failed transaction.
    query(&mut it, &[listen("b")], &["LISTEN"], (false, InTransaction));
    query(&mut it, &[], &[], (true, Failed));
    query(&mut it, &[Command::Commit], &["ROLLBACK"], (false, Idle));
    assert_eq!(active(&it), ["a"]);
}

#[test]
fn a_text_of_several_statements_is_a_transaction_up_to_its_commits() {
    let mut it = Subscriptions::default();
    query(&mut it, &[listen("a"), listen("b")], &["LISTEN", "LISTEN", "SELECT 1"], (true, Idle));
    assert!(active(&it).is_empty());
    let text = [listen("a"), Command::Commit, listen("b")];
    query(&mut it, &text, &["BEGIN", "LISTEN", "COMMIT", "LISTEN"], (true, Idle));
    assert_eq!(active(&it), ["a"]);
    // A COMMIT that no text announced, one in a statement too long to be read, is one all the same.
    it.announce(listen("c"));
    it.asked_for_ready();
    for tag in [&b"LISTEN"[..], b"COMMIT"] {
        it.completed(tag);
    }
    it.failed();
    it.ready(Idle, 0);
    assert_eq!(active(&it), ["a", "c"]);
}

#[test]
fn an_error_ends_what_was_announced_with_it_and_nothing_else() {
    let mut it = Subscriptions::default();
    for group in ["a", "b", "c"] {
        it.announce(listen(group));
        it.asked_for_ready();
    }
    it.completed(b"LISTEN");
    it.ready(Idle, 2);
    it.failed();
    it.ready(Idle, 1);
    it.completed(b"LISTEN");
    it.ready(Idle, 0);
    assert_eq!((active(&it), it.is_open()), (vec!["a".to_owned(), "c".to_owned()], false));
}

#[test]
fn savepoints_of_one_name_shadow_one_another() {
    let mut it = Subscriptions::default();
    let commands = [
        listen("a"),
        Command::Savepoint(name("s")),
        listen("b"),
        Command::Savepoint(name("s")),
        listen("c"),
        Command::RollbackTo(name("s")),
        Command::Release(name("s")),
        Command::RollbackTo(name("s")),
        listen("d"),
    ];
    let tags =
        ["LISTEN", "SAVEPOINT", "LISTEN", "SAVEPOINT", "LISTEN", "ROLLBACK", "RELEASE", "ROLLBACK", "LISTEN"];
    query(&mut it, &commands, &tags, (false, InTransaction));
    query(&mut it, &[Command::Commit], &["COMMIT"], (false, Idle));
    assert_eq!(active(&it), ["a", "d"]);
}

#[test]
fn with_more_savepoints_than_are_remembered_nothing_is_missed() {
    let mut it = Subscriptions::default();
    query(&mut it, &[listen("a")], &["LISTEN"], (false, Idle));
    for _ in 0..=SAVEPOINTS_MAX {
        query(&mut it, &[Command::Savepoint(name("s"))], &["SAVEPOINT"], (false, InTransaction));
    }
    query(&mut it, &[listen("b"), Command::UnlistenAll], &["LISTEN", "UNLISTEN"], (false, InTransaction));
    query(&mut it, &[Command::RollbackTo(name("s"))], &["ROLLBACK"], (false, InTransaction));
    query(&mut it, &[Command::Commit], &["COMMIT"], (false, Idle));
    assert_eq!(active(&it), ["a", "b"]);
}

/// A session as PostgreSQL has it: a stack of transactions, each with a copy of the channels as they would be.
#[derive(Clone, Debug, Default)]
struct Model {
    committed: BTreeSet<Channel>,
    /// The transaction block's channels and, above them, those of its savepoints.
    block: Vec<(Box<[u8]>, BTreeSet<Channel>)>,
    failed: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Do(Command),
    /// A statement that fails.
    Fail,
}

impl Model {
    fn status(&self) -> TransactionStatus {
        match (self.block.is_empty(), self.failed) {
            (true, _) => Idle,
            (false, true) => Failed,
            (false, false) => InTransaction,
        }
    }

    fn listening(&mut self) -> &mut BTreeSet<Channel> {
        match self.block.last_mut() {
            Some((_, channels)) => channels,
            None => &mut self.committed,
        }
    }

    /// The tag that answers it, `None` for an error.
    fn run(&mut self, step: &Step) -> Option<&'static str> {
        let tag = self.try_run(step);
        self.failed |= tag.is_none() && !self.block.is_empty();
        tag
    }

    fn try_run(&mut self, step: &Step) -> Option<&'static str> {
        let command = match step {
            Step::Do(command) => command,
            Step::Begin if self.block.is_empty() => {
                self.block.push((Box::default(), self.committed.clone()));
                return Some("BEGIN");
            }
            Step::Begin => return (!self.failed).then_some("BEGIN"),
            Step::Fail => return None,
        };
        match command {
            Command::Commit if self.failed => {
                self.block.clear();
                self.failed = false;
                Some("ROLLBACK")
            }
            Command::Commit => {
                if let Some((_, channels)) = self.block.pop() {
                    self.committed = channels;
                }
                self.block.clear();
                Some("COMMIT")
            }
            Command::Rollback => {
                self.block.clear();
                self.failed = false;
                Some("ROLLBACK")
            }
            Command::RollbackTo(name) => {
                let at = 1 + self.block.iter().skip(1).rposition(|(savepoint, _)| savepoint == name)?;
                self.block.truncate(at + 1);
                self.block[at].1 = self.block[at - 1].1.clone();
                // What the outer levels have is as it was when the savepoint was set.
                self.failed = false;
                Some("ROLLBACK")
            }
            _ if self.failed => None,
            Command::Savepoint(_) | Command::Release(_) if self.block.is_empty() => None,
            Command::Savepoint(name) => {
                let channels = self.listening().clone();
                self.block.push((name.clone(), channels));
                Some("SAVEPOINT")
            }
            Command::Release(name) => {
                let at = 1 + self.block.iter().skip(1).rposition(|(savepoint, _)| savepoint == name)?;
                let channels = self.listening().clone();
                self.block.truncate(at);
                *self.listening() = channels;
                Some("RELEASE")
            }
            Command::Listen(channel) => {
                self.listening().insert(channel.clone());
                Some("LISTEN")
            }
            Command::Unlisten(channel) => {
                self.listening().remove(channel);
                Some("UNLISTEN")
            }
            Command::UnlistenAll => {
                self.listening().clear();
                Some("UNLISTEN")
            }
            Command::DiscardAll if !self.block.is_empty() => None,
            Command::DiscardAll => {
                self.listening().clear();
                Some("DISCARD ALL")
            }
            // A transaction that listened cannot be prepared.
            Command::PrepareTransaction => None,
            Command::UnlistenUnread => Some("UNLISTEN"),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let names = prop::sample::select(vec!["s", "t"]).prop_map(name);
    let channels = prop::sample::select(vec!["a", "b", "c"]).prop_map(channel);
    prop_oneof![
        2 => Just(Step::Begin),
        1 => Just(Step::Fail),
        6 => channels.clone().prop_map(|channel| Step::Do(Command::Listen(channel))),
        3 => channels.prop_map(|channel| Step::Do(Command::Unlisten(channel))),
        1 => prop::sample::select(vec![Command::UnlistenAll, Command::DiscardAll, Command::UnlistenUnread])
            .prop_map(Step::Do),
        2 => prop::sample::select(vec![Command::Commit, Command::Rollback, Command::PrepareTransaction])
            .prop_map(Step::Do),
        3 => names.clone().prop_map(|name| Step::Do(Command::Savepoint(name))),
        1 => names.clone().prop_map(|name| Step::Do(Command::Release(name))),
        2 => names.prop_map(|name| Step::Do(Command::RollbackTo(name))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// One statement in each Query, some of them sent ahead of the answers.
    #[test]
    fn channels_are_those_of_the_model(steps in prop::collection::vec((step(), any::<bool>()), 0..40)) {
        let (mut it, mut model) = (Subscriptions::default(), Model::default());
        let mut sent: VecDeque<Step> = VecDeque::new();
        let last = steps.len().saturating_sub(1);
        for (at, (step, ahead)) in steps.into_iter().enumerate() {
            if let Step::Do(command) = &step {
                it.announce(command.clone());
            }
            it.asked_for_ready();
            sent.push_back(step);
            if ahead && at != last {
                continue;
            }
            while let Some(step) = sent.pop_front() {
                match model.run(&step) {
                    Some(tag) => {
                        it.completed(tag.as_bytes());
                    }
                    None => it.failed(),
                }
                it.ready(model.status(), u32::try_from(sent.len()).expect("a few"));
                prop_assert_eq!(&it.active, &model.committed);
            }
            prop_assert!(it.announced.is_empty());
        }
    }
}
