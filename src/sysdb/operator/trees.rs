//! Executions and all that descend from them, level by level.

use std::collections::HashSet;

use super::{BATCH, Bulk, Changed, Operator, OperatorError, Outcome, Status};
use crate::postgres::Statements;

/// $1 parents, $2 most.
const CHILDREN: &str = "
SELECT w.workflow_uuid, w.status FROM unnest($1::text[]) AS p(id)
  JOIN {s}.workflow_status w ON w.parent_workflow_id = p.id LIMIT $2";

/// What has been found of trees so far.
struct Found {
    seen: HashSet<String>,
    most: usize,
}

impl Operator {
    /// As [`cancel`](Operator::cancel), and all that descend from them, in whatever state, as DBOS's clients do. Children that their
    /// parents start meanwhile are found, since a parent is cancelled before it is asked for its children. Those of one that
    /// stays as it is, because it is in none of the states `only`, stay as well.
    pub async fn cancel_trees(&self, ids: &[String], only: &[Status]) -> Bulk {
        let mut bulk = Bulk::default();
        bulk.failed = self.cancel_levels(ids, only, &mut bulk.changed).await.err();
        bulk
    }

    async fn cancel_levels(
        &self,
        ids: &[String],
        mut only: &[Status],
        changed: &mut Vec<Changed>,
    ) -> Result<(), OperatorError> {
        let mut found = Found { seen: ids.iter().cloned().collect(), most: self.tree.max(ids.len()) };
        let mut level = ids.to_vec();
        // The first whose children could not be taken in any more.
        let mut left = None;
        while !level.is_empty() {
            let mut below = Vec::new();
            for ids in level.chunks(BATCH) {
                let batch = self.cancel_batch(ids, only).await?;
                let cancelled = batch.iter().filter(|one| !matches!(one.outcome, Outcome::Changed | Outcome::Locked));
                let parents: Vec<String> = cancelled.map(|one| one.id.clone()).collect();
                changed.extend(batch);
                let (children, all) = self.children(&parents, &mut found).await?;
                below.extend(children.into_iter().map(|(id, _)| id));
                if !all && left.is_none() {
                    left = parents.into_iter().next();
                }
            }
            (level, only) = (below, &[]);
        }
        match left {
            Some(below) => Err(OperatorError::Deep { most: found.most, below }),
            None => Ok(()),
        }
    }

    /// All that descend from these, and are in one of these states now. Nothing below what is in another one is left out.
    ///
    /// # Errors
    /// [`OperatorError::Deep`], and those of the database.
    pub async fn descendants(&self, ids: &[String], only: &[Status]) -> Result<Vec<String>, OperatorError> {
        let mut found = Found { seen: ids.iter().cloned().collect(), most: self.tree.max(ids.len()) };
        let (mut level, mut descendants) = (ids.to_vec(), Vec::new());
        while !level.is_empty() {
            let mut below = Vec::new();
            for parents in level.chunks(BATCH) {
                let (children, all) = self.children(parents, &mut found).await?;
                if let (false, Some(first)) = (all, parents.first()) {
                    return Err(OperatorError::Deep { most: found.most, below: first.clone() });
                }
                for (id, status) in children {
                    if Status::of(&status).is_some_and(|status| only.contains(&status)) {
                        descendants.push(id.clone());
                    }
                    below.push(id);
                }
            }
            level = below;
        }
        Ok(descendants)
    }

    /// Children of these that haven't been seen yet, and their states; and whether they are all.
    async fn children(
        &self,
        parents: &[String],
        found: &mut Found,
    ) -> Result<(Vec<(String, String)>, bool), OperatorError> {
        let client = self.sysdb.client().await?;
        // Among as many as have been seen, and one, there is one that hasn't been.
        let limit = i64::try_from(found.most.saturating_add(1)).unwrap_or(i64::MAX);
        let (mut children, mut all) = (Vec::new(), true);
        for row in client.query(&self.sql(CHILDREN), &[&parents, &limit]).await? {
            let id: String = row.try_get(0)?;
            if found.seen.contains(&id) {
                continue;
            }
            if found.seen.len() >= found.most {
                all = false;
                break;
            }
            found.seen.insert(id.clone());
            children.push((id, row.try_get::<_, Option<String>>(1)?.unwrap_or_default()));
        }
        children.sort();
        Ok((children, all))
    }
}
