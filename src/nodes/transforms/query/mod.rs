//! FilterArrayLuceneNode: the items of a list that a query in Lucene's manner finds.
//!
//! The original takes its language from the library lucene-kit, whose grammar has edges of its own: a single space
//! between two words means *or*, more than two words are one text, an escaped letter keeps its backslash. Stored queries
//! were tried out with it, so the edges are kept; what the library was seen to find is in the tests.

mod calls;
mod collate;
mod lexis;
mod parse;
mod search;
mod terms;
#[cfg(test)]
mod tests;
mod tree;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{LIST, LIST_OUT};
use crate::flow::Value;
use crate::flow::number::trim;
use crate::nodes::port::{TEXT, input, output};
use crate::nodes::{Behaviour, NodeError, NodeRun, NodeType};

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[NodeType {
    name: "FilterArrayLuceneNode",
    category: "transforms",
    about: "The items of a list that a query finds: words, fields, wildcards, ranges, AND, OR, NOT",
    ports: const { &[input("inputArray", LIST), input("query", TEXT), output("filteredArray", LIST_OUT)] },
    behaviour: Behaviour::Async(|run| Box::pin(filter(run))),
    disabled_auto_execution: false,
}];

/// What is wrong with a query, or kept it from an end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum QueryError {
    #[error("`{0}` can't be read; quote texts that hold special characters")]
    Syntax(String),
    #[error("it ends too early: something is not closed, or a part is missing")]
    End,
    #[error("it is {0} characters long; at most {max} are taken", max = parse::MAX_LENGTH)]
    Long(usize),
    #[error("its parentheses nest too deeply")]
    Deep,
    #[error("the variable {0} has no value; variables can't be used in ranges")]
    Variable(String),
    #[error("`{0}` is no name of a variable")]
    VariableName(String),
    #[error("it calls the function {0}(); there are no functions")]
    Function(String),
    #[error("{0}")]
    Regexp(String),
    #[error("stopped")]
    Stopped,
}

async fn filter(run: &mut NodeRun) -> Result<(), NodeError> {
    let Value::Array(items) = run.get("inputArray").clone() else {
        return Err(NodeError::new("port `inputArray` holds no list; connect it to a list"));
    };
    let query = run.text("query");
    if trim(&query).is_empty() {
        run.set("filteredArray", Vec::clone(&items));
        return Ok(());
    }
    let cancel = run.cancelled().clone();
    // A thread of its own kind: many items and a long query take a while.
    let work = tokio::task::spawn_blocking(move || find(&query, &items, &cancel));
    let found = work.await.map_err(|error| NodeError::new(format!("the query's thread ended: {error}")))?;
    let found = found.map_err(|error| NodeError::new(format!("port `query`: {error}")))?;
    run.set("filteredArray", found);
    Ok(())
}

/// The items that a query finds.
fn find(query: &str, items: &Arc<Vec<Value>>, cancel: &CancellationToken) -> Result<Vec<Value>, QueryError> {
    // Ends of lines around a query are none of its text.
    let query = parse::parse(query.trim_matches(['\r', '\n']), cancel)?;
    let found = search::search(&query, items, cancel)?;
    Ok(found.into_iter().map(|index| items[index].clone()).collect())
}
