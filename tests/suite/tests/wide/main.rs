//! What is as large as PostgreSQL has it, answered through halephant as directly: rows of 1,600 columns, statements of 65,535
//! parameters, large objects by FunctionCall, and fields of a gigabyte.

mod columns;
mod fields;
mod objects;

use halephant_harness::{Cluster, psql};
use halephant_suite::{Client, Message, Stage, stage};

/// So many server connections in transaction mode, and one in session mode.
fn stage(connections: u32) -> Stage {
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.max_connections.primary", connections)
            .set("cluster.main.pool.app_session.max_connections.primary", 1)
            .set("admin.users", vec![stage::ROLE])
    });
    stage.expect("it starts")
}

fn direct(stage: &Stage) -> Client {
    Client::connect(&stage.direct()).expect("it may log in")
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// The clients that are pinned, and why.
fn pins(stage: &Stage) -> String {
    let console = stage.transaction().database("halephant");
    psql::query(stage.cluster.binaries(), &console, "SHOW PINS").expect("it answers")
}
