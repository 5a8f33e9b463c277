//! Lines with fields: what the line says, and what is known of where it was said. Every line of an execution has the
//! execution, its flow, the attempt and the worker beside its own fields, and one of a node the node.

use serde_json::{Map, Value as Json};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::{fields::Fields, journal::Journal, lines};

/// A line.
pub(super) struct Record {
    /// When.
    pub time: jiff::Timestamp,
    /// How bad.
    pub level: Level,
    /// Which part of the program.
    pub target: String,
    /// What.
    pub message: String,
    /// The line's own fields, and those of the spans around it; the inner ones win.
    pub fields: Map<String, Json>,
}

impl Record {
    /// As one line of JSON, ended.
    pub fn json(self) -> String {
        let mut line = Map::new();
        line.insert("timestamp".into(), format!("{:.6}", self.time).into());
        line.insert("level".into(), self.level.as_str().into());
        line.insert("message".into(), self.message.into());
        line.insert("target".into(), self.target.into());
        for (name, value) in self.fields {
            // A field never stands in for what every line has.
            let name = if line.contains_key(&name) { format!("field_{name}") } else { name };
            line.insert(name, value);
        }
        let mut text = Json::Object(line).to_string();
        text.push('\n');
        text
    }
}

/// Where lines go.
enum Sink {
    Json,
    Journal(Journal),
}

/// Gathers fields, and sends lines on.
pub(super) struct Structured(Sink);

impl Structured {
    /// JSON on stderr.
    pub fn json() -> Structured {
        Structured(Sink::Json)
    }

    /// The journal.
    pub fn journal(journal: Journal) -> Structured {
        Structured(Sink::Journal(journal))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Structured {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let record = gathered(event, &context);
        match &self.0 {
            Sink::Json => lines::json(&record.json()),
            Sink::Journal(journal) => journal.write(&record),
        }
    }
}

fn gathered<S: Subscriber + for<'a> LookupSpan<'a>>(event: &Event<'_>, context: &Context<'_, S>) -> Record {
    let mut said = Fields::default();
    event.record(&mut said);
    let mut fields = said.values;
    // From the inside out: what is there stays.
    for span in context.event_scope(event).into_iter().flatten() {
        if let Some(around) = span.extensions().get::<Fields>() {
            for (name, value) in &around.values {
                if !fields.contains_key(name) {
                    fields.insert(name.clone(), value.clone());
                }
            }
        }
    }
    let about = event.metadata();
    Record {
        time: jiff::Timestamp::now(),
        level: *about.level(),
        target: said.target.unwrap_or_else(|| about.target().to_owned()),
        message: said.message,
        fields,
    }
}

/// A field's value as people read it.
pub(super) fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The whole line as people read it: `message name=value ...`.
pub(super) fn text(record: &Record) -> String {
    let mut text = record.message.clone();
    for (name, value) in &record.fields {
        text.push_str(&format!(" {name}={}", plain(value)));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What a line would be, instead of writing it.
    struct Kept(Structured, Arc<Mutex<Vec<Json>>>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Kept {
        fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
            self.0.on_new_span(attributes, id, context);
        }

        fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
            self.0.on_record(id, values, context);
        }

        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            let record = gathered(event, &context);
            self.1.lock().unwrap().push(serde_json::from_str(&record.json()).unwrap());
        }
    }

    #[test]
    fn a_line_has_its_own_fields_and_those_of_the_spans_around_it() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Kept(Structured::json(), kept.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let execution =
                tracing::error_span!("execution", execution = "EX1", flow = tracing::field::Empty, attempt = 2);
            execution.in_scope(|| {
                tracing::Span::current().record("flow", "F1");
                tracing::error_span!("node", node = %"n1", attempt = 3).in_scope(|| {
                    tracing::warn!(error = %"it broke", level = 7, "trying {}", "again");
                });
            });
            tracing::info!("outside");
        });
        let lines = std::mem::take(&mut *kept.lock().unwrap());
        let mut first = lines[0].clone();
        let time = first.as_object_mut().unwrap().shift_remove("timestamp").unwrap();
        assert!(time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}");
        assert_eq!(
            first,
            json!({
                "level": "WARN", "message": "trying again", "target": module_path!(), "error": "it broke",
                "field_level": 7, "execution": "EX1", "flow": "F1", "attempt": 3, "node": "n1",
            })
        );
        assert_eq!(lines[1].as_object().unwrap().len(), 4, "{:?}", lines[1]);
    }
}
