//! The command line of a service: `serve`, `migrate`, `healthcheck`, `doctor`.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use db::{Check, Schema, Verdict};
use env_file::EnvFile;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::error::chain;
use crate::health::healthcheck;
use crate::http::listener;
use crate::metrics::install_metrics;
use crate::serve::{Service, serve};
use crate::settings::{Command, Settings};
use crate::telemetry::Telemetry;
use crate::{doctor, signal};
use Command::{Doctor, Healthcheck, Migrate, Serve};

/// What is left of the runtime (a name look-up, say) gets this long at the end.
const RUNTIME_TIMEOUT: Duration = Duration::from_millis(100);

/// Files that are no client's and not the pool's: the listener, the log, the runtime's own, name look-ups, and a reserve.
const OTHER_FILES: u64 = 32;

/// The variables that say where the database is: the last that an error names is the one it is about.
const OF_THE_DATABASE: [&str; 4] = [
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "DIRECT_URL",
    "DATABASE_REPLICA_URLS",
];

/// The exit code of a process that ends with something other than 0, and why it does.
struct Failure(u8, String);

/// The command line is none of ours.
const USAGE: u8 = 2;
/// `EX_CONFIG`: a setting cannot be read.
const CONFIGURATION: u8 = 78;
const OTHER: u8 = 1;

/// The whole `main` of a service.
///
/// Loads `.env` (the real environment wins), reads the settings and runs the subcommand: `serve` (the default) until
/// SIGTERM or SIGINT, `migrate`, `healthcheck`, or `doctor`. The exit code is 0, or 1 for a failure, 2 for a command line that is
/// not understood, 78 for a setting that cannot be read; one line on standard error says why.
pub fn main(service: Service) -> ExitCode {
    let Err(Failure(code, reason)) = run(service) else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{}: {reason}", service.name);
    ExitCode::from(code)
}

fn run(service: Service) -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).peekable();
    let command = arguments.next().unwrap_or_else(|| "serve".to_owned());
    let as_json = command == "doctor" && arguments.next_if_eq("--json").is_some();
    if let Some(extra) = arguments.next() {
        let reason = format!("unexpected argument {extra:?}; see {} --help", service.name);
        return Err(Failure(USAGE, reason));
    }
    match command.as_str() {
        "serve" => in_runtime(run_serve(service, Given::read(service, Serve)?)),
        "migrate" => in_runtime(run_migrate(service, Given::read(service, Migrate)?)),
        "healthcheck" => {
            let Given { settings, .. } = Given::read(service, Healthcheck)?;
            healthcheck::run(&settings).map_err(|reason| Failure(OTHER, reason))
        }
        "doctor" => in_runtime(run_doctor(service, Given::read(service, Doctor)?, as_json)),
        "help" | "--help" | "-h" => {
            print!("{}", help(service));
            Ok(())
        }
        other => {
            let reason = format!(
                "no subcommand {other:?}; there are serve, migrate, healthcheck, doctor and --help"
            );
            Err(Failure(USAGE, reason))
        }
    }
}

fn help(Service { name, port, .. }: Service) -> String {
    format!(
        "Usage: {name} [serve | migrate | healthcheck | doctor [--json] | --help]

  serve        answer requests until SIGTERM or SIGINT (the default)
  migrate      bring the database up to date and end
  healthcheck  ask the running service whether it is ready; exit 0 or 1
  doctor       go through the checklist before production; exit 1 if something has to be changed

Settings, from the environment or a file .env, and their defaults:
  DATABASE_URL        the database, and the pool's settings as its parameters
{}",
        Settings::defaults(port).help()
    )
}

/// The settings, and the `.env` from which some of them are.
struct Given {
    settings: Settings,
    file: Option<EnvFile>,
}

impl Given {
    /// Takes `.env` into the environment, and from that what this subcommand uses.
    fn read(service: Service, command: Command) -> Result<Self, Failure> {
        let failed = |reason| Failure(CONFIGURATION, reason);
        let file = EnvFile::find().and_then(|file| file.map(EnvFile::load).transpose());
        let file = file.map_err(|error| failed(error.to_string()))?;
        let lookup =
            |key: &str| std::env::var_os(key).map(|value| value.to_string_lossy().into_owned());
        let settings = Settings::read_for(command, service.port, lookup).map_err(|error| {
            let key = error.key();
            let place = file.as_ref().and_then(|file| file.place(key));
            let place = place.unwrap_or_else(|| match key {
                "HOST" => "the environment, as conda and tcsh do for themselves: unset it, or set it for this service"
                    .to_owned(),
                _ => "the environment".to_owned(),
            });
            failed(format!("{error}; it is set in {place}"))
        })?;
        Ok(Self { settings, file })
    }

    /// The pool of the process. An error says where `.env` has the variable that it is about.
    fn pool(&self) -> Result<db::Pool, Failure> {
        install_metrics();
        db::pool().cloned().map_err(|error| {
            let text = chain(&error);
            if let db::ConfigError::Variable { name, .. } = &error {
                let place = self.file.as_ref().and_then(|file| file.place(name));
                let place =
                    place.map_or_else(String::new, |place| format!("; {name} is set in {place}"));
                return Failure(CONFIGURATION, text + &place);
            }
            let mut places = OF_THE_DATABASE.iter().filter_map(|name| {
                let place = self.file.as_ref()?.place(name)?;
                text.contains(name)
                    .then(|| format!("; {name} is set in {place}"))
            });
            let place = places.next_back().unwrap_or_default();
            Failure(CONFIGURATION, text + &place)
        })
    }
}

fn in_runtime(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime =
        Runtime::new().map_err(|error| Failure(OTHER, format!("cannot start: {error}")))?;
    let result = runtime.block_on(task);
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
    result
}

async fn run_serve(service: Service, mut given: Given) -> Result<(), Failure> {
    let telemetry = Telemetry::start(service.name, &given.settings);
    let stop = signal::shutdown()
        .map_err(|error| Failure(OTHER, format!("cannot listen for signals: {error}")))?;
    let pool = given.pool()?;
    let settings = &mut given.settings;
    let listener = listen(settings)?;
    settings.limits.max_connections = room(settings.limits.max_connections, pool.config());
    serve(service, listener, pool, settings, stop).await;
    telemetry.end();
    Ok(())
}

async fn run_migrate(service: Service, given: Given) -> Result<(), Failure> {
    let telemetry = Telemetry::start(service.name, &given.settings);
    let pool = given.pool()?;
    let migrated = match given.settings.migrate_any {
        true => pool.migrate_any(service.migrator).await,
        false => pool.migrate(service.migrator).await,
    };
    pool.close(Duration::from_secs(1)).await;
    telemetry.end();
    migrated.map_err(|error| Failure(OTHER, chain(&error)))?;
    tracing::info!("the database is up to date");
    Ok(())
}

async fn run_doctor(service: Service, given: Given, as_json: bool) -> Result<(), Failure> {
    let pool = given.pool()?;
    let examined = pool.examine().await;
    let schema = pool.schema(service.migrator).await;
    let migrated = matches!(schema, Ok(Schema::Current | Schema::Newer { .. }));
    let rights = rights(&pool, given.settings.migrate && !migrated).await;
    pool.close(Duration::from_secs(1)).await;
    let mut report = examined.map_err(|error| Failure(OTHER, chain(&error)))?;
    report.checks.push(doctor::migrations(service.name, schema));
    report.checks.push(rights);
    doctor::complete(service.name, &given.settings, pool.config(), &mut report);
    match as_json {
        true => print!("{}", doctor::as_json(service.name, &report)),
        false => print!("{}", doctor::as_text(service.name, &report)),
    }
    match report.is_ok() {
        true => Ok(()),
        false => Err(Failure(OTHER, "something has to be changed".to_owned())),
    }
}

/// Whether the role may do what this service does with its schema.
async fn rights(pool: &db::Pool, to_migrate: bool) -> Check {
    match pool.lacking_rights(to_migrate).await {
        Ok(lacking) => Check::unless("rights", lacking, "the role may use its schema"),
        Err(error) => Check::new("rights", Verdict::NotChecked, chain(&error)),
    }
}

/// How many connections there is room for: as many as are wanted, or what the limit of open files leaves beside the pool.
fn room(wanted: usize, pool: &db::Config) -> usize {
    let others = u64::from(pool.most_connections()) + OTHER_FILES;
    // Up to what the system lets the process have; many systems begin with 1024 for the sake of old programs.
    let files = rlimit::increase_nofile_limit(wanted as u64 + others);
    let room = files.map_or(wanted, |files| files.saturating_sub(others).max(1) as usize);
    if room < wanted {
        tracing::info!(
            "room for {room} connections, not {wanted}: raise the limit of open files (ulimit -n)"
        );
    }
    room.min(wanted)
}

fn listen(settings: &Settings) -> Result<TcpListener, Failure> {
    let address = settings.address();
    listener::listen(address).map_err(|error| {
        Failure(
            OTHER,
            match error.kind() {
                io::ErrorKind::AddrInUse => {
                    format!(
                        "{address} is taken: stop what listens there, or set PORT to another port"
                    )
                }
                _ => format!("cannot listen on {address}: {error}"),
            },
        )
    })
}
