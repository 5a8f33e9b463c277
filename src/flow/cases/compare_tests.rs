//! What counts as a difference, and what doesn't.

use serde_json::{Value as JsonValue, json};

use super::compare;

fn paths(expected: &JsonValue, found: &JsonValue) -> Vec<String> {
    compare(expected, found, &[], true).into_iter().map(|difference| difference.path).collect()
}

fn with_port(port: &str, value: JsonValue) -> JsonValue {
    let mut node = json!({"status": "completed", "ports": {}, "touched": ["o.x"]});
    node["ports"][port] = value;
    json!({"nodes": {"NOa": node}})
}

#[test]
fn values_are_compared_exactly_but_for_marks() {
    for (expected, found, same) in [
        (json!(1), json!(1.0), true),
        (json!(1), json!("1"), false),
        (json!({"$errorText": true}), json!("any"), true),
        (json!({"$errorText": true}), json!(""), false),
        (json!([{"$containsErrorText": true}]), json!(["any"]), true),
        (json!({"$number": "NaN"}), json!({"$number": "NaN"}), true),
        (json!({"$number": "-0"}), json!(0), false),
        (json!(0), json!({"$number": "-0"}), true),
        (json!([{"$undefined": true}]), json!([null]), true),
        (json!({"a": 1}), json!({"a": 1, "b": 2}), false),
        (json!({"a": 1, "b": 2}), json!({"a": 1}), false),
        (
            json!({"$stream": {"items": [1], "closed": true}}),
            json!({"$stream": {"items": [1], "closed": false}}),
            false,
        ),
        (json!(null), json!(0), false),
    ] {
        let differences = paths(&with_port("p", expected.clone()), &with_port("p", found.clone()));
        assert_eq!(differences.is_empty(), same, "{expected} and {found}: {differences:?}");
    }
}

#[test]
fn nested_ports_count_where_an_edge_touches_them() {
    let nothing = json!({"nodes": {"NOa": {"status": "completed", "ports": {}, "touched": ["o.x"]}}});
    assert_eq!(paths(&with_port("o.x", json!(1)), &nothing), ["nodes/NOa/ports/o.x"]);
    assert!(paths(&with_port("o.y", json!(1)), &nothing).is_empty());
    assert_eq!(paths(&nothing, &with_port("o.x", json!(1))), ["nodes/NOa/ports/o.x"]);
    assert_eq!(paths(&with_port("p", json!(1)), &nothing), ["nodes/NOa/ports/p"]);
    assert_eq!(paths(&nothing, &with_port("p", json!(1))), ["nodes/NOa/ports/p"]);
}

#[test]
fn forms_take_the_place_of_values() {
    let forms = [("NOa/p".to_owned(), "^x+$".to_owned())];
    let differences = |expected: &JsonValue, found: &JsonValue| compare(expected, found, &forms, true).len();
    assert_eq!(differences(&with_port("p", json!("xx")), &with_port("p", json!("xxx"))), 0);
    assert_eq!(differences(&with_port("p", json!("xx")), &with_port("p", json!("y"))), 1);
    assert_eq!(differences(&with_port("q", json!(1)), &with_port("p", json!("y"))), 2, "a form and a missing port");
}

#[test]
fn what_is_volatile_is_not_compared() {
    let mut expected = with_port("p", json!({"a": 1, "b": [1, 2]}));
    let found = with_port("p", json!({"a": 2, "b": [1, 3]}));
    assert_eq!(paths(&expected, &found), ["nodes/NOa/ports/p/a", "nodes/NOa/ports/p/b/1"]);
    expected["volatile"] = json!(["nodes/NOa/ports/p/a", "nodes/NOa/ports/p/b/1"]);
    assert!(paths(&expected, &found).is_empty());
    for whole in ["nodes", "nodes/NOa", "nodes/NOa/ports", "nodes/NOa/ports/p"] {
        expected["volatile"] = json!([whole]);
        assert!(paths(&expected, &found).is_empty(), "{whole}");
    }
    expected["volatile"] = json!(["nodes/NOa/status"]);
    assert_eq!(paths(&expected, &found).len(), 2);
}

#[test]
fn children_are_compared_with_their_own_and_their_parents_exceptions() {
    let child = |status: &str, depth: usize| json!([{"event": {"eventName": "e"}, "depth": depth, "expect": {"nodes": {"NOa": {"status": status}}}}]);
    let found = json!({"children": child("error", 2)});
    let mut expected = json!({"children": child("completed", 1)});
    assert_eq!(paths(&expected, &found), ["children/0/depth", "children/0/nodes/NOa/status"]);
    for path in ["children/0/expect/nodes/NOa/status", "children/0/nodes/NOa/status", "children/0/expect/nodes/NOa"] {
        expected["volatile"] = json!([path]);
        assert_eq!(paths(&expected, &found), ["children/0/depth"], "{path}");
    }
    expected["volatile"] = json!([]);
    expected["children"][0]["expect"]["volatile"] = json!(["nodes"]);
    assert_eq!(paths(&expected, &found), ["children/0/depth"]);
    assert_eq!(paths(&expected, &json!({"children": []})), ["children"]);
}

#[test]
fn only_nodes_at_work_when_the_flow_failed_are_compared_loosely() {
    let run = |end: &[&str], order: &[&str], at_work: &[&str]| {
        let mut events = vec!["initialized->executing", "node:started"];
        events.extend(end);
        json!({"failed": true, "perNode": {"NOa": events}, "observedOrder": order, "atWork": at_work})
    };
    let ended = ["executing->completed", "node:completed"];
    let working = ["1 node:started NOa", "2 flow:failed"];
    let done = ["1 node:started NOa", "2 node:completed NOa", "3 flow:failed"];
    assert!(paths(&run(&[], &working, &[]), &run(&ended, &[], &[])).is_empty());
    assert!(paths(&run(&ended, &done, &[]), &run(&[], &[], &["NOa"])).is_empty());
    assert_eq!(paths(&run(&ended, &done, &[]), &run(&[], &[], &[])), ["perNode/NOa"]);
    let never = json!({"failed": true, "perNode": {}});
    assert_eq!(paths(&run(&[], &working, &[]), &never), ["perNode/NOa"]);
}

#[test]
fn requests_are_in_order_where_nodes_run_one_at_a_time() {
    let request = |url: &str, header: &str| json!({"method": "GET", "url": url, "headers": {"x": header}, "body": ""});
    let expected = json!({"httpRequests": [request("/a", "1"), request("/b", "2")]});
    let swapped = json!({"httpRequests": [request("/b", "2"), request("/a", "1")]});
    assert_eq!(compare(&expected, &swapped, &[], true).len(), 1);
    assert!(compare(&expected, &swapped, &[], false).is_empty());
    let mut other = json!({"httpRequests": [request("/a", "9"), request("/c", "2")], "volatile": []});
    assert_eq!(paths(&expected, &other), ["httpRequests"]);
    other["httpRequests"][1] = request("/b", "2");
    assert_eq!(paths(&expected, &other), ["httpRequests/GET /a /x"]);
    let mut expected = expected;
    expected["volatile"] = json!(["httpRequests/0/headers/x"]);
    assert!(paths(&expected, &other).is_empty());
}

#[test]
fn edges_are_sets_and_unknown_parts_are_left_alone() {
    let expected = json!({"edgesTransferred": ["ED2", "ED10"], "edgesFailed": [], "someday": {"more": 1}});
    let found = json!({"edgesTransferred": ["ED10", "ED2"], "edgesFailed": ["ED3"]});
    assert_eq!(paths(&expected, &found), ["edgesFailed"]);
}
