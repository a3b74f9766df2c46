//! Small trees that keep the rules, and some that break them.

use super::temporary::Tree;
use super::*;

/// The package `crates/a` with these files in `src`.
fn package(files: &[(&str, &str)]) -> Tree {
    let tree = Tree::new();
    tree.write("crates/a/Cargo.toml", "[package]\nname = \"a\"\n");
    for (file, text) in files {
        tree.write(&format!("crates/a/src/{file}"), text);
    }
    tree
}

/// The faults, with paths from `src` on.
fn faults_in(tree: &Tree) -> Vec<String> {
    let src = format!("{}/", tree.root().join("crates/a/src").display());
    let (_, faults) = check(tree.root()).unwrap();
    faults.iter().map(|fault| fault.replace(&src, "")).collect()
}

fn faults(files: &[(&str, &str)]) -> Vec<String> {
    faults_in(&package(files))
}

#[test]
fn imports_that_only_go_down_are_no_fault() {
    let found = faults(&[
        (
            "lib.rs",
            "mod error;\nmod pool;\npub use error::Error;\npub use pool::Pool;\n",
        ),
        (
            "error.rs",
            "//! See crate::pool::Pool.\npub struct Error;\n",
        ),
        // The lower file imports what the upper one defines, and the upper one only declares it.
        (
            "pool/mod.rs",
            "mod close;\nmod gate;\nuse crate::Error;\nuse self::gate::Gate;\npub struct Pool(Gate, Error);\n",
        ),
        (
            "pool/gate.rs",
            "use crate::Error;\npub struct Gate(Error);\n#[cfg(test)]\nmod tests {\n    use crate::pool::Pool;\n}\n",
        ),
        (
            "pool/close.rs",
            "use super::Pool;\nuse super::Error;\nimpl Pool {}\n",
        ),
    ]);
    assert_eq!(found, [] as [&str; 0]);
}

#[test]
fn two_files_that_import_each_other_are_both_named() {
    let found = faults(&[
        ("lib.rs", "mod a;\nmod b;\n"),
        ("a.rs", "use std::fmt;\nuse crate::b::{C, D};\n"),
        ("b.rs", "fn f() -> impl Send + use<> { crate::a::g() }\n"),
    ]);
    assert_eq!(
        found[0],
        "a.rs imports b.rs, which imports it (a.rs:2, b.rs:1)"
    );
}

#[test]
fn a_longer_circle_is_named_with_the_way_round() {
    let found = faults(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
        ("a.rs", "use crate::{b::B, std};\n"),
        ("b.rs", "use super::c;\n"),
        ("c.rs", "pub(crate) use crate::a::A as Other;\n"),
    ]);
    assert_eq!(
        found[0],
        "a.rs imports b.rs, which imports it by way of c.rs (a.rs:1, b.rs:1, c.rs:1)"
    );
}

#[test]
fn a_child_may_not_import_a_parent_that_passes_it_on() {
    for parent in [
        "pub use child::Child;",
        "use self::child::Child;",
        "fn f() { child::f() }",
    ] {
        let found = faults(&[
            ("lib.rs", "mod pool;\n"),
            (
                "pool/mod.rs",
                &format!("mod child;\npub struct Pool;\n{parent}\n"),
            ),
            ("pool/child.rs", "use super::Pool;\n"),
        ]);
        let expected =
            "pool/child.rs imports pool/mod.rs, which imports it (pool/child.rs:1, pool/mod.rs:3)";
        assert_eq!(found, [expected], "{parent}");
    }
}

#[test]
fn what_a_module_passes_on_is_imported_from_the_file_that_defines_it() {
    let module = "mod problem;\nmod text;\npub use problem::Problem;\npub use text::Text;\n";
    let text = "use crate::error::Problem;\n";
    // From inside the folder it is the file beside it, not the folder's own.
    let inside = [
        (
            "lib.rs",
            "mod config;\nmod error;\npub use error::Problem;\n",
        ),
        ("config.rs", "use crate::Problem;\n"),
        ("error/mod.rs", module),
        ("error/text.rs", text),
        ("error/problem.rs", "pub struct Problem;\n"),
    ];
    assert_eq!(faults(&inside), [] as [&str; 0]);
    let mut circle = inside;
    circle[4].1 = "use crate::config::Config;\n";
    let found = faults(&circle);
    let expected =
        "config.rs imports error/problem.rs, which imports it (config.rs:1, error/problem.rs:1)";
    assert!(found.iter().any(|fault| fault == expected), "{found:?}");
}

#[test]
fn two_folders_may_not_import_each_other_even_by_different_files() {
    let found = faults(&[
        ("lib.rs", "mod x;\nmod y;\n"),
        ("x/mod.rs", "mod one;\npub(crate) mod two;\n"),
        ("x/one.rs", "use crate::y::three::A;\n"),
        ("x/two.rs", "pub struct B;\n"),
        ("y/mod.rs", "pub(crate) mod three;\nmod four;\n"),
        ("y/three.rs", "pub struct A;\n"),
        ("y/four.rs", "use crate::x::two::B;\n"),
    ]);
    assert_eq!(
        found,
        ["x imports y, which imports it (x/one.rs:1, y/four.rs:1)"]
    );
}

#[test]
fn a_file_has_400_lines_at_most() {
    let tree = package(&[("lib.rs", &"//!\n".repeat(400))]);
    tree.write("crates/a/tests/long.rs", &"//!\n".repeat(500));
    assert_eq!(faults_in(&tree), [] as [&str; 0]);
    tree.write("crates/a/src/lib.rs", &"//!\n".repeat(401));
    assert_eq!(faults_in(&tree), ["lib.rs has 401 lines, more than 400"]);
}

#[test]
fn half_of_the_functions_have_9_lines_at_most() {
    let function = |lines: usize| {
        format!(
            "fn f() -> [u8; 2] {{\n    // h\n\n{}}}\n",
            "    g();\n".repeat(lines)
        )
    };
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(12).repeat(5));
    let source = |lines| [function(1).repeat(10), function(lines).repeat(10)].concat();
    let tree = package(&[("lib.rs", &(source(9) + &tests))]);
    let (figures, found) = check(tree.root()).unwrap();
    assert_eq!(found, [] as [&str; 0]);
    assert!(
        figures[0].contains("20 functions, median 9, longest `f` 9 (lib.rs); no circle"),
        "{figures:?}"
    );
    tree.write("crates/a/src/lib.rs", &source(10));
    let found = faults_in(&tree);
    assert!(
        found[0].starts_with("half of the functions in") && found[0].contains("have 10 lines"),
        "{found:?}"
    );
}
