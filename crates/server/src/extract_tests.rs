//! What each body and each query is answered with.

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read by serde")]
struct Order {
    name: String,
    limit: Option<u8>,
    lines: Option<Vec<Line>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read by serde")]
struct Line {
    amount: u32,
}

fn refused(body: &str) -> Error {
    read_json::<Order>(body.as_bytes()).unwrap_err()
}

#[test]
fn what_is_no_json_is_a_400() {
    for body in [
        "",
        "{",
        "nonsense",
        r#"{"name": }"#,
        r#"{"name": "a"} x"#,
        r#"{"name": "\ud800"}"#,
        r#"{"name": 1e999}"#,
        "{\"name\": \"a\u{1}\"}",
        r#"["a""#,
    ] {
        assert!(
            matches!(refused(body), Error::BadRequest(_)),
            "{body}: {:?}",
            refused(body)
        );
    }
    let deep = format!(r#"{{"name": {}1{}}}"#, "[".repeat(500), "]".repeat(500));
    assert!(matches!(
        refused(&deep),
        Error::BadRequest(_) | Error::Invalid(_)
    ));
    assert!(matches!(
        read_json::<Order>(b"{\"name\": \"\xff\"}").unwrap_err(),
        Error::BadRequest(_)
    ));
}

#[test]
fn json_of_the_wrong_shape_names_the_field() {
    for (body, field) in [
        (r#"{}"#, "name"),
        (r#" ["a", 1]"#, ""),
        (r#"1"#, ""),
        (r#"{"name": 1}"#, "name"),
        (r#"{"name": null}"#, "name"),
        (r#"{"name": "a", "limit": 256}"#, "limit"),
        (r#"{"name": "a", "nmae": "b"}"#, "nmae"),
        (r#"{"name": "a", "name": "b"}"#, "name"),
        (
            r#"{"name": "a", "lines": [{"amount": 1}, {"amount": -1}]}"#,
            "lines[1].amount",
        ),
        (
            r#"{"name": "a", "lines": [{"amount": 1, "x": 1}]}"#,
            "lines[0].x",
        ),
        (r#"{"name": "a", "lines": [{}]}"#, "lines[0].amount"),
    ] {
        let Error::Invalid(errors) = refused(body) else {
            panic!("{body}: {:?}", refused(body))
        };
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].field, field, "{body}: {errors:?}");
        assert!(!errors[0].detail.contains(" at line "), "{errors:?}");
    }
}

#[test]
fn a_query_names_its_parameter() {
    for (query, field) in [
        ("", "name"),
        ("name=a&limit=x", "limit"),
        ("name=a&limit=-1", "limit"),
        ("name=a&page=2", "page"),
    ] {
        let Error::Invalid(errors) = read_query::<Order>(query).unwrap_err() else {
            panic!("{query}")
        };
        assert_eq!(errors[0].field, field, "{query}: {errors:?}");
    }
    assert!(read_query::<Order>("name=J%C3%B8rgen+M&limit=7").is_ok());
}

#[test]
fn bad_percent_encoding_is_a_400() {
    for query in [
        "name=%",
        "name=%2",
        "name=%zz",
        "name=%ff",
        "%C3=a",
        "name=%C3%28",
    ] {
        assert!(
            matches!(
                read_query::<Order>(query).unwrap_err(),
                Error::BadRequest(_)
            ),
            "{query}"
        );
    }
}

#[test]
fn the_content_type_must_say_json() {
    for (value, json) in [
        ("application/json", true),
        ("Application/JSON; charset=utf-8", true),
        ("application/merge-patch+json", true),
        ("text/plain", false),
        ("application/x-www-form-urlencoded", false),
        ("application/jsonx", false),
        ("text/json+x", false),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
        assert_eq!(is_json(&headers), json, "{value}");
    }
    assert!(!is_json(&HeaderMap::new()));
}
