//! Tidy over small repositories that break one rule each.

use super::{File, check, layers};

fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<File> =
        files.iter().map(|(path, text)| File { path: (*path).into(), text: (*text).into() }).collect();
    check(&files, &["/checkout/".into()]).iter().map(ToString::to_string).collect()
}

fn one(files: &[(&str, &str)]) -> String {
    let findings = findings(files);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.into_iter().next().unwrap_or_default()
}

#[test]
fn lower_layers_may_be_imported() {
    let text = "//! A pool.\nuse crate::server::Connection;\nuse crate::{net::Address, secret::Secret};\nuse super::pool::Key;\n";
    assert_eq!(findings(&[("halephant/src/pool.rs", text)]), Vec::<String>::new());
}

#[test]
fn a_higher_layer_is_refused_with_both_files() {
    let pool = ("halephant/src/pool.rs", "//! A pool.\n");
    let waiters = ("halephant/src/pool/waiters.rs", "//! Waiters.\n");
    let auth = ("halephant/src/auth/query.rs", "//! A query.\nuse crate::pool::waiters::Queue;\n");
    assert_eq!(
        one(&[pool, waiters, auth]),
        "halephant/src/auth/query.rs:2: auth (layer 4) may not import pool (layer 5) (halephant/src/pool/waiters.rs)"
    );
}

#[test]
fn modules_of_one_layer_do_not_import_one_another() {
    let finding = one(&[("halephant/src/auth.rs", "//! A.\nuse crate::server::Connection;\n")]);
    assert!(finding.contains("auth (layer 4) may not import server (layer 4)"), "{finding}");
}

#[test]
fn finds_imports_in_groups_paths_macros_and_by_super() {
    for text in [
        "//! N.\nuse crate::{secret, pool::{Key, Limits}};\n",
        "//! N.\nfn f() -> crate::pool::Key { todo() }\n",
        "//! N.\nfn f() { trace!(\"{}\", crate::pool::size()); }\n",
        "//! N.\nuse super::pool::Key;\n",
        "//! N.\nmod deep { use super::super::pool::Key; }\n",
    ] {
        let text = text.replace("crate::{secret, pool::{Key, Limits}}", "crate::{pool::Limits}");
        let finding = one(&[("halephant/src/net.rs", &text)]);
        assert!(finding.contains("net (layer 2) may not import pool (layer 5)"), "{text}: {finding}");
    }
    let both = findings(&[("halephant/src/net.rs", "//! N.\nuse crate::{secret, pool::{Key, Limits}};\n")]);
    assert_eq!(both.len(), 3, "{both:#?}");
}

#[test]
fn a_path_relative_to_a_part_of_the_module_is_no_import() {
    let text = "//! N.\nuse super::address::Parts;\nuse super::pool;\n";
    assert_eq!(findings(&[("halephant/src/net/listener.rs", text)]), Vec::<String>::new());
}

#[test]
fn splice_has_net_alone() {
    assert_eq!(
        findings(&[("halephant/src/splice.rs", "//! S.\nuse crate::net::Pair;\n")]),
        Vec::<String>::new()
    );
    let finding = one(&[("halephant/src/splice/flow.rs", "//! S.\nuse crate::wire::Stream;\n")]);
    assert!(finding.contains("of this crate it has net alone"), "{finding}");
}

#[test]
fn config_is_for_main_and_reload() {
    let main = "//! M.\nuse halephant::config::Config;\nuse halephant::proxy;\nfn main() {}\n";
    assert_eq!(findings(&[("halephant/src/main.rs", main)]), Vec::<String>::new());
    let finding = one(&[("halephant/src/proxy.rs", "//! P.\nuse crate::config::Config;\n")]);
    assert!(finding.contains("it is for main, reload, cli alone"), "{finding}");
}

#[test]
fn a_module_without_a_layer_is_refused() {
    let finding = one(&[("halephant/src/misc/thing.rs", "//! T.\n")]);
    assert!(finding.contains("module misc has no layer"), "{finding}");
}

#[test]
fn the_table_has_each_module_once() {
    assert_eq!(layers::duplicates(), Vec::<&str>::new());
}

#[test]
fn wants_a_header_and_no_mod_file() {
    assert!(one(&[("xtask/src/a.rs", "use std::fs;\n")]).contains("does not open with"));
    assert!(one(&[("xtask/src/a/mod.rs", "//! A.\n")]).contains("is a mod.rs"));
}

#[test]
fn counts_lines_without_comments_and_tests() {
    let code = |count: usize| "const A: u8 = 1;\n".repeat(count);
    let within = format!("//! A.\n// why\n\n{}#[cfg(test)]\nmod tests {{\n{}}}\n", code(600), code(100));
    assert_eq!(findings(&[("xtask/src/a.rs", &within)]), Vec::<String>::new());
    let above = format!("//! A.\n{}", code(601));
    assert!(one(&[("xtask/src/a.rs", &above)]).contains("has 601 lines of code"));
    assert_eq!(findings(&[("xtask/src/a/tests.rs", &above)]), Vec::<String>::new());
}

#[test]
fn refuses_names_that_say_nothing() {
    assert!(
        one(&[("xtask/src/a.rs", "//! A.\nstruct PoolManager;\n")])
            .contains("struct PoolManager says \"manager\"")
    );
    assert!(one(&[("xtask/src/net_utils.rs", "//! A.\n")]).contains("a module's name says \"utils\""));
    assert!(
        one(&[("xtask/src/a.rs", "//! A.\nimpl A { pub fn get_key(&self) {} }\n")]).contains("leave out")
    );
    let others = "//! A.\nuse anyhow::Context;\nstruct Contextual;\nfn target() {}\n\
        impl<T: Sized> Theirs for Ours<T> { fn get_it(&self) { } }\n";
    assert_eq!(findings(&[("xtask/src/a.rs", others)]), Vec::<String>::new());
}

#[test]
fn reserves_paths_for_some_files() {
    let finding = one(&[("halephant/src/relay.rs", "//! R.\nfn f() { let _ = aya::Ebpf::load(&[]); }\n")]);
    assert!(finding.contains("names aya"), "{finding}");
    let finding = one(&[("halephant-protocol/src/frame.rs", "//! F.\nuse std::time::Instant;\n")]);
    assert!(finding.contains("names std::time"), "{finding}");
    let finding = one(&[("halephant/src/pool.rs", "//! P.\n#[derive(Deserialize)]\nstruct Limits;\n")]);
    assert!(finding.contains("names Deserialize"), "{finding}");
}

#[test]
fn holds_crates_to_their_dependencies() {
    let manifest = |dependency: &str| {
        format!("[package]\nname = \"halephant-protocol\"\n[dependencies]\n{dependency}\n")
    };
    let path = "halephant-protocol/Cargo.toml";
    assert_eq!(findings(&[(path, &manifest("bytes = \"1\""))]), Vec::<String>::new());
    assert!(one(&[(path, &manifest("tokio = \"1\""))]).contains("must do without tokio"));
    assert!(one(&[(path, &manifest("halephant.workspace = true"))]).contains("may not use halephant"));
}

#[test]
fn refuses_paths_of_a_machine_and_registry_hosts() {
    assert!(one(&[("README.md", "see /checkout/main\n")]).contains("README.md:1: names a path of a machine"));
    let host = ["index", "crates", "io"].join(".");
    assert!(one(&[("deny.toml", &format!("# {host}\n"))]).contains("names a package registry's host"));
    assert_eq!(
        findings(&[("README.md", "GET /admin/checkout/main and src/checkout/main\n")]),
        Vec::<String>::new()
    );
}

#[test]
fn a_file_that_is_not_rust_is_a_finding() {
    assert!(one(&[("xtask/src/a.rs", "//! A.\nfn f( {\n")]).contains("not Rust"));
}
