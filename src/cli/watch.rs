//! `--watch`: the same look again and again. In place on a terminal, one below the other elsewhere.

use std::{io::IsTerminal as _, time::Duration};

use clap::Args;

use super::output;

/// To the first place, and nothing of the last look is left.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";
/// Shortest pause between looks.
const SHORTEST: Duration = Duration::from_millis(200);

/// Whether to look again.
#[derive(Clone, Debug, Args)]
pub(super) struct Watch {
    /// Look again and again, with this pause; in place on a terminal
    #[arg(
        long,
        value_name = "PAUSE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        value_parser = humantime::parse_duration
    )]
    watch: Option<Duration>,
}

impl Watch {
    /// Whether it goes on after the first look.
    pub fn goes_on(&self) -> bool {
        self.watch.is_some()
    }

    /// Show what `look` gives, once or again and again, until stdout is closed. What it gives ends its lines by itself.
    ///
    /// # Errors
    /// That of the first look. Later ones are told on stderr, and it looks again: in place they stand below what was seen last;
    /// elsewhere each is told once, and what was seen last is not written again as if it were new.
    pub async fn show(&self, mut look: impl AsyncFnMut() -> anyhow::Result<String>) -> anyhow::Result<()> {
        let mut seen = Seen { text: look().await?, trouble: None };
        let in_place = self.watch.is_some() && std::io::stdout().is_terminal();
        let mut news = (Some(seen.text.clone()), None);
        loop {
            let (text, trouble) =
                if in_place { (Some(format!("{CLEAR}{}", seen.text)), seen.trouble.clone()) } else { news };
            let shown = text.is_none_or(output::text);
            trouble.iter().for_each(output::note);
            let Some(pause) = self.watch.filter(|_| shown) else { return Ok(()) };
            tokio::time::sleep(pause.max(SHORTEST)).await;
            news = seen.next(look().await);
        }
    }
}

/// The last look that succeeded, and what went wrong since.
struct Seen {
    text: String,
    trouble: Option<String>,
}

impl Seen {
    /// Take a look in; gives what is new of it: what was seen, and what is wrong.
    fn next(&mut self, look: anyhow::Result<String>) -> (Option<String>, Option<String>) {
        match look {
            Ok(text) => {
                self.trouble = None;
                self.text.clone_from(&text);
                (Some(text), None)
            }
            Err(error) => {
                let trouble = Some(format!("can't look: {error:#}; trying again"));
                let new = (self.trouble != trouble).then(|| trouble.clone()).flatten();
                self.trouble = trouble;
                (None, new)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_not_told_as_new_while_looks_fail() {
        let mut seen = Seen { text: "one".into(), trouble: None };
        let failed = || Err(anyhow::anyhow!("away"));
        let trouble = Some("can't look: away; trying again".to_owned());
        assert_eq!(seen.next(failed()), (None, trouble.clone()));
        assert_eq!(seen.next(failed()), (None, None), "told once");
        assert_eq!((seen.text.as_str(), &seen.trouble), ("one", &trouble), "in place it stays below");
        assert_eq!(seen.next(Ok("two".into())), (Some("two".into()), None));
        assert_eq!((seen.text.as_str(), &seen.trouble), ("two", &None));
    }
}
