//! Many requests under way at once.

use crate::encode::{bind, describe_portal, execute, parse, query, sync};
use crate::script::Script;

fn run(sql: &str, parameter: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[Some(parameter)]), describe_portal(""), execute("", 0)].concat()
}

pub fn scripts() -> Vec<Script> {
    let numbers = |count: usize| (1..=count).map(|n| n.to_string());
    let doubled = "SELECT $1::int * 2";
    vec![
        Script::new("1000 Query")
            .send(&numbers(1000).map(|n| query(&format!("SELECT {n}"))).collect::<Vec<_>>())
            .ready_times(1000),
        Script::new("500 statements, each with Sync")
            .send(&numbers(500).map(|n| [run(doubled, &n), sync()].concat()).collect::<Vec<_>>())
            .ready_times(500),
        Script::new("500 statements, one Sync")
            .send(&numbers(500).map(|n| run(doubled, &n)).chain([sync()]).collect::<Vec<_>>())
            .ready(),
        Script::new("every third fails")
            .send(
                &(1..=300)
                    .map(|n| [run("SELECT 12 / $1::int", &(n % 3).to_string()), sync()].concat())
                    .collect::<Vec<_>>(),
            )
            .ready_times(300),
        Script::new("every third Query fails")
            .send(&(1..=300).map(|n| query(&format!("SELECT 12 / {}", n % 3))).collect::<Vec<_>>())
            .ready_times(300),
        Script::new("transactions in a pipeline")
            .send(
                &(1..=100)
                    .flat_map(|n| ["BEGIN".into(), format!("INSERT INTO sink VALUES ({n})"), "COMMIT".into()])
                    .map(|sql: String| query(&sql))
                    .collect::<Vec<_>>(),
            )
            .ready_times(300)
            .check("SELECT count(*), sum(a) FROM sink"),
        Script::new("large results in a pipeline")
            .send(
                &(1..=20).map(|n| query(&format!("SELECT repeat('{}', 200000)", n % 10))).collect::<Vec<_>>(),
            )
            .ready_times(20),
        Script::new("large requests in a pipeline")
            .send(
                &(1..=20)
                    .map(|n| [run("SELECT length($1)", &"p".repeat(n * 10_000)), sync()].concat())
                    .collect::<Vec<_>>(),
            )
            .ready_times(20),
        Script::new("simple and extended in turn")
            .send(
                &numbers(100)
                    .map(|n| [run(doubled, &n), sync(), query(&format!("SELECT {n}"))].concat())
                    .collect::<Vec<_>>(),
            )
            .ready_times(200),
    ]
}
