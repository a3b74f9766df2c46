//! The figures of all rounds as a table, each the median of its rounds.

/// One service under one load. Times are of one request; there is no CPU time where the system does not tell it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sample {
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) service_us: Option<f64>,
    pub(crate) postgres_us: Option<f64>,
}

const TITLES: [&str; 6] = [
    "requests/s",
    "p50 ms",
    "p99 ms",
    "CPU of service µs",
    "CPU of PostgreSQL µs",
    "sum µs",
];
const DECIMALS: [usize; 6] = [0, 2, 2, 1, 1, 1];

impl Sample {
    /// In the order of the titles.
    fn columns(&self) -> [Option<f64>; 6] {
        let (service, postgres) = (self.service_us, self.postgres_us);
        let sum = service
            .zip(postgres)
            .map(|(service, postgres)| service + postgres);
        [
            Some(self.rate),
            Some(self.p50_ms),
            Some(self.p99_ms),
            service,
            postgres,
            sum,
        ]
    }
}

/// Markdown: one row for each service, and then one for the ratio of the first to each other.
pub(crate) fn table<const N: usize>(names: &[&str; N], rounds: &[[Sample; N]]) -> String {
    let mut rows = vec![
        format!("| service | {} |", TITLES.join(" | ")),
        format!("|---|{}", "--:|".repeat(TITLES.len())),
    ];
    for (index, name) in names.iter().enumerate() {
        rows.push(row(name, DECIMALS, |column| {
            medians(rounds, |round| round[index].columns()[column])
        }));
    }
    for (index, name) in names.iter().enumerate().skip(1) {
        rows.push(row(&format!("{} / {name}", names[0]), [2; 6], |column| {
            medians(rounds, |round| {
                ratio(round[0].columns()[column], round[index].columns()[column])
            })
        }));
    }
    rows.join("\n")
}

fn row(name: &str, decimals: [usize; 6], value: impl Fn(usize) -> Option<f64>) -> String {
    let cells = decimals.iter().enumerate().map(|(column, decimals)| {
        value(column).map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
    });
    format!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "))
}

/// The median of what each round gives; `None` if one of them gives nothing.
fn medians<R>(rounds: &[R], value: impl Fn(&R) -> Option<f64>) -> Option<f64> {
    median(rounds.iter().map(value).collect::<Option<_>>()?)
}

fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    let theirs = theirs.filter(|theirs| *theirs > 0.0)?;
    Some(ours? / theirs)
}

/// Of an even number of values: the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = values.len().checked_sub(1)? / 2;
    Some((values[lower] + values[upper]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 9.0, 3.0]), Some(3.5));
        assert_eq!(median(vec![]), None);
    }

    fn sample(rate: f64, service_us: Option<f64>) -> Sample {
        Sample {
            rate,
            p50_ms: 2.0,
            p99_ms: 5.0,
            service_us,
            postgres_us: Some(20.0),
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios() {
        // The third round was a slow one for both.
        let rounds = [(300.0, 100.0), (200.0, 100.0), (20.0, 10.0)];
        let rounds =
            rounds.map(|(ours, theirs)| [sample(ours, Some(25.0)), sample(theirs, Some(50.0))]);
        assert_eq!(
            table(&["ours", "other"], &rounds),
            "\
| service | requests/s | p50 ms | p99 ms | CPU of service µs | CPU of PostgreSQL µs | sum µs |
|---|--:|--:|--:|--:|--:|--:|
| ours | 200 | 2.00 | 5.00 | 25.0 | 20.0 | 45.0 |
| other | 100 | 2.00 | 5.00 | 50.0 | 20.0 | 70.0 |
| ours / other | 2.00 | 1.00 | 1.00 | 0.50 | 1.00 | 0.64 |"
        );
    }

    #[test]
    fn without_cpu_time_its_columns_are_empty() {
        let rounds = [[sample(2.0, None), sample(1.0, None)]];
        let table = table(&["ours", "other"], &rounds);
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(rows[0], "| ours | 2 | 2.00 | 5.00 | - | 20.0 | - |");
        assert_eq!(
            rows[2],
            "| ours / other | 2.00 | 1.00 | 1.00 | - | 1.00 | - |"
        );
    }
}
