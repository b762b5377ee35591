//! Drivers that listen as their users do.

use super::{LIMIT, console, stage_of};
use anyhow::{Context, Result};
use halephant_harness::Login;
use halephant_suite::Stage;
use std::future::poll_fn;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, Client, NoTls, Notification};

/// A client, and what it is notified of.
async fn connect(login: &Login) -> Result<(Client, UnboundedReceiver<Notification>)> {
    let mut config = tokio_postgres::Config::new();
    config.host(&login.host).port(login.port).dbname(&login.database);
    config.user(&login.user).password(&login.password);
    let (client, mut connection) = config.connect(NoTls).await?;
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message
                && sender.send(notification).is_err()
            {
                break;
            }
        }
    });
    Ok((client, receiver))
}

async fn next(receiver: &mut UnboundedReceiver<Notification>) -> Result<(String, String)> {
    let notification = tokio::time::timeout(LIMIT, receiver.recv()).await?.context("the connection ended")?;
    Ok((notification.channel().to_owned(), notification.payload().to_owned()))
}

async fn listen(stage: &Stage) -> Result<()> {
    let (mut one, mut of_one) = connect(&stage.transaction()).await?;
    let (other, mut of_other) = connect(&stage.transaction()).await?;
    one.batch_execute("LISTEN jobs").await?;
    // By the extended protocol, too, and in a transaction.
    other.execute("LISTEN jobs", &[]).await?;
    let transaction = one.transaction().await?;
    transaction.execute("LISTEN done", &[]).await?;
    transaction.commit().await?;
    let transaction = one.transaction().await?;
    transaction.batch_execute("LISTEN nothing; UNLISTEN jobs").await?;
    transaction.rollback().await?;
    for round in 0..20 {
        let payload = round.to_string();
        other.execute("SELECT pg_notify('jobs', $1), pg_notify('nothing', $1)", &[&payload]).await?;
        assert_eq!(next(&mut of_one).await?, ("jobs".to_owned(), payload.clone()));
        assert_eq!(next(&mut of_other).await?, ("jobs".to_owned(), payload.clone()));
        one.execute("SELECT pg_notify($1, $2)", &[&"done", &payload]).await?;
        assert_eq!(next(&mut of_one).await?, ("done".to_owned(), payload));
    }
    assert!(of_one.is_empty() && of_other.is_empty());
    Ok(())
}

#[test]
fn tokio_postgres_listens() {
    let stage = stage_of(1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(listen(&stage)).expect("it works");
    assert_eq!(console(&stage, "SHOW PINS"), "");
}
