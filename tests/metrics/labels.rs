//! Which labels an expression of Prometheus names, as far as ours go: `metric{label="value"}` and `by (label)`.

use std::collections::{BTreeMap, BTreeSet};

/// What the scraper adds, and a histogram's own.
const ADDED: [&str; 3] = ["instance", "job", "le"];

/// Labels by the name of a sample, from the golden list.
pub fn known(golden: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut known = BTreeMap::new();
    for line in golden.lines() {
        let mut words = line.split(' ');
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        let labels: BTreeSet<String> = words.chain(ADDED).map(str::to_owned).collect();
        let suffixes = if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
        known.extend(suffixes.iter().map(|suffix| (format!("{name}{suffix}"), labels.clone())));
    }
    known
}

/// What is wrong with an expression: a metric that isn't known, a label that it doesn't have.
pub fn wrong(expression: &str, known: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let outside = without_values(expression);
    let mut wrong = Vec::new();
    let mut there: BTreeSet<&str> = ADDED.into();
    for (start, name) in
        words(&outside).filter(|(_, word)| word.starts_with("fireflow_") || word.starts_with("process_"))
    {
        let Some(labels) = known.get(name) else {
            wrong.push(format!("there is no {name}"));
            continue;
        };
        there.extend(labels.iter().map(String::as_str));
        let selector = outside[start + name.len()..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        for (_, label) in
            words(selector.map_or("", |(selector, _)| selector)).filter(|(_, label)| !labels.contains(*label))
        {
            wrong.push(format!("{name} has no label {label}"));
        }
    }
    for keyword in ["by (", "on ("] {
        for (at, _) in outside.match_indices(keyword) {
            let labels = outside[at + keyword.len()..].split_once(')').map_or("", |(labels, _)| labels);
            wrong.extend(
                words(labels)
                    .filter(|(_, label)| !there.contains(label))
                    .map(|(_, label)| format!("nothing has a label {label}")),
            );
        }
    }
    wrong
}

/// The expression with its quoted texts left out.
fn without_values(expression: &str) -> String {
    expression.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

/// Names, and where they begin.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
        .map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

#[test]
fn a_wrong_metric_and_a_wrong_label_are_found() {
    let known = known("fireflow_a_total counter queue\nfireflow_b histogram outcome\nfireflow_c gauge\n");
    for (expression, expected) in [
        ("sum by (queue) (rate(fireflow_a_total{queue=\"fireflow_x{y}\",job=~\"a|b\"}[5m])) > 0", &[][..]),
        ("histogram_quantile(0.9, sum by (le, outcome) (fireflow_b_bucket{instance=\"a\"}))", &[]),
        ("fireflow_b > 1", &["there is no fireflow_b"]),
        ("fireflow_a_total{outcome=\"x\"} / on (instance) fireflow_c", &["fireflow_a_total has no label outcome"]),
        ("sum by (queue, phase) (fireflow_a_total)", &["nothing has a label phase"]),
        ("fireflow_c and on (queue) fireflow_b_sum", &["nothing has a label queue"]),
    ] {
        assert_eq!(wrong(expression, &known), expected, "{expression}");
    }
}
