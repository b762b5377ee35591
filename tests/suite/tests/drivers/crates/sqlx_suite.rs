//! sqlx at its defaults: a pool, and every statement prepared by name and kept.

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolCopyExt, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Error, Executor, Row};
use std::time::Duration;

use super::{Me, block_on};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn sqlx() {
    super::play("sqlx", |me| {
        block_on(async {
            let pool =
                PgPoolOptions::new().max_connections(2).connect_with(options(me)).await.expect("it connects");
            types(&pool, me).await.expect("types");
            transactions(&pool, me).await.expect("transactions");
            prepared(&pool).await.expect("prepared");
            batches(&pool, me).await.expect("batches");
            copy(&pool, me).await.expect("copy");
            pool.close().await;
            notifications(me).await.expect("notifications");
            cancel(me).await.expect("cancel");
            timeouts(me).await.expect("timeouts");
            settings(me).await.expect("settings");
            reconnect(me).await.expect("reconnect");
        });
    });
}

fn options(me: &Me) -> PgConnectOptions {
    let login = &me.login;
    let options = PgConnectOptions::new_without_pgpass().host(&login.host).port(login.port);
    options.username(&login.user).password(&login.password).database(&login.database)
}

fn sqlstate<T>(result: Result<T, Error>) -> String {
    let error = result.err().expect("it fails");
    error.as_database_error().and_then(|error| Some(error.code()?.into_owned())).unwrap_or_default()
}

async fn types(pool: &PgPool, me: &Me) -> Result<(), Error> {
    for _ in 0..3 {
        let sql = "SELECT $1::int8, $2::float8, $3::bool, $4::text, $5::bytea, $6::int[], $7::int";
        let query = sqlx::query(sql).bind(1_i64 << 40).bind(1.5_f64).bind(true).bind("Ünïcode 🐘");
        let query = query.bind(&[0_u8, 255][..]).bind(vec![Some(1), None, Some(3)]).bind(None::<i32>);
        let row = query.fetch_one(pool).await?;
        assert_eq!((row.get::<i64, _>(0), row.get::<f64, _>(1), row.get::<bool, _>(2)), (1 << 40, 1.5, true));
        assert_eq!((row.get::<&str, _>(3), row.get::<&[u8], _>(4)), ("Ünïcode 🐘", &[0_u8, 255][..]));
        assert_eq!(row.get::<Vec<Option<i32>>, _>(5), [Some(1), None, Some(3)]);
        assert_eq!(row.get::<Option<i32>, _>(6), None);
    }
    // A type that it has to ask the server about.
    let mood = format!("\"{}_mood\"", me.who);
    pool.execute(AssertSqlSafe(format!("CREATE TYPE {mood} AS ENUM ('sad', 'happy')"))).await?;
    let row = pool.fetch_one(AssertSqlSafe(format!("SELECT 'happy'::{mood}"))).await?;
    assert_eq!(row.try_get_unchecked::<String, _>(0)?, "happy");
    Ok(())
}

async fn transactions(pool: &PgPool, me: &Me) -> Result<(), Error> {
    let insert = |n: i32| sqlx::query("INSERT INTO item (who, n) VALUES ($1, $2)").bind(&me.who).bind(n);
    let mut transaction = pool.begin().await?;
    insert(1).execute(&mut *transaction).await?;
    let mut inner = transaction.begin().await?;
    insert(2).execute(&mut *inner).await?;
    assert_eq!(sqlstate(sqlx::query("SELECT 1 / $1").bind(0).execute(&mut *inner).await), "22012");
    inner.rollback().await?;
    transaction.commit().await?;
    // One that is dropped is rolled back when its connection is used again.
    let mut dropped = pool.begin().await?;
    insert(3).execute(&mut *dropped).await?;
    drop(dropped);
    let query = sqlx::query_scalar::<_, i32>("SELECT n FROM item WHERE who = $1");
    assert_eq!(query.bind(&me.who).fetch_all(pool).await?, [1]);
    Ok(())
}

/// More texts than it keeps: it closes the oldest.
async fn prepared(pool: &PgPool) -> Result<(), Error> {
    for n in 0..250 {
        let kept = sqlx::query_scalar::<_, i32>("SELECT $1 * 2").bind(n).fetch_one(pool).await?;
        let text = AssertSqlSafe(format!("SELECT {n} + $1"));
        assert_eq!((kept, sqlx::query_scalar::<_, i32>(text).bind(n).fetch_one(pool).await?), (2 * n, 2 * n));
    }
    Ok(())
}

/// It has no pipelines; several statements go in one Query.
async fn batches(pool: &PgPool, me: &Me) -> Result<(), Error> {
    let inserts = format!("INSERT INTO item (who, n) VALUES ('{}b', 1);", me.who).repeat(20);
    pool.execute(sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {inserts} COMMIT")))).await?;
    let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM item WHERE who = $1");
    assert_eq!(count.bind(format!("{}b", me.who)).fetch_one(pool).await?, 20);
    Ok(())
}

async fn copy(pool: &PgPool, me: &Me) -> Result<(), Error> {
    let mut sink = pool.copy_in_raw("COPY item (who, n) FROM STDIN").await?;
    for n in 0..2000 {
        sink.send(format!("{}c\t{n}\n", me.who).as_bytes()).await?;
    }
    assert_eq!(sink.finish().await?, 2000);
    let mut sink = pool.copy_in_raw("COPY item (who, n) FROM STDIN").await?;
    sink.send(&b"x\tx\n"[..]).await?;
    assert_eq!(sqlstate(sink.finish().await), "22P02");
    Ok(())
}

async fn notifications(me: &Me) -> Result<(), Error> {
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options(me)).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&me.who).await?;
    for payload in ["one", "two"] {
        sqlx::query("SELECT pg_notify($1, $2)").bind(&me.who).bind(payload).execute(&pool).await?;
    }
    for payload in ["one", "two"] {
        let heard = tokio::time::timeout(LIMIT, listener.recv()).await.expect("it comes")?;
        assert_eq!(heard.payload(), payload);
    }
    drop(listener);
    pool.close().await;
    Ok(())
}

/// It has nothing to cancel with: another connection does it.
async fn cancel(me: &Me) -> Result<(), Error> {
    let (mut one, mut other) = (options(me).connect().await?, options(me).connect().await?);
    let stop = async {
        while sqlx::query_scalar::<_, i64>(AssertSqlSafe(me.running())).fetch_one(&mut other).await? == 0 {}
        let sql = me.running().replace("count(*)", "count(pg_cancel_backend(pid))");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut other).await
    };
    let sleep = async { sqlx::query(AssertSqlSafe(me.sleep())).execute(&mut one).await };
    let (slept, stopped) = tokio::join!(sleep, stop);
    stopped?;
    assert_eq!(sqlstate(slept), "57014");
    one.ping().await
}

async fn timeouts(me: &Me) -> Result<(), Error> {
    let mut one = options(me).options([("statement_timeout", "100")]).connect().await?;
    assert_eq!(sqlstate(sqlx::query("SELECT pg_sleep(60)").execute(&mut one).await), "57014");
    one.close().await?;
    // What it gave up waiting for is read before the next.
    let mut one = options(me).connect().await?;
    let slept = sqlx::query("SELECT pg_sleep(0.2)").execute(&mut one);
    assert!(tokio::time::timeout(Duration::from_millis(10), slept).await.is_err());
    assert_eq!(sqlx::query_scalar::<_, i32>("SELECT 2").fetch_one(&mut one).await?, 2);
    one.close().await
}

async fn settings(me: &Me) -> Result<(), Error> {
    let mut one: PgConnection = options(me).application_name(&me.who).connect().await?;
    one.execute("SET IntervalStyle = 'sql_standard'").await?;
    for _ in 0..3 {
        let row = one
            .fetch_one("SELECT current_setting('application_name'), current_setting('IntervalStyle')")
            .await?;
        assert_eq!((row.get::<&str, _>(0), row.get::<&str, _>(1)), (me.who.as_str(), "sql_standard"));
    }
    one.close().await
}

/// Its pool finds out that the connection is gone, and makes another.
async fn reconnect(me: &Me) -> Result<(), Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options(me)).await?;
    let ended = sqlx::query("SELECT pg_terminate_backend(pg_backend_pid())").execute(&pool).await;
    assert!(ended.is_err());
    assert_eq!(sqlx::query_scalar::<_, i32>("SELECT 3").fetch_one(&pool).await?, 3);
    pool.close().await;
    Ok(())
}
