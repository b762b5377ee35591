//! tokio-postgres at its defaults: every statement is prepared by name, and messages go in pipelines.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls};

use super::{Me, block_on};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn tokio_postgres() {
    super::play("tokio_postgres", |me| {
        block_on(async {
            types(me).await.expect("types");
            transactions(me).await.expect("transactions");
            prepared(me).await.expect("prepared");
            batches(me).await.expect("batches");
            copy(me).await.expect("copy");
            notifications(me).await.expect("notifications");
            cancel(me).await.expect("cancel");
            timeouts(me).await.expect("timeouts");
            settings(me).await.expect("settings");
            reconnect(me).await.expect("reconnect");
        });
    });
}

fn config(me: &Me) -> Config {
    let mut config = Config::new();
    let login = &me.login;
    config
        .host(&login.host)
        .port(login.port)
        .user(&login.user)
        .password(&login.password)
        .dbname(&login.database);
    config
}

async fn connect(me: &Me) -> Result<Client, Error> {
    connect_by(&config(me)).await
}

async fn connect_by(config: &Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn types(me: &Me) -> Result<(), Error> {
    let client = connect(me).await?;
    let values: [&(dyn ToSql + Sync); 7] = [
        &(1_i64 << 40),
        &1.5_f64,
        &true,
        &"Ünïcode 🐘",
        &[0_u8, 255].as_slice(),
        &vec![Some(1), None, Some(3)],
        &None::<i32>,
    ];
    for _ in 0..3 {
        let sql = "SELECT $1::int8, $2::float8, $3::bool, $4::text, $5::bytea, $6::int[], $7::int";
        let row = client.query_one(sql, &values).await?;
        assert_eq!((row.get::<_, i64>(0), row.get::<_, f64>(1), row.get::<_, bool>(2)), (1 << 40, 1.5, true));
        assert_eq!((row.get::<_, &str>(3), row.get::<_, &[u8]>(4)), ("Ünïcode 🐘", &[0_u8, 255][..]));
        assert_eq!(row.get::<_, Vec<Option<i32>>>(5), [Some(1), None, Some(3)]);
        assert_eq!(row.get::<_, Option<i32>>(6), None);
    }
    // A type that it has to ask the server about, with statements that it prepares for that.
    let mood = format!("\"{}_mood\"", me.who);
    client.batch_execute(&format!("CREATE TYPE {mood} AS ENUM ('sad', 'happy')")).await?;
    let statement = client.prepare(&format!("SELECT 'happy'::{mood}")).await?;
    assert_eq!(statement.columns()[0].type_().name(), format!("{}_mood", me.who));
    Ok(())
}

async fn transactions(me: &Me) -> Result<(), Error> {
    let mut client = connect(me).await?;
    let insert = "INSERT INTO item (who, n) VALUES ($1, $2)";
    let mut transaction = client.transaction().await?;
    transaction.execute(insert, &[&me.who, &1]).await?;
    let inner = transaction.savepoint("nested").await?;
    inner.execute(insert, &[&me.who, &2]).await?;
    let error = inner.query("SELECT 1 / $1::int", &[&0]).await.expect_err("it divides by zero");
    assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
    inner.rollback().await?;
    transaction.commit().await?;
    // One that is dropped is rolled back by a message of its own.
    client.transaction().await?.execute(insert, &[&me.who, &3]).await?;
    let transaction = client.build_transaction().read_only(true).start().await?;
    let error = transaction.execute(insert, &[&me.who, &4]).await.expect_err("it only reads");
    assert_eq!(error.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
    transaction.rollback().await?;
    let transaction = client.transaction().await?;
    let portal = transaction.bind("SELECT n FROM generate_series(1, 10) n", &[]).await?;
    let rows = transaction.query_portal(&portal, 4).await?;
    assert_eq!((rows.len(), transaction.query_portal(&portal, 0).await?.len()), (4, 6));
    transaction.commit().await?;
    let rows = client.query("SELECT n FROM item WHERE who = $1", &[&me.who]).await?;
    assert_eq!(rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>(), [1]);
    Ok(())
}

async fn prepared(me: &Me) -> Result<(), Error> {
    let client = connect(me).await?;
    let kept = client.prepare("SELECT $1::int * 2").await?;
    for n in 0..100 {
        assert_eq!(client.query_one(&kept, &[&n]).await?.get::<_, i32>(0), 2 * n);
        let text = format!("SELECT {n} + $1::int");
        assert_eq!(client.query_one(&text, &[&n]).await?.get::<_, i32>(0), 2 * n);
    }
    Ok(())
}

async fn batches(me: &Me) -> Result<(), Error> {
    let client = connect(me).await?;
    let double = client.prepare("SELECT $1::int * 2").await?;
    let divide = client.prepare("SELECT 1 / $1::int").await?;
    for n in 0..20 {
        let (one, failed, other, simple) = tokio::join!(
            async { client.query_one(&double, &[&n]).await },
            async { client.query_one(&divide, &[&0]).await },
            async { client.query_one(&double, &[&(n + 1)]).await },
            async { client.batch_execute("SELECT 1; SELECT 2").await },
        );
        assert_eq!((one?.get::<_, i32>(0), other?.get::<_, i32>(0)), (2 * n, 2 * n + 2));
        assert_eq!(failed.expect_err("it divides by zero").code(), Some(&SqlState::DIVISION_BY_ZERO));
        simple?;
    }
    Ok(())
}

async fn copy(me: &Me) -> Result<(), Error> {
    use futures_util::{SinkExt, TryStreamExt};
    let client = connect(me).await?;
    let mut sink = pin!(client.copy_in::<_, bytes::Bytes>("COPY item (who, n) FROM STDIN").await?);
    for n in 0..2000 {
        sink.send(format!("{}c\t{n}\n", me.who).into()).await?;
    }
    assert_eq!(sink.finish().await?, 2000);
    let sql = format!("COPY (SELECT n FROM item WHERE who = '{}c') TO STDOUT", me.who);
    let parts: Vec<bytes::Bytes> = client.copy_out(&sql).await?.try_collect().await?;
    assert_eq!(parts.len(), 2000);
    // One that is not finished fails, and is nobody else's trouble.
    let mut dropped = Box::pin(client.copy_in::<_, bytes::Bytes>("COPY item (who, n) FROM STDIN").await?);
    dropped.send(bytes::Bytes::from_static(b"x\t1\n")).await?;
    drop(dropped);
    assert_eq!(client.query_one("SELECT count(*) FROM item WHERE who = 'x'", &[]).await?.get::<_, i64>(0), 0);
    Ok(())
}

async fn notifications(me: &Me) -> Result<(), Error> {
    let (listener, mut connection) = config(me).connect(NoTls).await?;
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message {
                sender.send(notification.payload().to_owned()).expect("somebody waits");
            }
        }
    });
    listener.batch_execute(&format!("LISTEN \"{}\"", me.who)).await?;
    let other = connect(me).await?;
    for payload in ["one", "two"] {
        other.execute("SELECT pg_notify($1, $2)", &[&me.who, &payload]).await?;
    }
    for payload in ["one", "two"] {
        let heard = tokio::time::timeout(LIMIT, receiver.recv()).await.expect("it comes");
        assert_eq!(heard.as_deref(), Some(payload));
    }
    Ok(())
}

async fn cancel(me: &Me) -> Result<(), Error> {
    let (client, other) = (connect(me).await?, connect(me).await?);
    let token = client.cancel_token();
    let sleep = me.sleep();
    let stop = async {
        while other.query_one(&me.running(), &[]).await?.get::<_, i64>(0) == 0 {}
        token.cancel_query(NoTls).await
    };
    let (slept, stopped) = tokio::join!(client.query(&sleep, &[]), stop);
    stopped?;
    assert_eq!(slept.expect_err("it is cancelled").code(), Some(&SqlState::QUERY_CANCELED));
    client.query_one("SELECT 1", &[]).await.map(drop)
}

async fn timeouts(me: &Me) -> Result<(), Error> {
    let client = connect_by(config(me).options("-c statement_timeout=100")).await?;
    let error = client.query("SELECT pg_sleep(60)", &[]).await.expect_err("it is too long");
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    // What it gives up waiting for is answered all the same, before the next.
    let client = connect(me).await?;
    let waited =
        tokio::time::timeout(Duration::from_millis(10), client.query("SELECT pg_sleep(0.2)", &[])).await;
    assert!(waited.is_err());
    assert_eq!(client.query_one("SELECT 2", &[]).await?.get::<_, i32>(0), 2);
    Ok(())
}

async fn settings(me: &Me) -> Result<(), Error> {
    let client = connect_by(config(me).application_name(&me.who)).await?;
    client.batch_execute("SET TimeZone = 'Asia/Tokyo'").await?;
    for _ in 0..3 {
        let sql = "SELECT current_setting('application_name'), current_setting('TimeZone')";
        let row = client.query_one(sql, &[]).await?;
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (me.who.as_str(), "Asia/Tokyo"));
    }
    Ok(())
}

async fn reconnect(me: &Me) -> Result<(), Error> {
    let client = connect(me).await?;
    let ended = client.query("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await;
    assert!(ended.is_err() || client.query("SELECT 1", &[]).await.is_err());
    connect(me).await?.query_one("SELECT 1", &[]).await.map(drop)
}
