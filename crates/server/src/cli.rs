//! The command line of a service: `serve`, `migrate`, `healthcheck`.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::error::chain;
use crate::settings::Settings;
use crate::{Service, healthcheck, install_metrics, serve, signal, telemetry};

/// What is left of the runtime (a name look-up, say) gets this long at the end.
const RUNTIME_TIMEOUT: Duration = Duration::from_millis(100);

/// Why the process ends with something other than 0.
enum Failure {
    /// 2: the command line is none of ours.
    Usage(String),
    /// 78, `EX_CONFIG`: a setting cannot be read.
    Configuration(String),
    /// 1: anything else.
    Other(String),
}

/// The whole `main` of a service.
///
/// Loads `.env` (the real environment wins), reads the settings and runs the subcommand: `serve` (the default) until
/// SIGTERM or SIGINT, `migrate`, or `healthcheck`. The exit code is 0, or 1 for a failure, 2 for a command line that is
/// not understood, 78 for a setting that cannot be read; one line on standard error says why.
pub fn main(service: Service) -> ExitCode {
    let (code, reason) = match run(service) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(reason)) => (2, reason),
        Err(Failure::Configuration(reason)) => (78, reason),
        Err(Failure::Other(reason)) => (1, reason),
    };
    eprintln!("{}: {reason}", service.name);
    ExitCode::from(code)
}

fn run(service: Service) -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_else(|| "serve".to_owned());
    if let Some(extra) = arguments.next() {
        return Err(Failure::Usage(format!(
            "unexpected argument {extra:?}; see {} --help",
            service.name
        )));
    }
    match command.as_str() {
        "serve" => in_runtime(run_serve(service, settings(service)?)),
        "migrate" => in_runtime(run_migrate(service, settings(service)?)),
        "healthcheck" => healthcheck::run(&settings(service)?).map_err(Failure::Other),
        "help" | "--help" | "-h" => {
            println!("{}", help(service));
            Ok(())
        }
        other => {
            let reason = format!(
                "no subcommand {other:?}; there are serve, migrate, healthcheck and --help"
            );
            Err(Failure::Usage(reason))
        }
    }
}

fn help(service: Service) -> String {
    let Service { name, port, .. } = service;
    format!(
        "Usage: {name} [serve | migrate | healthcheck | --help]

  serve        answer requests until SIGTERM or SIGINT (the default)
  migrate      bring the database up to date and end
  healthcheck  ask the running service whether it is ready; exit 0 or 1

Settings, from the environment or a file .env:
  DATABASE_URL      the database, and the pool's settings as its parameters
  HOST              address to listen on (127.0.0.1)
  PORT              port to listen on ({port})
  APP_ENV           development: logs for people; production: logs as JSON (development)
  RUST_LOG          what is logged (info,sqlx=warn)
  SHUTDOWN_TIMEOUT  seconds that running requests have after SIGTERM (10)
  MIGRATE           whether serve runs the migrations: true, false (true)"
    )
}

fn settings(service: Service) -> Result<Settings, Failure> {
    match dotenvy::dotenv() {
        Err(dotenvy::Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
        // dotenvy's own words would show the line, and with it perhaps a secret.
        Err(dotenvy::Error::LineParse(..)) => {
            let reason =
                ".env has a line that is not KEY=value (a value with spaces or # needs quotes)";
            return Err(Failure::Configuration(reason.to_owned()));
        }
        Err(error) => {
            return Err(Failure::Configuration(format!(
                ".env cannot be read: {error}"
            )));
        }
        Ok(_) => {}
    }
    let lookup =
        |key: &str| std::env::var_os(key).map(|value| value.to_string_lossy().into_owned());
    Settings::read(service.port, lookup).map_err(|error| Failure::Configuration(error.to_string()))
}

fn in_runtime(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime =
        Runtime::new().map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
    let result = runtime.block_on(task);
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
    result
}

async fn run_serve(service: Service, settings: Settings) -> Result<(), Failure> {
    telemetry::start(&settings);
    let stop = signal::shutdown()
        .map_err(|error| Failure::Other(format!("cannot listen for signals: {error}")))?;
    let pool = pool()?;
    let listener = listen(&settings).await?;
    serve(service, listener, pool, &settings, stop).await;
    Ok(())
}

async fn run_migrate(service: Service, settings: Settings) -> Result<(), Failure> {
    telemetry::start(&settings);
    let pool = pool()?;
    let migrated = pool.migrate(service.migrator).await;
    pool.close(Duration::from_secs(1)).await;
    migrated.map_err(|error| Failure::Other(chain(&error)))?;
    tracing::info!("the database is up to date");
    Ok(())
}

fn pool() -> Result<db::Pool, Failure> {
    install_metrics();
    db::pool()
        .cloned()
        .map_err(|error| Failure::Configuration(chain(&error)))
}

async fn listen(settings: &Settings) -> Result<TcpListener, Failure> {
    let address = settings.address();
    TcpListener::bind(address).await.map_err(|error| {
        Failure::Other(match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("{address} is taken: stop what listens there, or set PORT to another port")
            }
            _ => format!("cannot listen on {address}: {error}"),
        })
    })
}
