//! Methods and options, and what is wrong with them.

use super::*;
use std::path::PathBuf;

fn parse(leg: Leg, line: &str) -> Result<Demand, MethodError> {
    let mut words = line.split_ascii_whitespace();
    Demand::parse(leg, words.next().unwrap_or_default(), words)
}

fn method(line: &str) -> Method {
    parse(Leg::Any, line).unwrap_or_else(|error| panic!("{line}: {error}")).method
}

#[track_caller]
fn refused(leg: Leg, line: &str, words: &str) {
    let error = parse(leg, line).expect_err(line).to_string();
    assert!(error.contains(words), "{line}: {error}");
}

#[test]
fn names_lead_to_methods_and_back() {
    for (leg, name) in [
        (Leg::Any, "trust"),
        (Leg::Any, "reject"),
        (Leg::Any, "scram-sha-256"),
        (Leg::Any, "md5"),
        (Leg::Any, "password"),
        (Leg::Tls, "cert"),
        (Leg::Unix, "peer"),
        (Leg::Any, "pam"),
        (Leg::Any, "ldap ldapserver=h ldapprefix=u"),
        (Leg::Any, "jwt jwks=/f issuer=i audience=a"),
    ] {
        let demand = parse(leg, name).unwrap();
        assert_eq!(demand.method.name(), name.split(' ').next().unwrap());
    }
    refused(Leg::Any, "gss", "not supported");
    refused(Leg::Any, "SCRAM-SHA-256", "invalid authentication method");
    refused(Leg::Any, "cert", "hostssl");
    refused(Leg::Tls, "peer", "local");
}

#[test]
fn options_belong_to_methods() {
    refused(Leg::Any, "md5 map=m", "not one of method");
    refused(Leg::Any, "md5 colour=red", "unrecognized");
    refused(Leg::Any, "md5 map", "name=value");
    refused(Leg::Tls, "cert map=a map=b", "twice");
    refused(Leg::Any, "pam pam_use_hostname=yes", "0 or 1");
    let pam = PamOptions { service: "halephant".into(), use_hostname: true };
    assert_eq!(method("pam pamservice=halephant pam_use_hostname=1"), Method::Pam(pam));
}

#[test]
fn certificates_are_for_tls() {
    let demand = parse(Leg::Tls, "scram-sha-256 clientcert=verify-ca").unwrap();
    assert_eq!(demand.client_cert, Some(ClientCert::VerifyCa));
    let demand = parse(Leg::Tls, "cert map=m clientname=DN").unwrap();
    assert_eq!(demand.client_cert, Some(ClientCert::VerifyFull));
    assert_eq!((demand.method.map(), demand.client_name), (Some("m"), ClientName::DistinguishedName));
    refused(Leg::Any, "trust clientcert=verify-ca", "hostssl");
    refused(Leg::Unix, "trust clientname=CN", "hostssl");
    refused(Leg::Tls, "cert clientcert=verify-ca", "verify-full");
    refused(Leg::Tls, "trust clientcert=1", "verify-ca or verify-full");
}

#[test]
fn ldap_binds_or_searches() {
    let Method::Ldap(options) = method("ldap ldapserver=a.example ldapprefix=cn= ldapsuffix=,dc=x ldaptls=1")
    else {
        panic!("another method")
    };
    assert_eq!((options.port, options.start_tls), (389, true));
    assert_eq!(options.user, LdapUser::Bind { prefix: "cn=".into(), suffix: ",dc=x".into() });
    let url = "ldap ldapurl=ldaps://ldap.example:1636/dc=example,dc=net?cn?sub";
    let Method::Ldap(options) = method(url) else { panic!("another method") };
    assert_eq!((options.servers[0].as_str(), options.port), ("ldap.example", 1636));
    let LdapUser::Search(search) = options.user else { panic!("no search") };
    assert_eq!((search.base_dn.as_str(), search.filter.as_str()), ("dc=example,dc=net", "(cn=$username)"));
    assert_eq!(search.scope, LdapScope::Subtree);

    refused(Leg::Any, "ldap ldapprefix=a", "ldapserver");
    refused(Leg::Any, "ldap ldapserver=h", "ldapbasedn");
    refused(Leg::Any, "ldap ldapserver=h ldapprefix=a ldapbasedn=b", "exclude");
    refused(Leg::Any, "ldap ldapserver=h ldapbasedn=b ldapsearchattribute=a ldapsearchfilter=f", "exclude");
    refused(Leg::Any, "ldap ldapserver=h ldapprefix=a ldapport=0", "port number");
    refused(Leg::Any, "ldap ldapserver=h ldapprefix=a ldapscheme=ldaps ldaptls=1", "exclude");
    refused(Leg::Any, "ldap ldapurl=http://h/dc=x", "ldap[s]://");
}

#[test]
fn secrets_do_not_show() {
    let method = method("ldap ldapserver=h ldapbasedn=b ldapbinddn=c ldapbindpasswd=hunter2");
    assert!(!format!("{method:?}").contains("hunter2"));
}

#[test]
fn a_token_needs_its_issuer_and_audience() {
    let Method::Jwt(options) =
        method("jwt jwks=https://i.example/keys issuer=i audience=a claim=roles map=m leeway=5")
    else {
        panic!("another method")
    };
    assert_eq!(options.jwks, JwksSource::Url("https://i.example/keys".into()));
    assert_eq!((options.claim.as_str(), options.leeway.as_secs()), ("roles", 5));
    let Method::Jwt(options) = method("jwt jwks=/etc/keys.json issuer=i audience=a") else {
        panic!("another method")
    };
    assert_eq!(options.jwks, JwksSource::File(PathBuf::from("/etc/keys.json")));
    assert_eq!(options.claim, "sub");
    refused(Leg::Any, "jwt jwks=/f audience=a", "issuer");
    refused(Leg::Any, "jwt jwks=/f issuer=i", "audience");
    refused(Leg::Any, "jwt jwks=/f issuer=i audience=a leeway=1h", "seconds");
}
