//! Statements on the pool, on a lease and in a transaction: sqlx's executor trait, and what it runs.

mod again;
mod answer;
mod executor;
mod rows;
mod run;
#[cfg(test)]
pub(crate) mod way;
