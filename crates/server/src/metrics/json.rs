//! Reads Prometheus' text and writes it as JSON in the shape of Prisma's `$metrics.json()`.
//!
//! The JSON is made from the very text that `/metrics` serves, so the two cannot tell different numbers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A metric's labels, in the order of their names.
type Labels = BTreeMap<String, String>;

/// One line that is no comment: `name{label="value"} 1`.
struct Sample<'a> {
    name: &'a str,
    labels: Labels,
    value: f64,
}

#[derive(Default)]
struct Family<'a> {
    kind: &'a str,
    description: String,
    samples: Vec<Sample<'a>>,
}

/// `{"counters": […], "gauges": […], "histograms": […]}`, each metric with `key`, `labels`, `value` and `description`, in
/// the order of keys and labels. As in Prisma's, a histogram's buckets are pairs of an upper bound and the number of
/// samples between it and the bound before; samples above the last bound are only in `count` and `sum`.
pub(crate) fn to_json(text: &str) -> Value {
    let (mut counters, mut gauges, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
    for (key, mut family) in families(text) {
        let description = &family.description;
        let metric = |labels, value: Value| json!({ "key": key, "labels": labels, "value": value, "description": description });
        if family.kind == "histogram" {
            let series = histogram_series(key, &family.samples);
            histograms.extend(
                series
                    .into_iter()
                    .map(|(labels, series)| metric(labels, series.to_json())),
            );
            continue;
        }
        family.samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        let values = if family.kind == "counter" {
            &mut counters
        } else {
            &mut gauges
        };
        values.extend(
            family
                .samples
                .into_iter()
                .map(|sample| metric(sample.labels, number(sample.value))),
        );
    }
    json!({ "counters": counters, "gauges": gauges, "histograms": histograms })
}

/// The families of a text by name; each begins with its comments.
fn families(text: &str) -> BTreeMap<&str, Family<'_>> {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    let mut current = "";
    for line in text.lines() {
        match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
            ["#", "HELP", name, help] => {
                let quoted = format!("\"{}\"", help.replace('"', "\\\""));
                let help = serde_json::from_str(&quoted).unwrap_or_else(|_| help.to_owned());
                families.entry(name).or_default().description = help;
            }
            ["#", "TYPE", name, kind] => {
                current = name;
                families.entry(name).or_default().kind = kind;
            }
            _ => {
                let samples = &mut families.entry(current).or_default().samples;
                samples.extend(sample(line));
            }
        }
    }
    families.remove("");
    families
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, read_labels(labels.strip_suffix('}')?)?),
        None => (series, Labels::new()),
    };
    Some(Sample {
        name,
        labels,
        value: value.parse().ok()?,
    })
}

/// Reads `name="value",name="value"`; a value may have anything in it, escaped as a string of JSON is.
fn read_labels(mut text: &str) -> Option<Labels> {
    let mut labels = Labels::new();
    while let Some((name, value)) = text.split_once('=') {
        let mut reader = serde_json::Deserializer::from_str(value).into_iter();
        labels.insert(name.to_owned(), reader.next()?.ok()?);
        text = value[reader.byte_offset()..].trim_start_matches(',');
    }
    Some(labels)
}

/// One histogram with one set of labels.
#[derive(Default)]
struct Histogram {
    /// Upper bounds, without the infinite one, and how many samples are not above them.
    cumulative: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

impl Histogram {
    fn to_json(&self) -> Value {
        let mut below = 0.0;
        let buckets: Vec<Value> = self
            .cumulative
            .iter()
            .map(|&(bound, count)| {
                let own = count - below;
                below = count;
                json!([number(bound), number(own)])
            })
            .collect();
        json!({ "buckets": buckets, "sum": number(self.sum), "count": number(self.count) })
    }
}

fn histogram_series(family: &str, samples: &[Sample<'_>]) -> BTreeMap<Labels, Histogram> {
    let mut series: BTreeMap<Labels, Histogram> = BTreeMap::new();
    for sample in samples {
        let mut labels = sample.labels.clone();
        let bound = labels
            .remove("le")
            .and_then(|bound| bound.parse::<f64>().ok());
        let histogram = series.entry(labels).or_default();
        match (sample.name.strip_prefix(family), bound) {
            (Some("_bucket"), Some(bound)) if bound.is_finite() => {
                histogram.cumulative.push((bound, sample.value))
            }
            (Some("_sum"), _) => histogram.sum = sample.value,
            (Some("_count"), _) => histogram.count = sample.value,
            _ => {}
        }
    }
    series
}

/// A whole number without a point, as the text has it; what JSON cannot say is null.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        json!(value as i64)
    } else {
        json!(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_prismas_json() {
        let text = "# HELP b_seconds Second\\nline\n# TYPE b_seconds histogram\n\
            b_seconds_bucket{route=\"/a\",le=\"0.5\"} 2\nb_seconds_bucket{route=\"/a\",le=\"1\"} 5\n\
            b_seconds_bucket{route=\"/a\",le=\"+Inf\"} 6\nb_seconds_sum{route=\"/a\"} 9.25\n\
            b_seconds_count{route=\"/a\"} 6\n\n# TYPE a_total counter\na_total{x=\"2\"} 4\na_total{x=\"1\"} 3\n\n\
            # HELP c Now\n# TYPE c gauge\nc 0.5\n\n";
        assert_eq!(
            to_json(text),
            json!({
                "counters": [
                    { "key": "a_total", "labels": { "x": "1" }, "value": 3, "description": "" },
                    { "key": "a_total", "labels": { "x": "2" }, "value": 4, "description": "" },
                ],
                "gauges": [{ "key": "c", "labels": {}, "value": 0.5, "description": "Now" }],
                "histograms": [{
                    "key": "b_seconds",
                    "labels": { "route": "/a" },
                    "value": { "buckets": [[0.5, 2], [1, 3]], "sum": 9.25, "count": 6 },
                    "description": "Second\nline",
                }],
            })
        );
    }

    #[test]
    fn label_values_may_have_anything_in_them() {
        let labels = sample(r#"m{a="x\"y,z=\"",b="\\",c="1 2}"} +Inf"#)
            .unwrap()
            .labels;
        assert_eq!(labels["a"], "x\"y,z=\"");
        assert_eq!(labels["b"], "\\");
        assert_eq!(labels["c"], "1 2}");
    }
}
