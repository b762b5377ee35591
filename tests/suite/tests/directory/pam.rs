//! `pam`, with services of our own under `/etc/pam.d`.

use crate::pki::{LIMIT, reload};
use crate::stage::{Ruled, as_user, outcome};
use crate::{config, failed, patient};
use halephant_harness::{Cluster, Login, command, psql, wait_for};
use halephant_suite::stage::ROLE;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const PASSWORD: &str = "pam-secret";
const PGPASS: &str = "*:*:*:app:app-password";

/// A service that is gone with this value.
pub struct Service {
    pub name: String,
    path: PathBuf,
}

impl Service {
    pub fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("halephant-test-{}-{number}", std::process::id());
        let path = Path::new("/etc/pam.d").join(&name);
        fs::write(&path, text).expect("root may write it");
        Self { name, path }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Modules and services are there, and ours to add to; where everything has to be, they must.
pub fn can_test() -> bool {
    let can = nix::unistd::geteuid().is_root() && Path::new("/etc/pam.d").is_dir();
    assert!(
        can || std::env::var_os("CI").is_none(),
        "PAM can be tested by root alone, where it is installed"
    );
    can
}

/// `account`: the lines for it.
fn service(ruled: &Ruled, account: &str) -> Service {
    let script = ruled.path("check");
    // The module sends the password with a NUL byte behind it.
    let text = format!(
        "#!/bin/sh\n\
         password=$(tr -d '\\000')\n\
         echo \"$PAM_SERVICE $PAM_USER $PAM_RHOST $PAM_TYPE\" >> {seen}\n\
         test \"$PAM_USER:$password\" = \"app:{PASSWORD}\"\n",
        seen = ruled.path("seen").display(),
    );
    fs::write(&script, text).expect("it is ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    Service::new(&format!("auth required pam_exec.so quiet expose_authtok {}\n{account}\n", script.display()))
}

fn rule(options: &str) -> String {
    format!("host all all all pam {options}\n")
}

fn start() -> Ruled {
    Ruled::with("host all all all scram-sha-256", Cluster::builder(), |config| patient(config).pgpass(PGPASS))
}

fn follow(ruled: &Ruled, rules: &str) {
    ruled.write("pg_hba.conf", rules);
    assert!(reload(&ruled.stage, &config(ruled).pgpass(PGPASS)), "{}", ruled.stage.proxy.log_tail());
}

#[test]
fn the_modules_decide() {
    if !can_test() {
        return;
    }
    let ruled = start();
    let stage = &ruled.stage;
    let service = service(&ruled, "account required pam_permit.so");
    follow(&ruled, &rule(&format!("pamservice={}", service.name)));
    for login in [stage.transaction(), stage.session()] {
        assert_eq!(outcome(&login.clone().password(PASSWORD)), Ok(()), "{}", stage.proxy.log_tail());
        assert_eq!(outcome(&login.password("wrong")), failed("PAM", ROLE));
    }
    assert_eq!(ruled.try_as("nobody", PASSWORD), failed("PAM", "nobody"));
    assert_eq!(ruled.try_as(ROLE, "").expect_err("it is empty").0, "28P01");
    let seen = fs::read_to_string(ruled.path("seen")).expect("it was asked");
    let first = format!("{} app 127.0.0.1 auth", service.name);
    assert_eq!(seen.lines().next(), Some(first.as_str()));
    assert!(!stage.proxy.log().contains(PASSWORD));
}

/// Who knows the password may be locked out all the same, and a service that is not there lets nobody in.
#[test]
fn an_account_has_to_be_open() {
    if !can_test() {
        return;
    }
    let ruled = start();
    let login = ruled.stage.transaction().password(PASSWORD);
    let closed = service(&ruled, "account required pam_deny.so");
    follow(&ruled, &rule(&format!("pamservice={}", closed.name)));
    assert_eq!(outcome(&login), failed("PAM", ROLE));
    ruled.stage.proxy.wait_for_log("PAM (account):", 1, LIMIT).expect("it says which");
    let permit = Service::new("auth required pam_permit.so\naccount required pam_permit.so\n");
    follow(&ruled, &rule(&format!("pamservice={}", permit.name)));
    assert_eq!(outcome(&login.clone().password("anything")), Ok(()));
    let nobody = as_user(ruled.stage.transaction(), "nobody", "anything");
    assert_eq!(outcome(&nobody), Err(("28000".into(), "role \"nobody\" does not exist".into())));
    follow(&ruled, &rule("pamservice=halephant-test-there-is-none"));
    assert_eq!(outcome(&login), failed("PAM", ROLE));
}

/// The same services, asked by PostgreSQL itself.
#[test]
fn postgresql_says_the_same() {
    if !can_test() {
        return;
    }
    let services = ["permit", "deny"]
        .map(|end| Service::new(&format!("auth required pam_{end}.so\naccount required pam_permit.so\n")));
    for service in &services {
        let line = format!("host app app ::1/128 pam pamservice={}", service.name);
        let rules = rule(&format!("pamservice={}", service.name));
        let ruled =
            Ruled::with(&rules, Cluster::builder().hba(&line), |config| patient(config).pgpass(PGPASS));
        let direct = Login { host: "::1".into(), ..ruled.stage.direct() };
        let told = outcome(&ruled.stage.transaction().password(PASSWORD));
        assert_eq!(told, outcome(&direct.password(PASSWORD)), "{}", service.name);
    }
}

/// With the name of the host where there is one, and with none over a Unix socket.
#[test]
fn modules_are_told_where_the_client_is() {
    if !can_test() {
        return;
    }
    let sockets = tempfile::tempdir().expect("there is room");
    let directory = sockets.path().to_str().expect("it is UTF-8").to_owned();
    let ruled = Ruled::with("host all all all scram-sha-256", Cluster::builder(), |config| {
        patient(config).pgpass(PGPASS).listen(&directory)
    });
    let stage = &ruled.stage;
    let service = service(&ruled, "account required pam_permit.so");
    ruled.write(
        "pg_hba.conf",
        &format!(
            "{}local all all pam pamservice={}\n",
            rule(&format!("pamservice={} pam_use_hostname=1", service.name)),
            service.name
        ),
    );
    assert!(reload(stage, &config(&ruled).pgpass(PGPASS).listen(&directory)), "{}", stage.proxy.log_tail());
    let login = stage.transaction().password(PASSWORD);
    assert_eq!(outcome(&login), Ok(()));
    let mut psql =
        psql::command(stage.cluster.binaries(), &Login { host: directory, ..login }).expect("psql is there");
    command::succeed(psql.args(["--command", "SELECT 1"]), LIMIT).expect("the password is right");
    let seen = fs::read_to_string(ruled.path("seen")).expect("it was asked");
    assert_eq!(
        seen.lines().collect::<Vec<_>>(),
        [format!("{} app localhost auth", service.name), format!("{} app  auth", service.name)]
    );
}

/// A module that does not come back keeps its own client waiting, and nobody else; nor the end of the process.
#[test]
fn a_module_that_hangs_holds_up_its_client_alone() {
    if !can_test() {
        return;
    }
    let mut ruled = start();
    let fifo = ruled.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("it is ours");
    let hangs = ruled.path("hangs");
    fs::write(
        &hangs,
        format!("#!/bin/sh\ntouch {}\nread -r line < {}\n", ruled.path("asked").display(), fifo.display()),
    )
    .expect("it is ours");
    fs::set_permissions(&hangs, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let service = Service::new(&format!(
        "auth required pam_exec.so quiet {}\naccount required pam_permit.so\n",
        hangs.display()
    ));
    ruled.write(
        "pg_hba.conf",
        &format!(
            "host app_session all all pam pamservice={}\nhost all all all scram-sha-256\n",
            service.name
        ),
    );
    let limited = config(&ruled).pgpass(PGPASS).set("server.client_login_timeout", "1s");
    assert!(reload(&ruled.stage, &limited), "{}", ruled.stage.proxy.log_tail());
    let login = ruled.stage.session().password(PASSWORD);
    let waiting = std::thread::spawn(move || halephant_suite::Client::connect(&login).is_err());
    let asked = ruled.path("asked");
    wait_for("the module to be asked", LIMIT, || Ok(asked.exists().then_some(()))).expect("it is");
    assert_eq!(outcome(&ruled.stage.transaction()), Ok(()), "another client");
    assert!(waiting.join().expect("it does not panic"), "its time for the login is over");
    let status = ruled.stage.proxy.stop(LIMIT).expect("it ends all the same");
    assert!(status.success());
    // Lets the script go.
    let _ = fs::OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&fifo);
}

/// The server is logged in to with what the client has sent.
#[test]
fn the_password_is_passed_on_where_it_may_be() {
    if !can_test() {
        return;
    }
    let ruled = Ruled::with(
        "host all all all scram-sha-256",
        Cluster::builder().hba("host app app all password"),
        patient,
    );
    let permit = Service::new("auth required pam_permit.so\naccount required pam_permit.so\n");
    ruled.write("pg_hba.conf", &rule(&format!("pamservice={}", permit.name)));
    let login = ruled.stage.transaction();
    assert!(reload(&ruled.stage, &config(&ruled)));
    assert_eq!(outcome(&login).expect_err("there is no password for the server").0, "28P01");
    assert!(reload(&ruled.stage, &config(&ruled).set("cluster.main.auth.password_passthrough", true)));
    assert_eq!(outcome(&login), Ok(()), "{}", ruled.stage.proxy.log_tail());
}
