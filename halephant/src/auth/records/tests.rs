//! Tokens, lines and included files.

use super::token::next_token;
use super::*;
use proptest::prelude::*;
use std::fs;

fn fields(line: &str) -> Vec<Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, line).unwrap();
    let records = read_records(&path).unwrap();
    assert!(records.len() <= 1, "{records:?}");
    let show = |token: &Token| if token.quoted { format!("\"{}\"", token.text) } else { token.text.clone() };
    let fields = records.into_iter().flat_map(|record| record.fields);
    fields.map(|field| field.iter().map(show).collect()).collect()
}

#[test]
fn fields_are_words_and_lists() {
    for (line, expected) in [
        ("", vec![]),
        ("   # host all", vec![]),
        ("a\tb  c", vec![vec!["a"], vec!["b"], vec!["c"]]),
        ("a,b c", vec![vec!["a", "b"], vec!["c"]]),
        ("a, b c", vec![vec!["a", "b"], vec!["c"]]),
        ("a ,b", vec![vec!["a"], vec!["b"]]),
        ("a,,b,", vec![vec!["a", "b"]]),
        ("a#b", vec![vec!["a"]]),
        ("\"a#b\" c\r", vec![vec!["\"a#b\""], vec!["c"]]),
        ("\"a b\",\"c,d\"", vec![vec!["\"a b\"", "\"c,d\""]]),
        ("\"\"", vec![vec!["\"\""]]),
        ("\"say \"\"hi\"\"\"", vec![vec!["\"say \"hi\"\""]]),
        ("a\"b c\"d", vec![vec!["ab cd"]]),
        ("\"open to the end # ,", vec![vec!["\"open to the end # ,\""]]),
        ("/^(a|b)$ x", vec![vec!["/^(a|b)$"], vec!["x"]]),
    ] {
        assert_eq!(fields(line), expected, "{line:?}");
    }
}

#[test]
fn a_backslash_joins_lines() {
    let lines = |text: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, text).unwrap();
        let records = read_records(&path).unwrap();
        let show = |record: Record| {
            let texts = record.fields.into_iter().flatten().map(|token| token.text);
            (record.place.line, texts.collect::<Vec<_>>().join(" "))
        };
        records.into_iter().map(show).collect::<Vec<_>>()
    };
    assert_eq!(lines("a \\\n b\nc\n"), [(1, "a b".to_owned()), (3, "c".to_owned())]);
    assert_eq!(lines("a\\\r\nb"), [(1, "ab".to_owned())]);
    assert_eq!(lines("x\\\n\\\ny"), [(1, "xy".to_owned())]);
    assert_eq!(lines("x\\\\\n\ny"), [(1, "x\\".to_owned()), (3, "y".to_owned())]);
    assert_eq!(lines("# a \\\nstill a comment\nb"), [(3, "b".to_owned())]);
    assert_eq!(lines("a\\"), [(1, "a".to_owned())]);
}

#[test]
fn files_are_included_from_beside() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("sub/dir")).unwrap();
    fs::write(at("top"), "one\ninclude sub/next\ninclude_if_exists nothing\nlast @names,x\n").unwrap();
    fs::write(at("sub/next"), "two a b\ninclude_dir dir\n").unwrap();
    fs::write(at("sub/dir/2.conf"), "four").unwrap();
    fs::write(at("sub/dir/1.conf"), "three").unwrap();
    fs::write(at("sub/dir/.3.conf"), "hidden").unwrap();
    fs::write(at("sub/dir/4.txt"), "other").unwrap();
    fs::write(at("names"), "n1, n2 # both\n\"n 3\"\n@sub/more\n").unwrap();
    fs::write(at("sub/more"), "n4").unwrap();
    let records = read_records(&at("top")).unwrap();
    let first: Vec<_> = records.iter().map(|record| record.fields[0][0].text.as_str()).collect();
    assert_eq!(first, ["one", "two", "three", "four", "last"]);
    let names: Vec<_> = records[4].fields[1].iter().map(|token| token.text.as_str()).collect();
    assert_eq!(names, ["n1", "n2", "n 3", "n4", "x"]);
    assert_eq!(records[2].place.file.as_ref(), at("sub/dir/1.conf"));
    assert_eq!(records[4].place.line, 4);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("top"), "ok\ninclude nothing\nx @missing\ninclude_dir no\n").unwrap();
    let mistakes = read_records(&at("top")).unwrap_err();
    let lines: Vec<_> = mistakes.iter().map(|mistake| mistake.place.line).collect();
    assert_eq!(lines, [2, 3, 4]);
    assert!(mistakes[0].to_string().contains("top:2: file"), "{}", mistakes[0]);

    fs::write(at("loop"), "include loop\n").unwrap();
    let mistakes = read_records(&at("loop")).unwrap_err();
    assert!(matches!(mistakes[..], [Misplaced { error: RecordsError::TooDeep, .. }]));
    fs::write(at("latin"), b"a\nh\xf6st\n").unwrap();
    let mistakes = read_records(&at("latin")).unwrap_err();
    assert!(matches!(
        mistakes[..],
        [Misplaced { error: RecordsError::NotUtf8, place: Place { line: 2, .. } }]
    ));
    assert!(read_records(&at("nowhere")).is_err());
    assert!(read_records(directory.path()).is_err());
}

/// A word in quotation marks, as a person would write it.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

proptest! {
    #[test]
    fn what_is_quoted_comes_back(words in prop::collection::vec("[^\n\0]{0,20}", 1..6), commas in prop::collection::vec(any::<bool>(), 6)) {
        let mut line = String::new();
        for (word, comma) in words.iter().zip(&commas) {
            line.push_str(&quote(word));
            line.push_str(if *comma { "," } else { " \t" });
        }
        let mut rest = line.as_str();
        for (word, comma) in words.iter().zip(&commas) {
            let (token, followed) = next_token(&mut rest).expect("a token");
            prop_assert_eq!((token.text.as_str(), token.quoted, followed), (word.as_str(), true, *comma));
        }
        prop_assert!(next_token(&mut rest).is_none());
    }

    #[test]
    fn any_line_comes_to_an_end(line in "\\PC{0,200}") {
        let mut rest = line.as_str();
        let mut tokens = 0;
        while next_token(&mut rest).is_some() {
            tokens += 1;
            prop_assert!(tokens <= line.len());
        }
        prop_assert!(rest.is_empty() || rest.trim_start_matches([' ', '\t', '\r', ',']).is_empty());
    }
}
