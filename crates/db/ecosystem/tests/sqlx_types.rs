//! The tests that sqlx has of its types, with a lease of the pool in its connection's place.

#![allow(
    unused_imports,
    dead_code,
    unused_macros,
    unexpected_cfgs,
    non_snake_case,
    clippy::all,
    reason = "the tests are sqlx's"
)]

#[path = "support/sqlx_test.rs"]
mod sqlx_test;

/// What the server answers is ours, and, prepared, what we send is the server's. With how to compare: `==` as usual, `~=` for
/// points, `@=` for what has no equality but its text, or a query of one's own.
macro_rules! test_type {
    ($name:ident<$ty:ty>($db:ident, $sql:literal, $($text:literal == $value:expr),+ $(,)*)) => {
        test_type!(decoded $name<$ty>($db, $($text == $value),+));
        test_type!(prepared $name<$ty>($db, $sql, $($text == $value),+));
    };
    ($name:ident<$ty:ty>($db:ident, $($text:literal == $value:expr),+ $(,)*)) => {
        test_type!($name<$ty>($db, "select ({0} is not distinct from $1)::int4, {0}, $2", $($text == $value),+));
    };
    ($name:ident<$ty:ty>($db:ident, $($text:literal ~= $value:expr),+ $(,)*)) => {
        test_type!($name<$ty>($db, "select ({0} ~= $1)::int4, {0}, $2", $($text == $value),+));
    };
    ($name:ident<$ty:ty>($db:ident, $($text:literal @= $value:expr),+ $(,)*)) => {
        // Only prepared: as text sqlx cannot read an array of boxes, on its own connection neither.
        test_type!(prepared $name<$ty>($db, "select ({0}::text = $1::text)::int4, {0}, $2", $($text == $value),+));
    };
    ($name:ident($($rest:tt)+)) => {
        test_type!($name<$name>($($rest)+));
    };
    (decoded $name:ident<$ty:ty>($db:ident, $($text:literal == $value:expr),+)) => {
        paste::paste! {
            #[tokio::test]
            async fn [<$name _decoded>]() -> anyhow::Result<()> {
                use sqlx::{Executor as _, Row as _};
                let mut lease = new::<$db>().await?;
                $(
                    let sql = format!("select {}", $text);
                    let row = lease.fetch_one(sqlx::AssertSqlSafe(sql)).await?;
                    assert_eq!($value, row.try_get::<$ty, _>(0)?);
                )+
                Ok(())
            }
        }
    };
    (prepared $name:ident<$ty:ty>($db:ident, $sql:literal, $($text:literal == $value:expr),+)) => {
        paste::paste! {
            #[tokio::test]
            async fn [<$name _prepared>]() -> anyhow::Result<()> {
                use sqlx::Row as _;
                let mut lease = new::<$db>().await?;
                $(
                    let query = sqlx::query(sqlx::AssertSqlSafe(format!($sql, $text)));
                    let row = query.bind($value).bind($value).fetch_one(&mut *lease).await?;
                    assert_ne!(row.try_get::<i32, _>(0)?, 0, "{} is something else", $text);
                    assert_eq!($value, row.try_get::<$ty, _>(1)?);
                    assert_eq!($value, row.try_get::<$ty, _>(2)?);
                )+
                Ok(())
            }
        }
    };
}

macro_rules! test_decode_type {
    ($name:ident<$ty:ty>($db:ident, $($text:literal == $value:expr),+ $(,)*)) => {
        test_type!(decoded $name<$ty>($db, $($text == $value),+));
    };
}

macro_rules! test_prepared_type {
    ($name:ident<$ty:ty>($db:ident, $($text:literal == $value:expr),+ $(,)*)) => {
        test_type!(prepared $name<$ty>($db, "select ({0} is not distinct from $1)::int4, {0}, $2", $($text == $value),+));
    };
    ($name:ident($($rest:tt)+)) => {
        test_prepared_type!($name<$name>($($rest)+));
    };
}

include!(concat!(env!("OUT_DIR"), "/types.rs"));
