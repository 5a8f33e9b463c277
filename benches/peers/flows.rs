//! Whole flows with all their events: chains of 1, 10 and 100 nodes.

use serde_json::json;

use super::{
    contender, measure, process,
    report::{Figures, Report},
    server::Stage,
    shapes::Shape,
};

pub async fn measure(stage: &mut Stage, scale: usize, report: &mut Report) {
    let poll = stage.contender.default_poll();
    for (nodes, count) in [(1, 20_000), (10, 6_000), (100, 800)] {
        let flow = format!("chain-{nodes}");
        let pattern = format!("pattern-{flow}");
        contender::store(&stage.sql, &flow, &Shape::Chain.flow(nodes, &json!({"n": 1}))).await;
        let running = stage.run(5, stage.contender.fastest_poll()).await;
        contender::enqueue(&stage.sql, &pattern, &flow).await;
        measure::until_done(stage, std::time::Duration::from_millis(20)).await;
        running.kill().await;
        for slots in [100, 5] {
            let mut runs = Vec::new();
            for round in 0..3 {
                let prefix = format!("flow{nodes}-{slots}-{round}");
                runs.push(
                    measure::one_run(stage, (1, slots, &["bench"]), poll, &pattern, &prefix, (count / scale).max(20))
                        .await,
                );
                measure::clear(stage).await;
            }
            report.add(
                stage.contender,
                &format!("flows of {nodes} nodes, {slots} slots, defaults"),
                Figures::median(runs),
            );
        }
    }
    for poll in stage.contender.polls() {
        let name = format!("latency of 10 nodes, {}", poll.name);
        report.add(stage.contender, &name, measure::latency(stage, "pattern-chain-10", poll, scale).await);
    }
    let running = stage.run(5, poll).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    report.add(stage.contender, "idle memory", Figures::of("resident MiB", process::memory(running.pid()).1));
    running.kill().await;
}
