//! The text of a scrape: OpenMetrics, or the older format of Prometheus for who doesn't ask for that.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};

use super::{
    Histogram, Label, Metrics, Per, PoolUse, Scrape,
    names::{self, Family},
    process::Process,
};

/// A form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own, 0.0.4.
    Prometheus,
}

impl Format {
    /// What a client takes, by its header `Accept`.
    pub fn accepted(accept: Option<&str>) -> Format {
        let open = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if open { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// For the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Metrics {
    /// All of it as text.
    pub fn render(self: &std::sync::Arc<Metrics>, scrape: Scrape, format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Exposition { metrics: self.clone(), scrape, process: Process::read() }));
        let mut text = String::with_capacity(64 << 10);
        // Writing to a text can't fail; nor does the encoder.
        let _ = encode(&mut text, &registry);
        match format {
            Format::OpenMetrics => text,
            Format::Prometheus => older(&text),
        }
    }
}

#[derive(Debug)]
struct Exposition {
    metrics: std::sync::Arc<Metrics>,
    scrape: Scrape,
    process: Option<Process>,
}

/// One of the numbers of a pool.
type Read = fn(&PoolUse) -> usize;
type Labels<'a> = [(&'static str, &'a str)];

/// Writes one family after the other.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// The head of a family; what follows are its samples.
    fn family(&mut self, family: &'static Family) -> Result<Samples<'_>, fmt::Error> {
        let suffix = match family.kind {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            _ => "",
        };
        let name = family.name.strip_suffix(suffix).unwrap_or(family.name);
        Ok(Samples(self.0.encode_descriptor(name, family.help, None, family.kind)?))
    }

    fn gauge(&mut self, family: &'static Family, value: f64) -> fmt::Result {
        self.family(family)?.gauge(&[], value)
    }

    fn counter(&mut self, family: &'static Family, value: u64) -> fmt::Result {
        self.family(family)?.counter(&[], value)
    }

    fn info(&mut self, family: &'static Family, labels: &Labels<'_>) -> fmt::Result {
        let labels: Vec<(&str, &str)> = labels.to_vec();
        self.family(family)?.0.encode_info(&labels)
    }
}

struct Samples<'a>(MetricEncoder<'a>);

impl Samples<'_> {
    fn gauge(&mut self, labels: &Labels<'_>, value: f64) -> fmt::Result {
        self.labelled(labels, |sample| sample.encode_gauge(&value))
    }

    fn counter(&mut self, labels: &Labels<'_>, value: u64) -> fmt::Result {
        self.labelled(labels, |sample| sample.encode_counter::<NoLabelSet, u64, f64>(&value, None))
    }

    fn histogram(&mut self, labels: &Labels<'_>, histogram: &Histogram) -> fmt::Result {
        let (sum, buckets) = histogram.read();
        let count = buckets.iter().map(|(_, count)| count).sum();
        self.labelled(labels, |sample| sample.encode_histogram::<NoLabelSet>(sum, count, &buckets, None))
    }

    fn histograms<L: Label>(&mut self, name: &'static str, histograms: &Per<L, Histogram>) -> fmt::Result {
        histograms.iter().try_for_each(|(label, histogram)| self.histogram(&[(name, label)], histogram))
    }

    fn labelled(
        &mut self,
        labels: &Labels<'_>,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        if labels.is_empty() {
            return write(&mut self.0);
        }
        let labels: Vec<(&str, &str)> = labels.to_vec();
        write(&mut self.0.encode_family(&labels)?)
    }
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.process(&mut page)?;
        self.queue(&mut page)?;
        self.executions(&mut page)?;
        self.writer(&mut page)?;
        self.lease(&mut page)?;
        self.database(&mut page)
    }
}

impl Exposition {
    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let Exposition { metrics, scrape, process } = self;
        let worker = &metrics.worker;
        page.info(&names::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))])?;
        page.info(
            &names::WORKER_INFO,
            &[
                ("worker", &worker.id),
                ("application", &worker.application),
                ("application_version", &worker.application_version),
            ],
        )?;
        let mut phases = page.family(&names::PHASE)?;
        for phase in scrape.phases {
            phases.gauge(&[("phase", phase)], f64::from(u8::from(*phase == scrape.phase)))?;
        }
        page.gauge(&names::PHASE_SINCE, scrape.since)?;
        page.gauge(&names::READY, f64::from(u8::from(scrape.ready)))?;
        page.gauge(&names::DRAIN_TIMEOUT, scrape.drain_timeout.as_secs_f64())?;
        let Some(process) = process else { return Ok(()) };
        let mut cpu = page.family(&names::PROCESS_CPU)?;
        cpu.0.encode_counter::<NoLabelSet, f64, f64>(&process.cpu, None)?;
        page.gauge(&names::PROCESS_START, process.start)?;
        page.gauge(&names::PROCESS_RESIDENT, process.resident)?;
        page.gauge(&names::PROCESS_VIRTUAL, process.virtual_size)?;
        page.gauge(&names::PROCESS_THREADS, process.threads)?;
        for (family, value) in [(&names::PROCESS_FDS, process.open_fds), (&names::PROCESS_MAX_FDS, process.max_fds)] {
            value.map_or(Ok(()), |value| page.gauge(family, value))?;
        }
        Ok(())
    }

    fn queue(&self, page: &mut Page<'_>) -> fmt::Result {
        let Exposition { metrics, scrape, .. } = self;
        let mut depth = page.family(&names::QUEUE_DEPTH)?;
        for backlog in &scrape.backlog {
            depth.gauge(&[("queue", &backlog.queue)], backlog.depth as f64)?;
        }
        let mut age = page.family(&names::QUEUE_AGE)?;
        for backlog in &scrape.backlog {
            age.gauge(&[("queue", &backlog.queue)], backlog.oldest.as_secs_f64())?;
        }
        let mut paused = page.family(&names::QUEUE_PAUSED)?;
        for queue in &scrape.queues {
            paused.gauge(&[("queue", &queue.name)], f64::from(u8::from(queue.paused)))?;
        }
        let mut limit = page.family(&names::SLOTS_LIMIT)?;
        for slots in &scrape.slots {
            limit.gauge(&[("queue", &slots.queue)], slots.limit.into())?;
        }
        let mut in_use = page.family(&names::SLOTS_IN_USE)?;
        for slots in &scrape.slots {
            in_use.gauge(&[("queue", &slots.queue)], slots.in_use.into())?;
        }
        let mut free = page.family(&names::SLOTS_FREE)?;
        for slots in &scrape.slots {
            free.gauge(&[("queue", &slots.queue)], slots.free.into())?;
        }
        let mut waiting = page.family(&names::SLOTS_WAITING)?;
        for slots in &scrape.slots {
            waiting.gauge(&[("queue", &slots.queue)], slots.waiting as f64)?;
        }
        let mut claims = page.family(&names::CLAIMS)?;
        for (name, queue) in &metrics.queues {
            for (result, count) in queue.claims.iter() {
                claims.counter(&[("queue", name), ("result", result)], count.get())?;
            }
        }
        let mut rows = page.family(&names::CLAIM_ROWS)?;
        for (name, queue) in &metrics.queues {
            rows.counter(&[("queue", name)], queue.claimed.get())?;
        }
        let mut durations = page.family(&names::CLAIM_DURATION)?;
        for (name, queue) in &metrics.queues {
            durations.histogram(&[("queue", name)], &queue.claim_duration)?;
        }
        let mut waits = page.family(&names::QUEUE_WAIT)?;
        for (name, queue) in &metrics.queues {
            waits.histogram(&[("queue", name)], &queue.wait)?;
        }
        Ok(())
    }

    fn executions(&self, page: &mut Page<'_>) -> fmt::Result {
        let Exposition { metrics, scrape, .. } = self;
        page.gauge(&names::EXECUTIONS_RUNNING, scrape.running as f64)?;
        page.gauge(&names::EXECUTIONS_WAITING, scrape.waiting as f64)?;
        let mut ended = page.family(&names::ENDED)?;
        for (name, queue) in &metrics.queues {
            for (outcome, duration) in queue.ended.iter() {
                ended.counter(&[("queue", name), ("outcome", outcome)], duration.count())?;
            }
        }
        let mut durations = page.family(&names::DURATION)?;
        for (name, queue) in &metrics.queues {
            for (outcome, duration) in queue.ended.iter() {
                durations.histogram(&[("queue", name), ("outcome", outcome)], duration)?;
            }
        }
        page.family(&names::STEP_DURATION)?.histograms("step", &metrics.steps)?;
        let mut nodes = page.family(&names::NODES)?;
        for (name, category) in metrics.nodes.iter() {
            for (outcome, count) in category.turns.iter() {
                nodes.counter(&[("category", name), ("outcome", outcome)], count.get())?;
            }
        }
        let mut durations = page.family(&names::NODE_DURATION)?;
        for (name, category) in metrics.nodes.iter() {
            durations.histogram(&[("category", name)], &category.duration)?;
        }
        let mut recovered = page.family(&names::RECOVERED)?;
        for (cause, count) in metrics.recovered.iter() {
            recovered.counter(&[("cause", cause)], count.get())?;
        }
        let mut parked = page.family(&names::PARKED)?;
        metrics.parked.iter().try_for_each(|(reason, count)| parked.counter(&[("reason", reason)], count.get()))
    }

    fn writer(&self, page: &mut Page<'_>) -> fmt::Result {
        let writer = &self.metrics.writer;
        page.family(&names::CHECKPOINT_WAIT)?.histogram(&[], &writer.wait)?;
        page.family(&names::COMMIT_DURATION)?.histogram(&[], &writer.duration)?;
        page.family(&names::COMMIT_SIZE)?.histogram(&[], &writer.size)?;
        page.counter(&names::COMMIT_RETRIES, writer.retries.get())?;
        page.counter(&names::PUT_OFF, writer.put_off.get())?;
        page.counter(&names::REFUSED, writer.refused.get())?;
        page.family(&names::EVENT_DELAY)?.histogram(&[], &writer.event_delay)
    }

    fn lease(&self, page: &mut Page<'_>) -> fmt::Result {
        let Exposition { metrics, scrape, .. } = self;
        page.gauge(&names::LEASE_LEFT, scrape.lease.as_secs_f64())?;
        page.gauge(&names::LEASE_LENGTH, metrics.worker.lease)?;
        let mut renewals = page.family(&names::LEASE_RENEWALS)?;
        for (result, count) in metrics.renewals.iter() {
            renewals.counter(&[("result", result)], count.get())?;
        }
        page.counter(&names::LEASE_LOSSES, metrics.lease_losses.get())
    }

    fn database(&self, page: &mut Page<'_>) -> fmt::Result {
        let Exposition { metrics, scrape, .. } = self;
        page.gauge(&names::DATABASE_UP, f64::from(u8::from(scrape.database)))?;
        page.counter(&names::DATABASE_OUTAGES, metrics.outages.get())?;
        let mut opened = page.family(&names::CONNECTIONS_OPENED)?;
        for (purpose, connections) in metrics.connections.iter() {
            opened.counter(&[("purpose", purpose)], connections.opened.get())?;
        }
        let mut failed = page.family(&names::CONNECTIONS_FAILED)?;
        for (purpose, connections) in metrics.connections.iter() {
            failed.counter(&[("purpose", purpose)], connections.failed.get())?;
        }
        let uses: [(&'static Family, Read); 4] = [
            (&names::POOL_LIMIT, |pool| pool.limit),
            (&names::POOL_IN_USE, |pool| pool.in_use),
            (&names::POOL_IDLE, |pool| pool.idle),
            (&names::POOL_WAITING, |pool| pool.waiting),
        ];
        for (family, read) in uses {
            let mut samples = page.family(family)?;
            for pool in &scrape.pools {
                samples.gauge(&[("pool", pool.purpose)], read(pool) as f64)?;
            }
        }
        let mut exports = page.family(&names::TRACE_EXPORTS)?;
        for (result, count) in metrics.exports.iter() {
            exports.counter(&[("result", result)], count.get())?;
        }
        page.counter(&names::SPANS_DROPPED, metrics.spans_dropped.get())?;
        let mut waits = page.family(&names::POOL_WAIT)?;
        for pool in &scrape.pools {
            if let Some((purpose, connections)) = metrics.connections.iter().find(|(of, _)| *of == pool.purpose) {
                waits.histogram(&[("pool", purpose)], &connections.wait)?;
            }
        }
        Ok(())
    }
}

/// OpenMetrics in the older form: there, a counter's family is named with `_total`, an info is a gauge, and nothing marks
/// the end.
fn older(text: &str) -> String {
    let mut older = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            help = about.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|about| about.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            let help = help.take().map_or("", |(_, help)| help);
            older.push_str(&format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with("# ") {
            older.push_str(line);
            older.push('\n');
        }
    }
    older
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::metrics::{Backlog, ClaimResult, Worker};

    #[test]
    fn both_forms_say_the_same_and_each_keeps_its_rules() {
        let worker = Worker { id: "w \"1\"\n".into(), ..Worker::default() };
        let metrics = Arc::new(Metrics::new(worker, ["q"], ["math"]));
        let queue = metrics.queue("q").unwrap();
        queue.claims.of(ClaimResult::Empty).add(3);
        queue.claim_duration.took(Duration::from_millis(2));
        let backlog = vec![Backlog { queue: "q".into(), depth: 7, oldest: Duration::from_millis(1500) }];
        let scrape = Scrape { phase: "running", phases: &["starting", "running"], backlog, ..Scrape::default() };
        let open = metrics.render(scrape.clone(), Format::OpenMetrics);
        assert!(open.ends_with("# EOF\n"), "{open}");
        for line in [
            "# TYPE fireflow_claims counter",
            "fireflow_claims_total{queue=\"q\",result=\"empty\"} 3",
            "# TYPE fireflow_build info",
            "fireflow_phase{phase=\"running\"} 1.0",
            "fireflow_phase{phase=\"starting\"} 0.0",
            "fireflow_queue_depth{queue=\"q\"} 7.0",
            "fireflow_queue_oldest_age_seconds{queue=\"q\"} 1.5",
            "fireflow_claim_duration_seconds_bucket{le=\"0.0025\",queue=\"q\"} 1",
            "fireflow_claim_duration_seconds_bucket{le=\"+Inf\",queue=\"q\"} 1",
            "fireflow_worker_info{worker=\"w \\\"1\\\"\\n\",application=\"\",application_version=\"\"} 1",
        ] {
            assert!(open.lines().any(|found| found == line), "{line} in {open}");
        }
        let older = metrics.render(scrape, Format::Prometheus);
        for line in ["# TYPE fireflow_claims_total counter", "# TYPE fireflow_build_info gauge"] {
            assert!(older.lines().any(|found| found == line), "{line} in {older}");
        }
        assert!(!older.contains("# EOF") && !older.contains(" info\n"), "{older}");
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(samples(&open), samples(&older));
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
        assert_eq!(Format::accepted(Some("*/*")), Format::Prometheus);
        assert_eq!(Format::accepted(None), Format::Prometheus);
    }
}
