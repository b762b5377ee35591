//! PostgreSQL's key words, as far as quoting a name depends on them: appendix "SQL Key Words" of the manual.

/// Reserved words, and those that may name functions or types alone.
const NO_TABLE_NAMES: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

/// Words that may not name functions or types.
const NO_FUNCTION_NAMES: &[&str] = &[
    "between",
    "bigint",
    "bit",
    "boolean",
    "char",
    "character",
    "coalesce",
    "dec",
    "decimal",
    "exists",
    "extract",
    "float",
    "greatest",
    "grouping",
    "inout",
    "int",
    "integer",
    "interval",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "least",
    "merge_action",
    "national",
    "nchar",
    "none",
    "normalize",
    "nullif",
    "numeric",
    "out",
    "overlay",
    "position",
    "precision",
    "real",
    "row",
    "setof",
    "smallint",
    "substring",
    "time",
    "timestamp",
    "treat",
    "trim",
    "values",
    "varchar",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

/// Whether a lower-case word needs no quotes where a table or column is named.
pub(super) fn can_name_table(word: &[u8]) -> bool {
    !contains(NO_TABLE_NAMES, word)
}

/// Appends a name the way `quote_identifier` writes it: quoted unless that is never needed.
pub(super) fn quote_name(name: &[u8], out: &mut Vec<u8>) {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'_' || byte.is_ascii_digit();
    let safe = name.first().is_some_and(|byte| !byte.is_ascii_digit())
        && name.iter().all(plain)
        && !contains(NO_TABLE_NAMES, name)
        && !contains(NO_FUNCTION_NAMES, name);
    if safe {
        out.extend_from_slice(name);
        return;
    }
    out.push(b'"');
    for &byte in name {
        if byte == b'"' {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'"');
}

fn contains(sorted: &[&str], word: &[u8]) -> bool {
    sorted.binary_search_by(|keyword| keyword.as_bytes().cmp(word)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(NO_TABLE_NAMES.is_sorted() && NO_FUNCTION_NAMES.is_sorted());
    }

    #[test]
    fn names_are_quoted_like_quote_identifier() {
        let quoted = |name: &str| {
            let mut out = Vec::new();
            quote_name(name.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        for (name, expected) in [
            ("public", "public"),
            ("$user", "\"$user\""),
            ("a\"b", "\"a\"\"b\""),
            ("", "\"\""),
            ("1a", "\"1a\""),
            ("Foo", "\"Foo\""),
            ("table", "\"table\""),
            ("values", "\"values\""),
            ("left", "\"left\""),
            ("temp", "temp"),
            ("a_1", "a_1"),
        ] {
            assert_eq!(quoted(name), expected);
        }
    }
}
