//! Callgrind's output file: the cost of each function of one program file, without what it calls.

use std::collections::HashMap;

/// Self cost by function name.
pub type Costs = HashMap<String, u64>;

/// Functions that a library picks by the CPU it runs on.
const BY_CPU: [&str; 2] = ["memchr::", "cpufeatures::"];

/// Reads what is counted for the object file whose path ends in `program`.
///
/// The format is described in valgrind's manual, "Callgrind Format Specification": names are given once with a number
/// in parentheses and later by that number alone; a `calls=` line is followed by one of inclusive cost, which is not the
/// function's own.
pub fn parse(text: &str, program: &str) -> Costs {
    let mut objects: HashMap<String, String> = HashMap::new();
    let mut functions: HashMap<String, String> = HashMap::new();
    let mut costs = Costs::new();
    let (mut object, mut function) = (String::new(), String::new());
    let mut inclusive = false;
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_key(key)) {
            match key {
                "ob" => object = named(&mut objects, value),
                "cob" => drop(named(&mut objects, value)),
                "fn" => function = named(&mut functions, value),
                "cfn" => drop(named(&mut functions, value)),
                "calls" => inclusive = true,
                _ => {}
            }
        } else if line.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '*')) {
            let is_own = !std::mem::take(&mut inclusive);
            let counts = object.ends_with(program) && !BY_CPU.iter().any(|part| function.contains(part));
            if is_own
                && counts
                && let Some(cost) = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok())
            {
                *costs.entry(function.clone()).or_default() += cost;
            }
        }
    }
    costs
}

fn is_key(key: &str) -> bool {
    key.chars().all(|c| c.is_ascii_lowercase())
}

/// `(3) name` introduces a name, `(3)` repeats it.
fn named(names: &mut HashMap<String, String>, value: &str) -> String {
    let Some((number, rest)) = value.split_once(')') else { return value.to_owned() };
    if rest.is_empty() {
        return names.get(number).cloned().unwrap_or_default();
    }
    let name = rest.trim_start().to_owned();
    names.insert(number.to_owned(), name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# callgrind format
version: 1
positions: line
events: Ir
summary: 999

ob=(1) /somewhere/halephant
fl=(1) src/main.rs
fn=(1) halephant::a
10 100
+1 5
cob=(2) /lib/libc.so.6
cfn=(2) memcpy
calls=3 0
* 4000
* 7

ob=(2)
fn=(2)
0 4000

ob=(1)
fn=(3) memchr::arch::find
5 50
fn=(1)
-2 1
";

    #[test]
    fn counts_own_cost_of_one_object() {
        let costs = parse(FILE, "/halephant");
        assert_eq!(costs, HashMap::from([("halephant::a".to_owned(), 113)]));
        assert_eq!(parse(FILE, "/libc.so.6"), HashMap::from([("memcpy".to_owned(), 4000)]));
    }
}
