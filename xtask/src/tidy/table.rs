//! The rules as data: who may import whom, who may name what, how long a file may be.

/// A module at the root of the `halephant` crate, or a file of that name. It may import modules of lower layers and itself, nothing else
/// of the crate.
pub struct Module {
    pub name: &'static str,
    pub layer: u8,
    /// Where a module may import less than its layer does.
    pub only: Option<&'static [&'static str]>,
    /// Where a module is for some importers alone.
    pub importers: Option<&'static [&'static str]>,
}

const fn module(layer: u8, name: &'static str) -> Module {
    Module { name, layer, only: None, importers: None }
}

/// Layers 0 and 1 are crates: see [`CRATES`].
pub const MODULES: &[Module] = &[
    module(2, "error"),
    module(2, "secret"),
    module(2, "telemetry"),
    module(2, "net"),
    module(2, "privileges"),
    module(2, "sql"),
    module(2, "tls"),
    module(2, "worker"),
    module(2, "prepared"),
    module(3, "wire"),
    module(4, "startup"),
    module(4, "auth"),
    module(4, "server"),
    module(4, "topology"),
    module(5, "pool"),
    module(6, "route"),
    Module { only: Some(&["net"]), ..module(5, "splice") },
    module(5, "cancel"),
    module(5, "notify"),
    module(6, "relay"),
    module(7, "session"),
    module(7, "overview"),
    module(8, "admin"),
    module(8, "console"),
    module(9, "proxy"),
    Module { importers: Some(&["main", "reload", "cli"]), ..module(10, "config") },
    module(11, "reload"),
    module(11, "cli"),
    module(12, "main"),
];

/// A crate of the workspace and the ones of it that it may depend on, tests aside.
pub struct Crate {
    pub name: &'static str,
    pub may_use: &'static [&'static str],
}

pub const CRATES: &[Crate] = &[
    Crate { name: "halephant-common", may_use: &[] },
    Crate { name: "halephant-protocol", may_use: &["halephant-common"] },
    Crate { name: "halephant-ebpf", may_use: &["halephant-common"] },
    Crate { name: "halephant", may_use: &["halephant-common", "halephant-protocol"] },
    Crate { name: "halephant-harness", may_use: &[] },
    Crate { name: "halephant-suite", may_use: &["halephant-harness"] },
    Crate { name: "xtask", may_use: &["halephant-common", "halephant-harness", "halephant-protocol"] },
];

/// Libraries that a crate must do without: the protocol has no I/O, no clock and no log.
pub const FORBIDDEN_LIBRARIES: &[(&str, &[&str])] = &[
    ("halephant-protocol", &["libc", "log", "mio", "nix", "socket2", "tokio", "tracing"]),
    ("halephant-common", &["libc", "log", "nix", "socket2", "tokio", "tracing"]),
];

/// A path that may be named in some places only.
pub struct Reserved {
    pub path: &'static [&'static str],
    /// Beginnings of files' paths.
    pub places: Places,
    pub why: &'static str,
}

pub enum Places {
    Only(&'static [&'static str]),
    Never(&'static [&'static str]),
}

pub const RESERVED: &[Reserved] = &[
    Reserved {
        path: &["aya"],
        places: Places::Only(&["halephant/src/splice", "halephant-common/", "tests/", "xtask/"]),
        why: "splice alone loads kernel programs",
    },
    Reserved {
        path: &["Deserialize"],
        places: Places::Only(&["halephant/src/config", "tests/", "xtask/"]),
        why: "config alone reads files",
    },
    Reserved {
        path: &["unsafe"],
        places: Places::Only(&[
            "halephant/src/splice",
            "halephant/src/net",
            "halephant-common/",
            "halephant-ebpf/",
        ]),
        why: "unsafe code is for splice, net and the kernel programs",
    },
    Reserved {
        path: &["std", "net"],
        places: Places::Never(&["halephant-protocol/src/"]),
        why: "the protocol does no I/O",
    },
    Reserved {
        path: &["std", "fs"],
        places: Places::Never(&["halephant-protocol/src/"]),
        why: "the protocol does no I/O",
    },
    Reserved {
        path: &["std", "time"],
        places: Places::Never(&["halephant-protocol/src/"]),
        why: "the protocol has no clock",
    },
];

/// Words that say nothing about what a thing is.
pub const BANNED_WORDS: &[&str] = &["manager", "helper", "helpers", "util", "utils", "context"];

/// A verb that is left out in Rust.
pub const BANNED_FUNCTION_PREFIX: &str = "get_";

/// Lines with code, without tests.
pub const FILE_LINES_MAX: usize = 600;

/// Files that may be longer, and why.
pub const LONG_FILES: &[(&str, &str)] = &[];

/// Paths that are somebody's machine, wherever tidy runs.
pub const MACHINE_PATHS: &[&[&str]] = &[&["", "home", ""], &["", "root", ""], &["", "Users", ""]];

/// Directories that any machine has; a checkout below one of them does not forbid its name.
pub const COMMON_DIRECTORIES: &[&str] =
    &["bin", "builds", "dev", "etc", "home", "mnt", "opt", "root", "run", "srv", "sys", "tmp", "usr", "var"];

/// Hosts of package registries, label by label.
pub const REGISTRY_HOSTS: &[&[&str]] = &[
    &["index", "crates", "io"],
    &["static", "crates", "io"],
    &["registry", "npmjs", "org"],
    &["files", "pythonhosted", "org"],
    &["pypi", "org"],
    &["deb", "debian", "org"],
    &["proxy", "golang", "org"],
];
