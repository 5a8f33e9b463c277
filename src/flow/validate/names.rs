//! Names that were meant, and lists of names that stay short.

/// Names of a list that are shown.
const SHOWN: usize = 8;

/// More candidates are not looked at: each costs a comparison.
const COMPARED: usize = 5000;

/// The name that was probably meant.
pub(super) fn meant<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 200;
    if wrong.is_empty() || wrong.len() > LONGEST {
        return None;
    }
    let lower = wrong.to_lowercase();
    let known = known.into_iter().take(COMPARED).filter(|name| name.len() <= LONGEST);
    let rated = known.map(|name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), name));
    let best = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.88).then_some(best.1)
}

/// `a, b, c and 4 more`.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What there is instead of a wrong name.
pub(super) fn choices<'a>(what: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let names = listed(known);
    if names.is_empty() { format!("there are no {what}") } else { format!("{what}: {names}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_meant_and_far_ones_listed() {
        let known = ["variables", "template", "renderedText"];
        assert_eq!(meant("varables", known), Some("variables"));
        assert_eq!(meant("TEMPLATE", known), Some("template"));
        assert_eq!(meant("frob", known), None);
        assert_eq!(choices("ports", known), "ports: variables, template, renderedText");
        assert_eq!(choices("ports", []), "there are no ports");
        let many: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
        assert!(listed(many.iter().map(String::as_str)).ends_with("n7 and 12 more"));
    }
}
