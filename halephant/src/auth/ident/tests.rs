//! Maps and what is wrong with them.

use super::*;
use std::fs;

fn load(text: &str) -> Result<IdentMaps, Vec<IdentError>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pg_ident.conf");
    fs::write(&path, text).unwrap();
    IdentMaps::load(&path)
}

#[test]
fn without_a_map_names_are_the_same() {
    let maps = IdentMaps::default();
    assert!(maps.permits(None, "ann", "ann") && !maps.permits(None, "ann", "Ann"));
    assert!(maps.permits(Some(""), "ann", "ann"));
    assert!(!maps.permits(Some("m"), "ann", "ann"));
}

#[test]
fn lines_of_a_map_add_up() {
    let maps = load("m ann bob\nm ann carl # both\nother ann dora\n").unwrap();
    assert!(maps.has("m") && !maps.has("n"));
    for (user, permitted) in [("bob", true), ("carl", true), ("dora", false), ("ann", false)] {
        assert_eq!(maps.permits(Some("m"), "ann", user), permitted, "{user}");
    }
}

#[test]
fn expressions_map_by_their_first_group() {
    let maps = load(
        "m /^(.*)@example\\.com$ \\1\nm /^(.*)@other\\.com$ guest\np /^svc-(.+)$ app_\\1_role\nq /^(a|ab)(b?)$ x\\1",
    )
    .unwrap();
    let permits = |map, identity, user| maps.permits(Some(map), identity, user);
    assert!(permits("m", "ann@example.com", "ann"));
    assert!(!permits("m", "ann@example.com", "bob"));
    assert!(!permits("m", "ann@example.com.evil", "ann"));
    assert!(permits("m", "zed@other.com", "guest") && !permits("m", "zed@other.com", "zed"));
    assert!(permits("p", "svc-web", "app_web_role") && !permits("p", "svc-web", "app__role"));
    assert!(permits("q", "ab", "xab") && !permits("q", "ab", "xa"), "the longest alternative");
    // A name that an identity brings along is only a name.
    let maps = load("m /^(.*)$ \\1").unwrap();
    assert!(maps.permits(Some("m"), "all", "all") && !maps.permits(Some("m"), "all", "postgres"));
    assert!(!maps.permits(Some("m"), "/.*", "postgres"));
}

#[test]
fn keywords_count_without_quotation_marks() {
    let maps = load("m ann all\nn ann \"all\"\no ann /^app_\np ann \"+group\"\nq ann \"x\\1\"").unwrap();
    assert!(maps.permits(Some("m"), "ann", "anybody"));
    assert!(!maps.permits(Some("n"), "ann", "anybody") && maps.permits(Some("n"), "ann", "all"));
    assert!(maps.permits(Some("o"), "ann", "app_1") && !maps.permits(Some("o"), "ann", "x_app_1"));
    assert!(maps.permits(Some("p"), "ann", "+group"));
    assert!(maps.permits(Some("q"), "ann", "x\\1"));
}

#[test]
fn mistakes_have_a_line() {
    for (text, words) in [
        ("\nm ann", ":2: missing entry"),
        ("m a b c", ":1: more than three"),
        ("m a,b c", "multiple values"),
        ("m a +group", "members of a role"),
        ("m /( x", "invalid regular expression"),
        ("m /^a$ \\1", "has no group"),
        ("m /^a(x)?$ \\1", "may stand for something else"),
    ] {
        let mistakes = load(text).unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].to_string().contains(words), "{text}: {}", mistakes[0]);
    }
    assert_eq!(load("m a\nm b\n").unwrap_err().len(), 2);
}
