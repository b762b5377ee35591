//! OpenLDAP's server in a directory of its own.

use crate::pki::{LIMIT, Pki};
use halephant_harness::port::Port;
use halephant_harness::scratch::Scratch;
use halephant_harness::{command, process, wait_for};
use nix::sys::signal::Signal;
use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

pub const PROGRAM: &str = "/usr/sbin/slapd";
pub const BASE: &str = "dc=example,dc=net";
pub const PASSWORD: &str = "ldap-secret";
/// Who may search, and its password.
pub const FINDER: &str = "cn=finder,dc=example,dc=net";
pub const FINDER_PASSWORD: &str = "finder-secret";

/// Two entries have the name `twin`; one has a comma in its name.
const ENTRIES: &str = "\
dn: dc=example,dc=net
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: cn=finder,dc=example,dc=net
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: finder
userPassword: finder-secret

dn: ou=people,dc=example,dc=net
objectClass: organizationalUnit
ou: people

dn: ou=others,dc=example,dc=net
objectClass: organizationalUnit
ou: others

dn: uid=app,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
uid: app
cn: Application
sn: Application
mail: app@example.net
userPassword: ldap-secret

dn: uid=twin,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
uid: twin
cn: Twin
sn: Twin
userPassword: ldap-secret

dn: uid=twin,ou=others,dc=example,dc=net
objectClass: inetOrgPerson
uid: twin
cn: Twin
sn: Twin
userPassword: ldap-secret

dn: uid=ann\\, lee (b)*,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
uid: ann, lee (b)*
cn: Ann
sn: Lee
userPassword: ldap-secret
";

pub struct Slapd {
    pub pki: Pki,
    pub port: Port,
    pub tls_port: Port,
    scratch: Scratch,
    child: Option<Child>,
}

impl Slapd {
    pub fn start() -> Self {
        let scratch = Scratch::new("slapd").expect("there is room");
        let pki = Pki::new();
        let files = pki.put("slapd", &pki.server());
        let path = |name: &str| scratch.path().join(name).display().to_string();
        fs::create_dir(scratch.path().join("data")).expect("it is ours");
        let schemas = ["core", "cosine", "inetorgperson"]
            .map(|schema| format!("include /etc/ldap/schema/{schema}.schema\n"))
            .concat();
        let text = format!(
            "{schemas}modulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             TLSCACertificateFile {ca}\nTLSCertificateFile {certificate}\nTLSCertificateKeyFile {key}\n\
             database mdb\nmaxsize 16777216\nsuffix \"{BASE}\"\nrootdn \"cn=root,{BASE}\"\ndirectory {data}\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by dn.exact=\"{FINDER}\" read by * none\n",
            ca = pki.file("root.crt"),
            certificate = files.certificate.display(),
            key = files.key.display(),
            data = path("data"),
        );
        fs::write(path("slapd.conf"), text).expect("it is ours");
        fs::write(path("entries.ldif"), ENTRIES).expect("it is ours");
        let mut load = Command::new("/usr/sbin/slapadd");
        load.args(["-f", &path("slapd.conf"), "-l", &path("entries.ldif")]);
        command::succeed(&mut load, LIMIT).expect("the entries are loaded");
        let port = || Port::pick().expect("one is free");
        let mut slapd = Self { pki, port: port(), tls_port: port(), scratch, child: None };
        slapd.run();
        slapd
    }

    pub fn run(&mut self) {
        let (plain, tls) = (self.port.number(), self.tls_port.number());
        let child = Command::new(PROGRAM)
            .args(["-d", "0", "-h", &format!("ldap://127.0.0.1:{plain}/ ldaps://127.0.0.1:{tls}/"), "-f"])
            .arg(self.scratch.path().join("slapd.conf"))
            .stdin(Stdio::null())
            .spawn()
            .expect("it starts");
        self.scratch.adopt(child.id());
        self.child = Some(child);
        wait_for("slapd to listen", LIMIT, || {
            Ok([plain, tls].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()).then_some(()))
        })
        .expect("it does");
    }

    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        process::signal(child.id(), Signal::SIGTERM).expect("it is ours");
        process::wait(&mut child, "slapd to end", LIMIT).expect("it does");
        self.scratch.release(child.id());
    }

    /// Options that every rule has, for a connection in the clear.
    pub fn plain(&self) -> String {
        format!("ldapserver=127.0.0.1 ldapport={}", self.port.number())
    }

    pub fn ca(&self) -> String {
        self.pki.file("root.crt")
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The options for who searches.
pub fn finder() -> String {
    format!("ldapbasedn=\"{BASE}\" ldapbinddn=\"{FINDER}\" ldapbindpasswd={FINDER_PASSWORD}")
}
