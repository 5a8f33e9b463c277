//! Queries against what the library was seen to find, and against bad input.

use serde_json::{Value as Json, json};

use super::*;
use crate::nodes::testing::Bench;

/// What lucene-kit 1.3.0 was seen to find in a list: for each query the positions, or null where it throws.
const FACTS: &str = include_str!("facts.json");

/// Positions of the items that a query finds.
fn positions(query: &str, items: &Arc<Vec<Value>>) -> Result<Vec<usize>, QueryError> {
    let query = parse::parse(query, &CancellationToken::new())?;
    search::search(&query, items, &CancellationToken::new())
}

fn differences(facts: &str) -> Vec<String> {
    let facts: Json = serde_json::from_str(facts).unwrap();
    let Value::Array(items) = Value::from(&facts["items"]) else { panic!("no items") };
    let differs = |fact: &Json| {
        let query = fact[0].as_str().unwrap();
        let expected = &fact[1];
        let found = positions(query, &items);
        let seen = found.as_ref().map_or(json!(null), |found| json!(found));
        (seen != *expected).then(|| format!("{query:?}: expected {expected}, found {found:?}"))
    };
    facts["found"].as_array().unwrap().iter().filter_map(differs).collect()
}

#[test]
fn queries_find_what_the_library_finds() {
    let differences = differences(FACTS);
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn hostile_queries_come_to_an_end() {
    let items: Arc<Vec<Value>> = Arc::new(vec!["a".repeat(10_000).into()]);
    let lists = positions(&format!("a:b(c:{}", "[".repeat(10_000)), &items);
    assert_eq!(lists, Err(QueryError::Deep));
    for (part, count, problem) in [
        ("(", 60_000, Some("nest too deeply")),
        ("a:(", 20_000, Some("nest too deeply")),
        ("a:b(", 10_000, Some("nest too deeply")),
        ("x", 70_000, Some("70000 characters long")),
        ("NOT ", 15_000, None),
        ("\"", 65_000, Some("can't be read")),
        ("a:", 30_000, None),
        ("a AND ", 10_000, None),
        ("b OR ", 10_000, None),
        ("a:/x", 16_000, Some("can't be read")),
        ("*a?", 20_000, None),
    ] {
        let found = positions(&part.repeat(count), &items);
        match (found, problem) {
            (Err(error), Some(problem)) => assert!(error.to_string().contains(problem), "{part}: {error}"),
            (found, problem) => assert_eq!((found.is_ok(), problem), (true, None), "{part}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn the_node_filters_copies_and_fails() {
    let items = json!([{"name": "gear", "qty": 3}, {"name": "bolt", "qty": 12}, {"name": null}]);
    let run =
        |query: Json, items: Json| Bench::new("FilterArrayLuceneNode", &json!({"inputArray": items, "query": query}));
    for (query, found) in [
        (json!("qty:>5"), json!([items[1]])),
        (json!("\r\nname:gear OR qty:12\n"), json!([items[0], items[1]])),
        (json!("name:nothing"), json!([])),
        (json!(" \n"), items.clone()),
        (json!(null), items.clone()),
    ] {
        let outcome = run(query.clone(), items.clone()).run().await;
        assert!(outcome.result.is_ok(), "{query}: {:?}", outcome.result);
        assert_eq!(outcome.json()["filteredArray"], found, "{query}");
    }
    for (query, list, problem) in [
        ("x", json!("text"), "`inputArray` holds no list"),
        ("name:(", items.clone(), "port `query`: it ends too early"),
        ("name:/(/", items.clone(), "/(/: the pattern is not a regular expression"),
        ("qty:[$low TO 5]", items.clone(), "variable low"),
        ("qty:$@low", items.clone(), "no name of a variable"),
        ("name:first()", items.clone(), "function first()"),
    ] {
        let error = run(json!(query), list).run().await.result.unwrap_err().to_string();
        assert!(error.contains(problem), "{query}: {error}");
    }
}

/// The library fails on null in a list that it looks for fields in. Here null just has no fields.
#[test]
fn null_in_lists_has_no_fields() {
    let Value::Array(items) = Value::from(&json!([{"rows": [null, {"n": 1}]}, {"rows": [null]}])) else { panic!() };
    assert_eq!(positions("rows.n:1", &items), Ok(vec![0]));
    assert_eq!(positions("null", &items), Ok(vec![0, 1]));
}

#[test]
fn sorting_puts_undefined_last() {
    let items = Arc::new(vec![Value::Undefined, "a".into()]);
    assert_eq!(positions("undefined OR a", &items), Ok(vec![1, 0]));
    assert_eq!(positions("NOT b", &items), Ok(vec![0, 1]));
}
