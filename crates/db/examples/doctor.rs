//! `DATABASE_URL=… cargo run -p db --example doctor`: what the pool may take, what it takes, and what to change before
//! production.
//!
//! Exit code 0 when all is well, 1 when something has to be changed or there is no connection. A service's own `doctor`
//! looks at its other settings too, and has `--json`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match examine().await {
        Ok(report) => {
            print!("{report}");
            ExitCode::from(u8::from(!report.is_ok()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn examine() -> Result<db::Report, Box<dyn std::error::Error>> {
    Ok(db::pool()?.examine().await?)
}
