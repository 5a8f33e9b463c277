//! Tables of figures, and ratios to the worker's.

use super::contender::Contender;

/// Named figures in their order.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<(String, f64)>);

impl Figures {
    pub fn of(name: &str, value: f64) -> Figures {
        Figures(vec![(name.to_owned(), value)])
    }

    pub fn set(&mut self, name: &str, value: f64) {
        self.0.push((name.to_owned(), value));
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| known == name).map(|&(_, value)| value)
    }

    /// Of each figure the median over the runs.
    pub fn median(runs: Vec<Figures>) -> Figures {
        let mut median = Figures::default();
        for (name, _) in &runs[0].0 {
            let mut values: Vec<f64> = runs.iter().filter_map(|run| run.get(name)).collect();
            values.sort_by(f64::total_cmp);
            median.set(name, values[values.len() / 2]);
        }
        median
    }
}

#[derive(Default)]
pub struct Report {
    measures: Vec<(String, Vec<(String, Figures)>)>,
}

impl Report {
    pub fn add(&mut self, contender: Contender, measure: &str, figures: Figures) {
        self.add_named(contender.name(), measure, figures);
    }

    pub fn add_named(&mut self, who: &str, measure: &str, figures: Figures) {
        eprintln!("  {who}, {measure}: {:?}", figures.0);
        match self.measures.iter_mut().find(|(known, _)| known == measure) {
            Some((_, rows)) => rows.push((who.to_owned(), figures)),
            None => self.measures.push((measure.to_owned(), vec![(who.to_owned(), figures)])),
        }
    }

    /// A table for each measure: a line for each figure, and in brackets how many times ours a value is.
    pub fn print(&self) {
        for (measure, rows) in &self.measures {
            println!("\n{measure}\n");
            let names: Vec<&str> = rows.iter().map(|(who, _)| who.as_str()).collect();
            println!("| | {} |", names.join(" | "));
            println!("|---|{}", "---|".repeat(names.len()));
            let first = &rows[0].1;
            for (figure, ours) in &first.0 {
                let cells: Vec<String> = rows
                    .iter()
                    .map(|(who, figures)| match figures.get(figure) {
                        None => "-".to_owned(),
                        Some(value) if who == "ours" || *ours == 0.0 || rows[0].0 != "ours" => short(value),
                        Some(value) => format!("{} ({} ×)", short(value), short(value / ours)),
                    })
                    .collect();
                println!("| {figure} | {} |", cells.join(" | "));
            }
        }
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
