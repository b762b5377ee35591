//! Under the filter of system calls, which refuses more than most programs expect.

use crate::jwks::{Server, Signer, set};
use crate::jwt::claims;
use crate::pam::{Service, can_test};
use crate::pki::Pki;
use crate::slapd::{self, Slapd, finder};
use crate::stage::{Ruled, outcome};
use crate::{failed, is_installed, jwt, patient};
use halephant_harness::Cluster;
use halephant_suite::stage::ROLE;
use jsonwebtoken::Algorithm;

#[test]
fn every_method_works_under_the_filter_of_system_calls() {
    if !is_installed(slapd::PROGRAM) || !can_test() {
        return;
    }
    let slapd = Slapd::start();
    let pki = Pki::new();
    let keys = Server::start(Some(&pki.server()));
    let signer = Signer::new("a", Algorithm::ES256);
    keys.answer("200 OK", set(&[&signer]));
    let permit = Service::new("auth required pam_permit.so\naccount required pam_permit.so\n");
    let rules = format!(
        "host app all all ldap ldapserver=localhost ldapport={} ldaptls=1 ldapca={} {}\n\
         host app_session all all pam pamservice={}\n\
         {} jwksca={}\n",
        slapd.port.number(),
        slapd.ca(),
        finder(),
        permit.name,
        jwt::rule(&keys.url),
        pki.file("root.crt"),
    );
    let ruled = Ruled::with(&rules, Cluster::builder(), |config| {
        patient(config)
            .set("server.seccomp", true)
            .pgpass("*:*:*:app:app-password")
            .pool("app_token", "transaction", 5, &[ROLE])
            .set("cluster.main.pool.app_token.database", "app")
    });
    let stage = &ruled.stage;
    let tokens = stage.transaction().database("app_token");
    assert_eq!(outcome(&stage.transaction().password(slapd::PASSWORD)), Ok(()), "{}", stage.proxy.log_tail());
    assert_eq!(outcome(&stage.session().password("anything")), Ok(()), "{}", stage.proxy.log_tail());
    assert_eq!(
        outcome(&tokens.clone().password(&signer.token(&claims()))),
        Ok(()),
        "{}",
        stage.proxy.log_tail()
    );
    assert_eq!(outcome(&stage.transaction().password("wrong")), failed("LDAP", ROLE));
    assert_eq!(outcome(&tokens.password("wrong")), failed("JWT", ROLE));
}
