//! Where executions go that are put on a queue once more.

use clap::Args;

use crate::cli::{access::Access, exit::usage};

/// A queue by name.
#[derive(Debug, Args)]
pub(super) struct Destination {
    /// Put them on this queue
    #[arg(long = "to-queue", value_name = "NAME")]
    to_queue: Option<String>,
    /// Also on a queue that nobody knows
    #[arg(long, requires = "to_queue")]
    force: bool,
}

impl Destination {
    /// The queue that is named, if one is.
    ///
    /// # Errors
    /// One from which nobody would take them; and those of the database.
    pub async fn queue(&self, access: &Access) -> anyhow::Result<Option<&str>> {
        let Some(queue) = self.to_queue.as_deref() else { return Ok(None) };
        if queue.is_empty() || queue.contains('\0') {
            return Err(usage("--to-queue: this can't be a queue's name"));
        }
        if !self.force
            && !access.queues().iter().any(|name| name == queue)
            && !access.operator.knows_queue(queue).await?
        {
            return Err(usage(format!(
                "there is no queue \"{queue}\": it is not configured, registered or served, and nothing is on it; \
                 `fireflow-worker queue show` lists the queues there are, --force uses it all the same"
            )));
        }
        Ok(Some(queue))
    }
}
