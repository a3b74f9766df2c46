//! Puts sample data into the database that `DATABASE_URL` names, if it has no customers yet.

#![warn(clippy::too_many_lines)]

use std::error::Error;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match fill().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn fill() -> Result<(), Box<dyn Error>> {
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
