//! What changes many things at once is asked for once more.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::bail;

/// Ask on the terminal, unless `yes` was said before. False when the answer is no.
///
/// # Errors
/// There is nobody to ask.
pub(super) fn confirm(what: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        bail!("{what}? There is no terminal to ask on; --yes does it without asking");
    }
    let _ = write!(stderr, "{}? [y/N] ", super::output::shown(what, true));
    let _ = stderr.flush();
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
