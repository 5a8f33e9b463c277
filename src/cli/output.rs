//! What goes to stdout: text or a table for people, JSON for scripts.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Write a line to stdout. A closed pipe is not an error: the reader has seen enough.
pub(super) fn line(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

/// Write a text to stdout, now. False when nobody reads it any more.
pub(super) fn text(text: impl AsRef<str>) -> bool {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_ref().as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// A value as one line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// Talk to a person, on stderr.
pub(super) fn note(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// Write a value as JSON to stdout: indented on a terminal, one line otherwise.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    text(json_text(value)?);
    Ok(())
}

/// What [`json`] writes.
pub(super) fn json_text(value: &impl Serialize) -> anyhow::Result<String> {
    let pretty = std::io::stdout().is_terminal();
    Ok(if pretty { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? } + "\n")
}

/// Write a text to a file, or to stdout. A file that holds something else is replaced only when asked for.
pub(super) fn file(path: Option<&Path>, text: &str, replace: bool) -> anyhow::Result<()> {
    let Some(path) = path else {
        let _ = std::io::stdout().write_all(text.as_bytes());
        return Ok(());
    };
    let shown = path.display();
    if !replace && path.exists() && std::fs::read(path).ok().as_deref() != Some(text.as_bytes()) {
        anyhow::bail!("{shown} is there already; --force replaces it");
    }
    std::fs::write(path, text).with_context(|| format!("{shown}: can't write"))
}

/// Write a table to stdout.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for text in table.lines() {
        line(text.trim_end());
    }
}

/// What a word says, for its colour.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tone {
    Good,
    Odd,
    Bad,
}

/// A word of stdout in its colour: on terminals only, and not where `NO_COLOR` is set.
pub(super) fn paint(word: &str, tone: Tone) -> String {
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let code = match tone {
        _ if !coloured => return word.to_owned(),
        Tone::Good => 32,
        Tone::Odd => 33,
        Tone::Bad => 31,
    };
    format!("\u{1b}[{code}m{word}\u{1b}[0m")
}
