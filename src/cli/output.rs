//! What goes to stdout: text or a table for people, JSON for scripts.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Write a line to stdout. A closed pipe is not an error: the reader has seen enough.
pub(super) fn line(text: impl AsRef<str>) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{}", shown(text.as_ref(), stdout.is_terminal()));
}

/// A text as a terminal may have it: without control characters, but for the ends of lines, tabs, and the colours of ours. What
/// comes from a database could otherwise move the cursor, change the title, or answer for the user. Scripts get it as it is.
pub(super) fn shown(text: &str, terminal: bool) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if !terminal || text.chars().all(harmless) {
        return text.into();
    }
    let (mut clean, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(next) = rest.chars().next() {
        if let Some(colour) = colour(rest) {
            clean.push_str(colour);
            rest = &rest[colour.len()..];
            continue;
        }
        clean.push(if harmless(next) { next } else { char::REPLACEMENT_CHARACTER });
        rest = &rest[next.len_utf8()..];
    }
    clean.into()
}

/// The colour that a text begins with: foregrounds, bold, and back to normal.
fn colour(text: &str) -> Option<&str> {
    let (codes, _) = text.strip_prefix("\u{1b}[")?.split_once('m')?;
    let known = |code: &str| matches!(code, "0" | "1" | "2" | "31" | "32" | "33" | "34" | "35" | "36");
    codes.split(';').all(known).then(|| &text[..codes.len() + 3])
}

/// JSON for people: what JSON itself lets through of control characters is escaped.
pub(super) fn escaped(json: String) -> String {
    let control = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    if !json.contains(control) {
        return json;
    }
    json.chars().fold(String::with_capacity(json.len()), |mut escaped, c| {
        match control(c) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
        escaped
    })
}

/// Write a text to stdout, now. False when nobody reads it any more.
pub(super) fn text(text: impl AsRef<str>) -> bool {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_ref().as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// A value as one line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> anyhow::Result<String> {
    let line = serde_json::to_string(value)?;
    Ok(if std::io::stdout().is_terminal() { escaped(line) } else { line } + "\n")
}

/// Talk to a person, on stderr.
pub(super) fn note(text: impl AsRef<str>) {
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "{}", shown(text.as_ref(), stderr.is_terminal()));
}

/// Write a value as JSON to stdout: indented on a terminal, one line otherwise.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    text(json_text(value)?);
    Ok(())
}

/// What [`json`] writes.
pub(super) fn json_text(value: &impl Serialize) -> anyhow::Result<String> {
    let pretty = std::io::stdout().is_terminal();
    Ok(if pretty { escaped(serde_json::to_string_pretty(value)?) } else { serde_json::to_string(value)? } + "\n")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters_but_our_colours() {
        let evil = "id\u{1b}]0;title\u{7}\u{9b}2J\u{1b}[2J\r\u{7f}x\n\tend";
        assert_eq!(shown(evil, true), "id\u{fffd}]0;title\u{fffd}\u{fffd}2J\u{fffd}[2J\u{fffd}\u{fffd}x\n\tend");
        assert_eq!(shown(evil, false), evil, "a script gets it as it is");
        for ours in ["\u{1b}[1;31merror:\u{1b}[0m plain", "\u{1b}[32mcompleted\u{1b}[0m"] {
            assert_eq!(shown(ours, true), ours);
        }
        assert_eq!(shown("\u{1b}[8mhidden\u{1b}[0m", true), "\u{fffd}[8mhidden\u{1b}[0m");
    }

    #[test]
    fn json_for_people_is_printable() {
        let text = serde_json::to_string("a\u{1b}\u{9b}2J\u{7f}ä").unwrap();
        assert_eq!(escaped(text.clone()), r#""a\u001b\u009b2J\u007fä""#);
        assert_eq!(serde_json::from_str::<String>(&escaped(text)).unwrap(), "a\u{1b}\u{9b}2J\u{7f}ä");
    }
}
