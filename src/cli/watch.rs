//! `--watch`: the same look again and again. In place on a terminal, one below the other elsewhere.

use std::{io::IsTerminal as _, time::Duration};

use clap::Args;

use super::output;

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
    /// That of the first look. Later ones are told on stderr, and it looks again.
    pub async fn show(&self, mut look: impl AsyncFnMut() -> anyhow::Result<String>) -> anyhow::Result<()> {
        let mut text = look().await?;
        let in_place = self.watch.is_some() && std::io::stdout().is_terminal();
        loop {
            // To the first place, and nothing of the last look is left.
            let clear = if in_place { "\u{1b}[H\u{1b}[2J\u{1b}[3J" } else { "" };
            let shown = output::text(format!("{clear}{text}"));
            let Some(pause) = self.watch.filter(|_| shown) else { return Ok(()) };
            tokio::time::sleep(pause.max(SHORTEST)).await;
            match look().await {
                Ok(next) => text = next,
                Err(error) => output::note(format!("can't look: {error:#}; trying again")),
            }
        }
    }
}
