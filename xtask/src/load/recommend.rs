//! Which `connection_limit` to take, from what was measured and by the two formulas.

use super::measured::Measured;

/// Throughput within this share of the best is as good as the best: runs differ by as much.
const AS_GOOD: f64 = 0.95;

/// A p99 that is longer than the best one's by this is worse.
const WORSE: f64 = 1.25;

/// What the formulas need to know.
pub(crate) struct Server {
    pub(crate) cores: usize,
    /// Connections that the server gives to ordinary roles.
    pub(crate) usable: u32,
}

/// The advice, a line each.
pub(crate) fn recommend(measured: &[Measured], server: &Server) -> Vec<String> {
    let mut lines = vec![from_measured(measured)];
    let Server { cores, usable } = server;
    lines.push(format!(
        "cores × 2 + spindles: {} connections work at a time on a database server with this machine's {cores} cores and \
         one disk, over all instances.",
        cores * 2 + 1
    ));
    let budget = usable * 4 / 5;
    let limit = best(measured).map_or(10, |one| one.limit).max(1);
    lines.push(format!(
        "instances × limit ≤ 80 % of max_connections: {budget} connections for all, so {} instances of {limit}.",
        budget / limit
    ));
    lines
}

/// The smallest limit that is as good as any.
fn best(measured: &[Measured]) -> Option<&Measured> {
    let sound = || measured.iter().filter(|one| one.failed == 0);
    let rate = sound().map(|one| one.rate).fold(0.0, f64::max);
    let fast = || sound().filter(move |one| one.rate >= rate * AS_GOOD);
    let p99 = fast().map(|one| one.p99).fold(f64::INFINITY, f64::min);
    let good = fast().filter(|one| one.p99 <= p99 * WORSE);
    good.min_by_key(|one| one.limit)
}

fn from_measured(measured: &[Measured]) -> String {
    let Some(best) = best(measured) else {
        return "No limit served every request: raise pool_timeout or lower the load before you look at the limit.".to_owned();
    };
    let Measured { limit, rate, .. } = best;
    if measured.len() == 1 {
        return format!(
            "With connection_limit={limit} it served {rate:.0} requests/s; try others with --limits."
        );
    }
    let more = measured.iter().filter(|one| one.limit > *limit);
    let more: Vec<&Measured> = more.collect();
    let fewer = measured.iter().filter(|one| one.limit < *limit);
    let mut reasons = Vec::new();
    if let Some(next) = fewer.max_by_key(|one| one.limit) {
        reasons.push(match next.failed {
            0 => format!(
                "{} served {:.0}/s with a p99 of {:.1} ms",
                next.limit, next.rate, next.p99
            ),
            failed => format!("with {} {failed} requests failed", next.limit),
        });
    }
    if let Some(most) = more.iter().max_by_key(|one| one.limit) {
        reasons.push(format!(
            "{} served {:.0}/s with a p99 of {:.1} ms, which is no gain",
            most.limit, most.rate, most.p99
        ));
    }
    format!(
        "Measured: connection_limit={limit}. It served {rate:.0} requests/s with a p99 of {:.1} ms; {}.",
        best.p99,
        reasons.join(", and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(rows: &[(u32, f64, f64, u64)]) -> Vec<Measured> {
        let one = |&(limit, rate, p99, failed)| Measured {
            limit,
            rate,
            p99,
            failed,
            ..Measured::default()
        };
        rows.iter().map(one).collect()
    }

    fn limit(rows: &[(u32, f64, f64, u64)]) -> Option<u32> {
        best(&measured(rows)).map(|one| one.limit)
    }

    #[test]
    fn the_smallest_limit_that_is_as_good_as_any_is_taken() {
        let rows = [
            (2, 900.0, 90.0, 0),
            (5, 1960.0, 50.0, 0),
            (10, 2000.0, 48.0, 0),
            (20, 1990.0, 60.0, 0),
        ];
        assert_eq!(limit(&rows), Some(5), "noise of two per cent is none");
        assert_eq!(limit(&[(7, 100.0, 9.0, 0)]), Some(7));
        assert_eq!(
            limit(&[(2, 100.0, 9.0, 0), (4, 100.0, 9.0, 0)]),
            Some(2),
            "a tie"
        );
        assert_eq!(
            limit(&[(2, 990.0, 90.0, 0), (4, 1000.0, 20.0, 0)]),
            Some(4),
            "a worse p99"
        );
        assert_eq!(
            limit(&[(2, 9000.0, 1.0, 3), (4, 1000.0, 20.0, 0)]),
            Some(4),
            "failures"
        );
        assert_eq!(limit(&[(2, 9000.0, 1.0, 3)]), None);
    }

    #[test]
    fn the_advice_gives_its_reasons_and_the_formulas() {
        let rows = measured(&[
            (2, 900.0, 90.0, 0),
            (5, 1960.0, 50.0, 0),
            (20, 1990.0, 60.0, 0),
        ]);
        let server = Server {
            cores: 2,
            usable: 97,
        };
        let lines = recommend(&rows, &server);
        assert!(
            lines[0].starts_with("Measured: connection_limit=5."),
            "{}",
            lines[0]
        );
        assert!(
            lines[0].contains("2 served 900/s with a p99 of 90.0 ms, and 20 served"),
            "{}",
            lines[0]
        );
        assert!(lines[1].starts_with("cores × 2 + spindles: 5 "));
        assert!(lines[2].ends_with("77 connections for all, so 15 instances of 5."));
        let none = recommend(&measured(&[(2, 9000.0, 1.0, 3)]), &server);
        assert!(none[0].starts_with("No limit served every request"));
    }
}
