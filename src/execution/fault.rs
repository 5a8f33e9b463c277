//! Where a failed execution went wrong, by its recorded steps: from there on it can be tried again.

use super::WORKED;

/// Names of the steps that tell where it was.
pub const MARKS: [&str; 5] = [WORKED, "DBOS.recv", "updateToFailed", "updateToStopped", "updateToCompleted"];

/// The first step to forget, so that a failed execution does again what failed; `i32::MAX` where nothing has to be forgotten. Each
/// step is its number, its name, whether it has a result, and whether it failed; only those named in [`MARKS`] matter.
pub fn step_at_fault(steps: &[(i32, String, bool, bool)]) -> i32 {
    let find = |fits: &dyn Fn(&str, bool, bool) -> bool| {
        steps.iter().find(|(_, name, output, error)| fits(name, *output, *error)).map(|(number, ..)| *number)
    };
    // The flow itself.
    find(&|name, _, error| name == WORKED && error)
        // No start signal came in time.
        .or_else(|| find(&|name, output, _| name == "DBOS.recv" && !output))
        // Before the flow or after it; failed children don't fail their parent.
        .or_else(|| find(&|name, _, _| matches!(name, "updateToFailed" | "updateToStopped" | "updateToCompleted")))
        .unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_done_again_and_what_came_before_it_is_not() {
        let steps = |names: &[&str]| {
            let step = |(number, name): (usize, &&str)| {
                let (name, error) = name.strip_prefix('!').map_or((*name, false), |name| (name, true));
                let (name, output) = name.strip_prefix('-').map_or((name, !error), |name| (name, false));
                (i32::try_from(number).unwrap(), name.to_owned(), output, error)
            };
            names.iter().enumerate().map(step).collect::<Vec<_>>()
        };
        let begun = ["-DBOS.writeStream", "updateToRunning"];
        let at_fault = |more: &[&str]| step_at_fault(&steps(&[&begun, more].concat()));
        assert_eq!(at_fault(&["!executeFlowAtomic", "updateToFailed"]), 2);
        assert_eq!(at_fault(&["!executeFlowAtomic"]), 2, "it died before the end was recorded");
        let children = ["executeFlowAtomic", "-executeFireFlow", "!DBOS.getResult"];
        assert_eq!(at_fault(&[&children[..], &["updateToStopped"]].concat()), 5);
        assert_eq!(at_fault(&children), i32::MAX);
        assert_eq!(step_at_fault(&steps(&["updateToFailed"])), 0, "a task that can't be read");
        let waited = ["-DBOS.writeStream", "-DBOS.recv", "DBOS.sleep", "updateToFailed"];
        assert_eq!(step_at_fault(&steps(&waited)), 1);
        assert_eq!(step_at_fault(&[]), i32::MAX);
    }
}
