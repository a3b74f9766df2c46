//! Puts sample data into the database that `DATABASE_URL` names: a few rows to look at or, with `fill ROWS`, many to
//! measure with.

#![warn(clippy::too_many_lines)]

mod fill;

use std::error::Error;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => add_sample().await,
        ["fill", rows] => fill::run(rows.parse()?).await,
        _ => Err("usage: sample [fill ROWS]".into()),
    }
}

/// If there are no customers yet.
async fn add_sample() -> Result<(), Box<dyn Error>> {
    let pool = db::pool()?;
    let mut transaction = pool.begin().await?;
    let has_customers: bool = sqlx::query_scalar("select exists (select from customer)")
        .fetch_one(&mut *transaction)
        .await?;
    if has_customers {
        println!("There are customers already: nothing to do.");
        return Ok(());
    }
    sqlx::raw_sql(include_str!("../../sample.sql"))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    println!("300 customers and their reservations are in.");
    Ok(())
}
