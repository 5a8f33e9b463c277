//! SIGHUP: the configuration is read again, from where it came, and taken over as far as that can be done while the worker runs.

use super::{Global, logs};
use crate::{
    config::{self, ConfigError, Settings},
    service::Service,
    worker::{Hangups, Reloaded, Reloader},
};

/// How `run` reloads.
pub(super) struct Reload {
    pub global: Global,
    pub flags: config::Overrides,
    pub reloader: Reloader,
    pub log: logs::Handle,
    pub service: Service,
}

/// The configuration can't be used.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Worker(#[from] crate::worker::ReloadError),
    #[error(transparent)]
    Level(#[from] logs::LevelError),
}

impl Reload {
    /// With each SIGHUP, for as long as this is polled.
    pub async fn obey(self, mut hangups: Hangups) {
        loop {
            hangups.next().await;
            tracing::info!(signal = "SIGHUP", "reading the configuration again");
            self.service.reloading().await;
            let refused = match self.once().await {
                Ok(reloaded) => {
                    tell(&reloaded);
                    None
                }
                Err(refused) => {
                    complain(&refused);
                    Some(refused.to_string())
                }
            };
            self.service.reloaded(refused).await;
        }
    }

    async fn once(&self) -> Result<Reloaded, Refused> {
        let (global, flags) = (self.global.clone(), self.flags.clone());
        let read = tokio::task::spawn_blocking(move || global.settings(flags)).await;
        let settings: Settings = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let reloaded = self.reloader.reload(settings).await?;
        if reloaded.changed.iter().any(|change| change.key == "log.level") {
            self.log.set_level(&reloaded.settings.log.level)?;
        }
        Ok(reloaded)
    }
}

fn tell(reloaded: &Reloaded) {
    for change in &reloaded.changed {
        tracing::info!(key = change.key, from = change.from, to = change.to, "changed");
    }
    for change in &reloaded.needs_restart {
        tracing::warn!(
            key = change.key,
            from = change.from,
            to = change.to,
            "can't change while the worker runs; it takes a restart"
        );
    }
    let (changed, needs_restart) = (reloaded.changed.len(), reloaded.needs_restart.len());
    tracing::info!(changed, needs_restart, "the configuration is in force");
}

fn complain(refused: &Refused) {
    let stays = "the configuration is refused, and the earlier one stays in force";
    match refused {
        Refused::Config(ConfigError::Invalid(problems)) => {
            for problem in problems {
                tracing::error!(key = problem.key, source = problem.source, error = problem.text, "{stays}");
            }
        }
        other => tracing::error!(error = %other, "{stays}"),
    }
}
