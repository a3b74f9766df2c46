//! Values held against node's dotenv, and what is said of a line that is none.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use env_file::EnvFile;

/// A file, and its variables as `require('dotenv').parse(text)` of dotenv 18.0.10 printed them.
type Row = (&'static str, &'static [(&'static str, &'static str)]);

#[rustfmt::skip]
const OF_NODE: &[Row] = &[
    ("A=pa$word", &[("A", "pa$word")]),
    ("A=\"pa$word\"", &[("A", "pa$word")]),
    ("A='pa$word'", &[("A", "pa$word")]),
    ("A=`pa$word`", &[("A", "pa$word")]),
    ("A=${HOME}", &[("A", "${HOME}")]),
    ("A=\"${HOME}$$x\"", &[("A", "${HOME}$$x")]),
    ("A=\\$x", &[("A", "\\$x")]),
    ("A=\"\\$x\"", &[("A", "\\$x")]),
    ("A=a b c", &[("A", "a b c")]),
    ("A=  padded  ", &[("A", "padded")]),
    ("A= \"  padded  \" ", &[("A", "  padded  ")]),
    ("A=a # comment", &[("A", "a")]),
    ("A=a#b", &[("A", "a")]),
    ("A=\"a#b\"", &[("A", "a#b")]),
    ("A=\"a # b\" # c", &[("A", "a # b")]),
    ("A='a # b'#c", &[("A", "a # b")]),
    ("A=#x", &[("A", "")]),
    ("A=", &[("A", "")]),
    ("A= ", &[("A", "")]),
    ("A=\"a\\nb\\rc\\td\"", &[("A", "a\nb\rc\\td")]),
    ("A='a\\nb'", &[("A", "a\\nb")]),
    ("A=a\\nb", &[("A", "a\\nb")]),
    ("A=`a\\nb`", &[("A", "a\\nb")]),
    ("A=\"a\nb\"", &[("A", "a\nb")]),
    ("A='a\nb'", &[("A", "a\nb")]),
    ("A=`a\nb`", &[("A", "a\nb")]),
    ("A=C:\\dir\\new", &[("A", "C:\\dir\\new")]),
    ("A=\"C:\\dir\"", &[("A", "C:\\dir")]),
    ("A=\"a\\\"b\"", &[("A", "a\\\"b")]),
    ("A='a\\'b'", &[("A", "a\\'b")]),
    ("A=\"a\"b\"", &[("A", "a\"b")]),
    ("A=\"a\\\"", &[("A", "a\\")]),
    ("A=it's", &[("A", "it's")]),
    ("A=say \"hi\"", &[("A", "say \"hi\"")]),
    ("A=\"it's\"", &[("A", "it's")]),
    ("A=`it's \"it\"`", &[("A", "it's \"it\"")]),
    ("A=\"open", &[("A", "\"open")]),
    ("A='open\nB=2", &[("A", "'open"), ("B", "2")]),
    ("A=\"x\" y", &[("A", "\"x\" y")]),
    ("A='x' y'", &[("A", "x' y")]),
    ("export A=1", &[("A", "1")]),
    ("export   A = 1 ", &[("A", "1")]),
    ("export=1", &[("export", "1")]),
    ("  A=1", &[("A", "1")]),
    ("A: 1", &[("A", "1")]),
    ("A=a=b==", &[("A", "a=b==")]),
    ("A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")]),
    ("A=\"a\r\nb\"\rB=2", &[("A", "a\nb"), ("B", "2")]),
    ("\u{feff}A=1", &[("A", "1")]),
    ("\u{feff}# c\nA=1", &[("A", "1")]),
    ("A=1\nA=2", &[("A", "2")]),
    ("A=\"\"", &[("A", "")]),
    ("A=''", &[("A", "")]),
    ("A=\"", &[("A", "\"")]),
    ("A.B-c=1", &[("A.B-c", "1")]),
    ("1A=2", &[("1A", "2")]),
    ("A=postgres://u:p$a%24@h/d?x=1&y=2", &[("A", "postgres://u:p$a%24@h/d?x=1&y=2")]),
    ("A=\"{\\\"k\\\": \\\"v\\\"}\"", &[("A", "{\\\"k\\\": \\\"v\\\"}")]),
    ("A={\"k\": \"v\"}", &[("A", "{\"k\": \"v\"}")]),
    ("A=\n\"B\"", &[("A", "B")]),
    ("A=\nB=2", &[("A", ""), ("B", "2")]),
    ("A=\u{a0}x\u{a0}", &[("A", "x")]),
    ("A=é$ü", &[("A", "é$ü")]),
    ("A=\"a\\\\nb\"", &[("A", "a\\\nb")]),
    ("A=\"a\\\\\"", &[("A", "a\\\\")]),
    ("A=\"a\\\" # c", &[("A", "a\\")]),
    ("A=\"a\\\" b\" # c", &[("A", "a\\\" b")]),
    ("A=a\tb\t#c", &[("A", "a\tb")]),
    ("# A=1\nB=2 # c\n\n  # d\nC=3", &[("B", "2"), ("C", "3")]),
    ("A=\"x\"\n\n# \"\nB=\"y\"", &[("A", "x"), ("B", "y")]),
    ("A=\"x # \"y\" # z\"", &[("A", "\"x")]),
    ("A = \"1\" \nB= '2' ", &[("A", "1"), ("B", "2")]),
    ("A=a\u{85}", &[("A", "a\u{85}")]),
    ("exportA=1", &[("exportA", "1")]),
    ("export\tA=1", &[("A", "1")]),
    ("A\n=1", &[("A", "1")]),
    ("A=`a` `b`", &[("A", "a` `b")]),
];

struct File(PathBuf);

impl File {
    fn new(bytes: &[u8]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("env-file-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn values_are_those_of_nodes_dotenv() {
    for (text, expected) in OF_NODE {
        let file = EnvFile::read(&File::new(text.as_bytes()).0).unwrap();
        let names = ["A", "B", "C", "export", "A.B-c", "1A", "exportA"];
        let found: BTreeMap<_, _> = names
            .into_iter()
            .filter_map(|name| Some((name, file.get(name)?)))
            .collect();
        assert_eq!(found, expected.iter().copied().collect(), "{text:?}");
    }
}

#[test]
fn a_variable_says_in_which_line_it_stands() {
    let written = File::new(b"\xef\xbb\xbf# c\r\nA='1\r\n2'\r\n\r\nexport B=2 # c\r\nA=3");
    let file = EnvFile::read(&written.0).unwrap();
    let path = written.0.display();
    assert_eq!(file.place("B"), Some(format!("line 5 of {path}")));
    assert_eq!(file.place("A"), Some(format!("line 6 of {path}")));
    assert_eq!(file.place("C"), None);
}

#[test]
fn a_line_that_is_none_is_named_but_not_shown() {
    for (text, named) in [
        (&b"A=1\n\n\nB canary\nC=3"[..], "line 4"),
        (b"canary", "line 1"),
        (b"A='1\n2'\r\nexport canary\r\n", "line 3"),
        (b"A=1\nA:canary", "line 2"),
        (b"=canary", "line 1"),
        (b"A=can\0ary", "line 1"),
        // Node's dotenv ends it there; what is left names another server.
        (b"A=1\nURL = postgres://u:c#anary@h/d", "line 2 a `#`"),
        (b"\xff\xfeA\0=\0c\0a\0n\0a\0r\0y\0", "UTF-8"),
    ] {
        let written = File::new(text);
        let error = EnvFile::read(&written.0).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        assert!(error.starts_with(&*written.0.to_string_lossy()), "{error}");
        assert!(!error.contains("anary"), "{error}");
    }
}

#[test]
fn a_comment_behind_a_url_is_one() {
    for text in [
        "A=postgres://h/d # c",
        "A=postgres://h/d\t#c",
        "A='postgres://h/d'#c",
        "A=postgres://h/d\n#c",
    ] {
        let file = EnvFile::read(&File::new(text.as_bytes()).0).unwrap();
        assert_eq!(file.get("A"), Some("postgres://h/d"), "{text}");
    }
}

#[test]
fn no_value_is_printed() {
    let file = EnvFile::read(&File::new(b"A=canary").0).unwrap();
    assert!(!format!("{file:?}").contains("canary"));
}
