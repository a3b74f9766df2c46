//! How a line of the log is written: as `tracing-subscriber` writes it, with the id of the caller in whose name it is. The id is
//! read here, from what the request's task carries, so that a request whose lines are never written pays nothing for it.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Json as AsJson, Writer, json};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, format};
use tracing_subscriber::registry::LookupSpan;

/// For people: `2026-11-30T09:00:00.000000Z  INFO request{request_id="…"}: server::request: GET / 200 in 1 ms`.
pub(crate) struct Text {
    /// What comes behind the id.
    rest: Format<Full, ()>,
}

impl Default for Text {
    fn default() -> Self {
        let rest = format().with_level(false).without_time();
        Self { rest }
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let [dim, color, bold, plain] = match writer.has_ansi_escapes() {
            true => [
                "\x1b[2m",
                color(event.metadata().level()),
                "\x1b[1m",
                "\x1b[0m",
            ],
            false => [""; 4],
        };
        write!(writer, "{dim}")?;
        SystemTime.format_time(&mut writer)?;
        write!(
            writer,
            "{plain} {color}{:>5}{plain} ",
            event.metadata().level()
        )?;
        if let Some((id, trace)) = named() {
            write!(writer, "{bold}request{plain}{{request_id=\"{id}\"")?;
            if let Some(trace) = trace {
                write!(writer, " trace_id=\"{trace}\"")?;
            }
            write!(writer, "}}: ")?;
        }
        self.rest.format_event(context, writer, event)
    }
}

fn color(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// For programs: one JSON object a line, with the id in `span`.
pub(crate) struct Json {
    rest: Format<AsJson>,
}

impl Default for Json {
    fn default() -> Self {
        let rest = json().flatten_event(true);
        Self {
            rest: rest.with_current_span(false).with_span_list(false),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some((id, trace)) = named() else {
            return self.rest.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.rest
            .format_event(context, Writer::new(&mut line), event)?;
        // Neither id has a character that JSON would escape: `identity` lets none in.
        let open = line.trim_end().strip_suffix('}').unwrap_or(&line);
        write!(writer, "{open},\"span\":{{\"request_id\":\"{id}\"")?;
        if let Some(trace) = trace {
            write!(writer, ",\"trace_id\":\"{trace}\"")?;
        }
        writeln!(writer, ",\"name\":\"request\"}}}}")
    }
}

/// The ids of the caller and of its trace.
fn named() -> Option<(String, Option<String>)> {
    db::caller(|caller| Some((caller.id()?.to_owned(), caller.trace().map(str::to_owned))))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;
    use tracing_subscriber::fmt::format::JsonFields;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_says_in_whose_name_it_is_written() {
        let (text, object) = (Log::default(), Log::default());
        let (to_text, to_object) = (text.clone(), object.clone());
        let lines = tracing_subscriber::fmt::layer()
            .event_format(Text::default())
            .with_ansi(false)
            .with_writer(move || to_text.clone());
        let objects = tracing_subscriber::fmt::layer()
            .event_format(Json::default())
            .fmt_fields(JsonFields::new())
            .with_writer(move || to_object.clone());
        let subscriber = tracing_subscriber::registry().with(lines).with(objects);
        let line = || tracing::info!(rows = 3, "said \"so\"");
        tracing::subscriber::with_default(subscriber, || {
            let mut caller = db::Caller::default();
            line();
            caller.set_id("given-1", None);
            db::as_caller(Arc::new(caller.clone()), line);
            caller.set_id("given-1", Some("4bf9"));
            db::as_caller(Arc::new(caller), line);
        });
        let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
        let rest: Vec<_> = text
            .lines()
            .map(|line| line.split_once("INFO ").unwrap().1)
            .collect();
        let said = "server::log_format::tests: said \"so\" rows=3";
        assert_eq!(rest[0], said);
        assert_eq!(
            rest[1],
            format!("request{{request_id=\"given-1\"}}: {said}")
        );
        let both = "request{request_id=\"given-1\" trace_id=\"4bf9\"}";
        assert_eq!(rest[2], format!("{both}: {said}"));

        let objects = object.0.lock().unwrap().clone();
        let objects = String::from_utf8(objects).unwrap();
        let objects: Vec<serde_json::Value> = objects
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let spans = objects.iter().map(|object| object["span"].to_string());
        let named = r#"{"name":"request","request_id":"given-1""#;
        let expected = [
            "null".to_owned(),
            format!("{named}}}"),
            format!("{named},\"trace_id\":\"4bf9\"}}"),
        ];
        assert_eq!(spans.collect::<Vec<_>>(), expected);
        assert!(objects.iter().all(|object| object["rows"] == 3));
    }
}
