//! Giving SQL to `psql`.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::Error;

/// Feeds `sql` to a `psql` that knows where to connect, and gives what it prints.
pub(crate) fn run(mut psql: Command, sql: &str) -> Result<String, Error> {
    let fail = |error| Error::because("cannot run it", error);
    psql.args(["-AtXq", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
    psql.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut psql = psql.spawn().map_err(fail)?;
    let input = psql.stdin.take();
    // Beside reading the output, so that neither side can wait for the other.
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.map(|mut input| input.write_all(sql.as_bytes())));
        psql.wait_with_output()
    });
    let output = output.map_err(fail)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned());
    }
    Err(Error::new(
        String::from_utf8_lossy(&output.stderr).trim_end(),
    ))
}
