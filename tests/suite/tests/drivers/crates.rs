//! Drivers in Rust: tokio-postgres and sqlx.

mod sqlx_suite;
mod tokio_postgres_suite;

use halephant_harness::Login;

use super::others::Others;
use super::{CONNECTIONS, stage};

/// What a suite knows about itself.
#[derive(Clone, Debug)]
struct Me {
    login: Login,
    who: String,
}

/// As the other drivers: two at the same time among others in transaction mode, then one in session mode.
fn play(name: &str, suite: impl Fn(&Me) + Sync) {
    let (stage, _port) = stage(CONNECTIONS);
    let others = Others::start(&stage.transaction());
    let me = |login: Login, who: &str| Me { login, who: format!("{name}_{who}") };
    std::thread::scope(|scope| {
        for who in ["one", "other"] {
            let me = me(stage.transaction(), who);
            let suite = &suite;
            scope.spawn(move || suite(&me));
        }
    });
    others.stop();
    suite(&me(stage.session(), "session"));
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work);
}

impl Me {
    /// A statement that is to be cancelled, and whether it runs.
    fn sleep(&self) -> String {
        format!("SELECT pg_sleep(60) /* {} */", self.who)
    }

    fn running(&self) -> String {
        format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '{}%' \
             AND pid <> pg_backend_pid()",
            self.sleep()
        )
    }
}
